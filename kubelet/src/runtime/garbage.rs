//! Which dead containers and sandboxes stay for people to look at, and which go.
//!
//! [`containers`] is asked every minute about the whole node, [`surplus`] whenever something of a pod has changed.
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_gc.go and pkg/kubelet/pod_container_deletor.go, v1.37.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use component::duration::GoDuration;
use cri::v1;

use super::actions::KillReason;
use super::manager::Runtime;
use super::model::{ContainerId, ContainerState, ContainerStatus, PodStatus};
use super::query;
use super::sketch::{PodSketch, SketchContainer};
use crate::logs::rotate;

/// How many dead containers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Containers that were made more recently stay, in nanoseconds.
    min_age: i64,
    /// Most of one name in one pod; `None` for no limit.
    per_container: Option<usize>,
    /// Most on the node; `None` for no limit.
    total: Option<usize>,
}

impl Policy {
    /// From `--minimum-container-ttl-duration`, `--maximum-dead-containers-per-container` and
    /// `--maximum-dead-containers`; less than zero is no limit.
    ///
    /// # Errors
    /// If the age is negative.
    pub fn new(min_age: GoDuration, per_container: i64, total: i64) -> Result<Self, String> {
        if min_age.0 < 0 {
            return Err(format!("invalid minimum garbage collection age: {min_age}"));
        }
        let limit = |n: i64| usize::try_from(n).ok();
        Ok(Self { min_age: min_age.0, per_container: limit(per_container), total: limit(total) })
    }

    /// Whether a container that was made at `created_at` may go at all; both in nanoseconds since 1970.
    pub fn is_old(&self, created_at: i64, now: i64) -> bool {
        created_at <= now.saturating_sub(self.min_age)
    }
}

/// A container that does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dead {
    /// Id of its pod.
    pub pod: String,
    /// Name in the spec.
    pub name: String,
    /// The runtime's id.
    pub id: String,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// True if it may still run: the runtime does not know.
    pub unknown: bool,
}

impl Dead {
    /// All of a pod.
    pub fn of<'a>(uid: &'a str, pod: &'a PodSketch) -> impl Iterator<Item = Self> + 'a {
        let is = |c: &SketchContainer, state: v1::ContainerState| c.state == i32::from(state);
        let dead = move |c: &&SketchContainer| !is(c, v1::ContainerState::ContainerRunning);
        pod.containers.iter().filter(dead).map(move |c| Self {
            pod: uid.to_owned(),
            name: c.name.clone(),
            id: c.id.clone(),
            created_at: c.created_at,
            unknown: is(c, v1::ContainerState::ContainerUnknown),
        })
    }

    /// Newest first; the id breaks ties so that the order is stable.
    fn sort(all: &mut [Self]) {
        all.sort_unstable_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
    }
}

/// Containers of one name in one pod.
type Units = BTreeMap<(String, String), Vec<Dead>>;

/// What is over `most` in each unit, the oldest first.
fn shrink(units: &mut Units, most: usize, out: &mut Vec<Dead>) {
    for unit in units.values_mut().filter(|unit| unit.len() > most) {
        out.extend(unit.split_off(most).into_iter().rev());
    }
}

/// Containers to remove, in this order; of pods that are `gone`, none stays but young ones.
pub fn containers(all: Vec<Dead>, gone: impl Fn(&str) -> bool, policy: &Policy, now: i64) -> Vec<Dead> {
    let mut units = Units::new();
    for dead in all.into_iter().filter(|dead| policy.is_old(dead.created_at, now)) {
        units.entry((dead.pod.clone(), dead.name.clone())).or_default().push(dead);
    }
    units.values_mut().for_each(|unit| Dead::sort(unit));
    let mut out = Vec::new();
    units.retain(|(uid, _), unit| {
        let is_gone = gone(uid);
        if is_gone {
            out.extend(unit.drain(..).rev());
        }
        !is_gone
    });
    if let Some(most) = policy.per_container {
        shrink(&mut units, most, &mut out);
    }
    let Some(total) = policy.total else { return out };
    if units.values().map(Vec::len).sum::<usize>() > total {
        // Fairly first: the same number for each, and at least one.
        let each = total.checked_div(units.len()).unwrap_or_default().max(1);
        shrink(&mut units, each, &mut out);
        let mut rest: Vec<Dead> = units.into_values().flatten().collect();
        Dead::sort(&mut rest);
        out.extend(rest.into_iter().skip(total).rev());
    }
    out
}

/// Sandboxes to remove: neither ready nor in use, nor the newest of a pod that is not gone. `removed` are ids of
/// containers that have just been removed.
pub fn sandboxes(pod: &PodSketch, gone: bool, removed: impl Fn(&str) -> bool) -> Vec<String> {
    let newest = pod.sandboxes.iter().map(|s| s.created_at).max();
    let unused = pod.sandboxes.iter().filter(|sandbox| {
        let used = pod.containers.iter().any(|c| c.sandbox == sandbox.id && !removed(&c.id));
        !sandbox.ready && !used && (gone || Some(sandbox.created_at) != newest)
    });
    unused.map(|s| s.id.clone()).collect()
}

/// Ended containers of a pod beyond the newest ones of each name. They go at once, whatever their age; one always stays,
/// because it tells how the container ended.
pub fn surplus<'a>(pod: &'a PodStatus, policy: &Policy) -> Vec<&'a ContainerStatus> {
    let most = policy.per_container.unwrap_or_default().max(1);
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let ended = pod.containers.iter().filter(|c| c.state == ContainerState::Exited);
    let over = ended.filter(|c| {
        let count = seen.entry(c.name.as_str()).or_default();
        *count += 1;
        *count > most
    });
    over.collect()
}

impl Runtime {
    /// Removes a container that [`containers`] names, with its log.
    ///
    /// # Errors
    /// If the runtime refuses.
    pub async fn collect(&self, dead: &Dead) -> Result<(), String> {
        if dead.unknown {
            let id = ContainerId { runtime: self.name.clone(), id: dead.id.clone() };
            let message = "Container is in unknown state, try killing it before removal";
            self.kill_container(None, &id, &dead.name, message, KillReason::Other, None, None).await?;
        }
        let status = query::container_status(&self.cri, &self.name, &dead.id).await;
        self.discard(&dead.id, status.map(|s| s.log_path).unwrap_or_default()).await
    }

    /// Removes a container with its log (empty if it has none) and the log's rotated parts.
    ///
    /// # Errors
    /// If the runtime refuses.
    pub async fn discard(&self, id: &str, log: String) -> Result<(), String> {
        self.remove_container(id).await?;
        if !log.is_empty() {
            let log = PathBuf::from(log);
            // A file that is gone is as good as removed.
            for file in rotate::rotated_files(&log).unwrap_or_default() {
                let _ = std::fs::remove_file(file);
            }
            let _ = std::fs::remove_file(log);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::sketch::SketchSandbox;
    use serde_json::Value;

    const ALL: Policy = Policy { min_age: 0, per_container: Some(1), total: None };

    fn dead(text: &str) -> Vec<Dead> {
        let one = |word: &str| {
            let fields: Vec<&str> = word.split('/').collect();
            let [pod, name, at] = fields[..] else { panic!("{word}") };
            Dead {
                pod: pod.to_owned(),
                name: name.to_owned(),
                id: format!("{pod}{name}{at}"),
                created_at: at.parse().unwrap(),
                unknown: false,
            }
        };
        text.split_whitespace().map(one).collect()
    }

    #[test]
    fn policies() {
        let check = |all: &str, policy: Policy| {
            let found = containers(dead(all), |uid| uid == "x", &policy, 10);
            found.into_iter().map(|d| d.id).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(check("p/a/3 p/a/1 p/a/2 p/b/1 q/a/1", ALL), "pa1 pa2");
        assert_eq!(check("p/a/1 x/a/2 x/a/1", ALL), "xa1 xa2");
        let per = |per_container| Policy { per_container, ..ALL };
        assert_eq!(check("p/a/1 p/a/2", per(Some(0))), "pa1 pa2");
        assert_eq!(check("p/a/1 p/a/2 x/a/1", per(None)), "xa1");
        // Those that were made lately stay, and do not count.
        let young = Policy { min_age: 8, ..ALL };
        assert_eq!(check("p/a/1 p/a/2 p/a/3 p/a/4 x/a/2 x/a/3", young), "xa2 pa1");
        let total = |per_container, total| Policy { per_container, total: Some(total), ..ALL };
        assert_eq!(check("p/a/1 p/a/2 q/a/3", total(None, 3)), "");
        assert_eq!(check("p/a/1 p/a/2 p/a/3 q/a/4 q/a/5 q/a/6", total(None, 4)), "pa1 qa4");
        assert_eq!(check("p/a/1 p/a/2 q/a/4 r/a/3", total(None, 2)), "pa1 pa2");
        assert_eq!(check("p/a/1 q/a/2 r/a/3", total(Some(1), 0)), "pa1 qa2 ra3");
    }

    /// Recorded from upstream's function, see `e2e/oracle/garbage`.
    #[test]
    fn as_upstream() {
        let second = 1_000_000_000;
        let now = 10_000 * second;
        let cases: Vec<Value> = include_str!("testdata/garbage.jsonl")
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert!(cases.len() >= 300);
        for case in cases {
            let list = |key: &str| -> Vec<String> {
                let all = case[key].as_array().into_iter().flatten();
                all.map(|text| text.as_str().unwrap().to_owned()).collect()
            };
            let mut pods: BTreeMap<&str, PodSketch> = BTreeMap::new();
            for c in case["containers"].as_array().into_iter().flatten() {
                pods.entry(c["pod"].as_str().unwrap()).or_default().containers.push(SketchContainer {
                    id: c["id"].as_str().unwrap().to_owned(),
                    name: c["name"].as_str().unwrap().to_owned(),
                    state: i32::try_from(c["state"].as_i64().unwrap()).unwrap(),
                    created_at: now - c["age"].as_i64().unwrap() * second,
                    ..SketchContainer::default()
                });
            }
            let number = |key: &str| case[key].as_i64().unwrap();
            let age = GoDuration(number("minAge") * second);
            let policy = Policy::new(age, number("per"), number("total")).unwrap();
            let all = pods.iter().flat_map(|(uid, pod)| Dead::of(uid, pod)).collect();
            let gone = list("gone");
            let found = super::containers(all, |uid| gone.iter().any(|g| g == uid), &policy, now);
            let mut ids: Vec<String> = found.into_iter().map(|dead| dead.id).collect();
            ids.sort_unstable();
            assert_eq!(ids, list("removed"), "{case}");
        }
    }

    #[test]
    fn flags() {
        let of = |age: &str, per, total| Policy::new(GoDuration::parse(age).unwrap(), per, total);
        assert_eq!(of("0s", 1, -1), Ok(ALL));
        assert_eq!(
            of("2s", -1, 0),
            Ok(Policy { min_age: 2_000_000_000, per_container: None, total: Some(0) })
        );
        assert_eq!(of("-1s", 1, -1).unwrap_err(), "invalid minimum garbage collection age: -1s");
    }

    #[test]
    fn what_may_be_of_use_stays() {
        let container = |id: &str, state: v1::ContainerState| SketchContainer {
            id: id.into(),
            state: state.into(),
            name: "c".into(),
            sandbox: "new".into(),
            ..SketchContainer::default()
        };
        let sandbox = |id: &str, ready, created_at| SketchSandbox { id: id.into(), ready, created_at };
        let pod = PodSketch {
            sandboxes: vec![sandbox("new", true, 2), sandbox("old", false, 1)],
            containers: vec![
                container("1", v1::ContainerState::ContainerRunning),
                container("2", v1::ContainerState::ContainerUnknown),
                container("3", v1::ContainerState::ContainerExited),
            ],
            ..PodSketch::default()
        };
        let found: Vec<_> = Dead::of("u", &pod).map(|d| (d.id, d.unknown)).collect();
        assert_eq!(found, [("2".to_owned(), true), ("3".to_owned(), false)]);
        let none = |_: &str| false;
        assert_eq!(sandboxes(&pod, false, none), ["old"]);
        let one = PodSketch { sandboxes: vec![sandbox("a", false, 1)], ..PodSketch::default() };
        assert_eq!((sandboxes(&one, false, none).len(), sandboxes(&one, true, none).len()), (0, 1));
        let ended = PodSketch {
            sandboxes: vec![sandbox("new", false, 2)],
            containers: vec![container("1", v1::ContainerState::ContainerExited)],
            ..PodSketch::default()
        };
        assert_eq!(
            (sandboxes(&ended, true, none).len(), sandboxes(&ended, true, |id| id == "1").len()),
            (0, 1)
        );
    }

    #[test]
    fn restarts_leave_one_behind() {
        let status = |name: &str, id: &str, state| ContainerStatus {
            id: ContainerId { runtime: "r".into(), id: id.into() },
            name: name.into(),
            state,
            ..ContainerStatus::default()
        };
        let ended = ContainerState::Exited;
        let containers = vec![
            status("c", "5", ContainerState::Running),
            status("c", "4", ended),
            status("d", "3", ended),
            status("c", "2", ended),
            status("c", "1", ended),
        ];
        let pod = PodStatus { containers, ..PodStatus::default() };
        let check = |per_container| {
            let policy = Policy { per_container, min_age: i64::MAX, ..ALL };
            surplus(&pod, &policy).iter().map(|c| c.id.id.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!([Some(0), Some(1), None, Some(2), Some(3)].map(check), ["2 1", "2 1", "2 1", "1", ""]);
    }
}
