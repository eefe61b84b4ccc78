//! Rules of the garbage collector, and the properties, on a small cluster in memory.

use std::collections::{BTreeMap, VecDeque};

use client::Propagation;
use controller::Related;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use proptest::prelude::*;

use super::graph::{FOREGROUND, Graph, Identity, ORPHAN, Uid, Work};
use super::plan::{Standing, Verdict, is_settled, judge, judge_waiting};
use crate::scenario;

fn owner(uid: &str, blocks: bool) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_string(),
        kind: "Thing".to_string(),
        name: uid.to_string(),
        uid: uid.to_string(),
        controller: None,
        block_owner_deletion: Some(blocks),
    }
}

/// Objects, and the collector's graph of them; name = uid.
#[derive(Default)]
struct Cluster {
    objects: BTreeMap<String, ObjectMeta>,
    graph: Graph,
    work: VecDeque<Work>,
    /// What was written, in order.
    writes: Vec<String>,
}

fn place(name: &str) -> Identity {
    Identity::referred(&owner(name, false), "n")
}

impl Cluster {
    /// `"web <- shop db"`: web is owned by shop and db. All references block.
    fn of(lines: &[&str]) -> Self {
        let mut cluster = Self::default();
        for line in lines {
            let (name, owners) = line.split_once(" <- ").unwrap_or((line, ""));
            let owners: Vec<_> = owners.split_whitespace().map(|o| owner(o, true)).collect();
            let meta = ObjectMeta {
                name: Some(name.to_string()),
                uid: Some(name.to_string()),
                owner_references: (!owners.is_empty()).then_some(owners),
                ..ObjectMeta::default()
            };
            cluster.put(name, meta);
        }
        cluster
    }

    fn put(&mut self, name: &str, new: ObjectMeta) {
        let old = self.objects.get(name).cloned();
        let work = self.graph.seen(&place(name), old.as_ref(), &new);
        self.queue(work);
        let done = new.deletion_timestamp.is_some() && new.finalizers.iter().flatten().next().is_none();
        self.objects.insert(name.to_string(), new);
        if done {
            self.objects.remove(name);
            let work = self.graph.gone(&place(name), false);
            self.queue(work);
        }
    }

    /// Queues work in an order that does not depend on chance.
    fn queue(&mut self, mut work: Vec<Work>) {
        work.sort_by_key(|w| format!("{w:?}"));
        self.work.extend(work);
    }

    fn delete(&mut self, name: &str, how: Propagation) {
        self.writes.push(format!("delete {name} ({how:?})"));
        let Some(mut meta) = self.objects.get(name).cloned() else { return };
        meta.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        let finalizer = match how {
            Propagation::Background => None,
            Propagation::Foreground => Some(FOREGROUND),
            Propagation::Orphan => Some(ORPHAN),
        };
        meta.finalizers.get_or_insert_default().extend(finalizer.map(str::to_string));
        self.put(name, meta);
    }

    fn change(&mut self, name: &str, what: &str, change: impl FnOnce(&mut ObjectMeta)) {
        self.writes.push(format!("{what} {name}"));
        if let Some(mut meta) = self.objects.get(name).cloned() {
            change(&mut meta);
            self.put(name, meta);
        }
    }

    fn standing(&self, reference: &OwnerReference) -> Standing {
        match self.objects.get(&reference.uid) {
            None => Standing::Dangling,
            Some(o) if o.deletion_timestamp.is_some() && o.has_finalizer(FOREGROUND) => Standing::Waiting,
            Some(_) => Standing::Solid,
        }
    }

    fn look(&mut self, uid: &Uid) {
        let Some(facts) = self.graph.facts(uid).filter(|f| !is_settled(f)) else { return };
        let name = &*uid.to_string();
        let Some(latest) = self.objects.get(name).cloned() else {
            let work = self.graph.gone(&facts.identity, true);
            self.queue(work);
            return;
        };
        let standings: Vec<_> = latest.owner_references.iter().flatten().map(|r| self.standing(r)).collect();
        let verdict = if facts.deleting_dependents {
            judge_waiting(&facts)
        } else {
            judge(&facts, &latest, &standings)
        };
        match verdict {
            Verdict::Keep => {}
            Verdict::Look(all) => self.queue(all.into_iter().map(Work::Delete).collect()),
            Verdict::Finish => self.change(name, "take the finalizer off", |m| m.finalizers = None),
            Verdict::DropOwners(lost) => {
                self.change(name, &format!("take owner {} from", lost.join(", ")), |m| {
                    m.owner_references.get_or_insert_default().retain(|r| !lost.contains(&r.uid));
                })
            }
            Verdict::Foreground { unblock } => {
                if unblock {
                    self.change(name, "let nobody wait for", |m| {
                        m.owner_references
                            .iter_mut()
                            .flatten()
                            .for_each(|r| r.block_owner_deletion = Some(false));
                    });
                }
                self.delete(name, Propagation::Foreground);
            }
            Verdict::Delete(how) => self.delete(name, how),
        }
    }

    /// Works until nothing is left to do.
    fn settle(&mut self) -> Vec<&str> {
        for _ in 0..100_000 {
            match self.work.pop_front() {
                None => return self.objects.keys().map(String::as_str).collect(),
                Some(Work::Delete(uid) | Work::DeleteLater(uid)) => self.look(&uid),
                Some(Work::Orphan(uid)) => {
                    let mut facts = self.graph.facts(&uid).expect("known");
                    facts.dependents.sort();
                    for dependent in facts.dependents {
                        self.change(&dependent.name, &format!("take owner {uid} from"), |m| {
                            m.owner_references.get_or_insert_default().retain(|r| !uid.is(&r.uid));
                        });
                    }
                    self.change(&uid.to_string(), "take the finalizer off", |m| m.finalizers = None);
                }
                Some(Work::Misplaced(..)) => {}
            }
        }
        panic!("never settles");
    }
}

/// What somebody does.
#[derive(serde::Deserialize)]
enum Deed {
    Background(String),
    Foreground(String),
    Orphan(String),
    /// Whoever put a finalizer on takes it off.
    LetGo(String),
}

#[test]
fn scenarios() {
    scenario::check("garbagecollector/testdata", |given| {
        let lines: Vec<String> = given.setting("objects").expect("objects");
        let mut cluster = Cluster::of(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        for name in given.setting::<Vec<String>>("guarded").unwrap_or_default() {
            let mut meta = cluster.objects[&name].clone();
            meta.finalizers = Some(vec!["example.org/guard".to_string()]);
            cluster.put(&name, meta);
        }
        let mut out = String::new();
        let mut rest = |cluster: &mut Cluster, deed: &str| {
            let left = cluster.settle().join(" ");
            out.push_str(deed);
            std::mem::take(&mut cluster.writes).iter().for_each(|w| out.push_str(&format!("  {w}\n")));
            out.push_str(&format!("  left: {left}\n"));
        };
        rest(&mut cluster, "what is there\n");
        for deed in given.setting::<Vec<Deed>>("deeds").unwrap_or_default() {
            let (name, how) = match &deed {
                Deed::Background(name) => (name, Propagation::Background),
                Deed::Foreground(name) => (name, Propagation::Foreground),
                Deed::Orphan(name) => (name, Propagation::Orphan),
                Deed::LetGo(name) => {
                    cluster.change(name, "", |m| m.finalizers = None);
                    cluster.writes.clear();
                    rest(&mut cluster, &format!("{name} is let go\n"));
                    continue;
                }
            };
            cluster.delete(name, how);
            cluster.writes.clear();
            rest(&mut cluster, &format!("{name} is deleted ({how:?})\n"));
        }
        out
    });
}

fn check(lines: &[&str], delete: &str, how: Propagation, left: &[&str]) {
    let mut cluster = Cluster::of(lines);
    cluster.settle();
    cluster.delete(delete, how);
    assert_eq!(cluster.settle(), left, "{lines:?} after deleting {delete}");
}

const WEB: &[&str] = &["web", "set <- web", "pod-a <- set", "pod-b <- set", "other"];

#[test]
fn dependents_go_after_their_owner() {
    check(WEB, "web", Propagation::Background, &["other"]);
    check(WEB, "set", Propagation::Background, &["other", "web"]);
}

#[test]
fn in_the_foreground_dependents_go_first() {
    check(WEB, "web", Propagation::Foreground, &["other"]);
    let mut cluster = Cluster::of(&["web", "pod <- web"]);
    cluster.objects.get_mut("pod").expect("there").finalizers = Some(vec!["x/y".to_string()]);
    cluster.delete("web", Propagation::Foreground);
    assert_eq!(cluster.settle(), ["pod", "web"], "the owner stays as long as its dependent does");
    cluster.change("pod", "take the finalizer off", |m| m.finalizers = None);
    assert_eq!(cluster.settle(), [""; 0]);
}

#[test]
fn orphans_stay_without_owner() {
    check(WEB, "set", Propagation::Orphan, &["other", "pod-a", "pod-b", "web"]);
    let mut cluster = Cluster::of(WEB);
    cluster.delete("set", Propagation::Orphan);
    cluster.settle();
    assert_eq!(cluster.objects["pod-a"].owner_references, Some(vec![]));
}

#[test]
fn one_living_owner_is_enough() {
    check(&["a", "b", "pod <- a b"], "a", Propagation::Background, &["b", "pod"]);
    check(&["a", "b", "pod <- a b"], "a", Propagation::Foreground, &["b", "pod"]);
}

#[test]
fn an_object_whose_owner_never_was_goes() {
    let mut cluster = Cluster::of(&["pod <- ghost", "other"]);
    assert_eq!(cluster.settle(), ["other"]);
}

#[test]
fn circles_are_broken_in_the_foreground() {
    check(&["a <- b", "b <- a"], "a", Propagation::Foreground, &[]);
    check(&["root", "a <- root b", "b <- a"], "root", Propagation::Foreground, &["a", "b"]);
}

#[test]
fn an_owner_of_another_namespace_is_no_owner() {
    let mut graph = Graph::default();
    let there = Identity { namespace: "m".into(), ..place("web") };
    assert!(graph.seen(&there, None, &ObjectMeta::default()).is_empty());
    let pod = ObjectMeta { owner_references: Some(vec![owner("web", true)]), ..ObjectMeta::default() };
    let work = graph.seen(&place("pod"), None, &pod);
    assert_eq!(work, [Work::Misplaced(place("pod"), "web".into()), Work::Delete("pod".into())]);
}

#[test]
fn an_absent_owner_under_one_name_may_exist_under_another() {
    let mut graph = Graph::default();
    let mut wrong = owner("web", true);
    wrong.kind = "Other".to_string();
    let names = |r: OwnerReference| ObjectMeta { owner_references: Some(vec![r]), ..ObjectMeta::default() };
    graph.seen(&place("bad"), None, &names(wrong));
    graph.seen(&place("good"), None, &names(owner("web", true)));
    let first = graph.facts(&"web".into()).expect("made up").identity;
    let work = graph.gone(&first, true);
    assert_eq!(work, [Work::Delete("bad".into()), Work::DeleteLater("web".into())]);
    assert_eq!(graph.facts(&"web".into()).expect("still there").identity, place("web"));
}

/// A forest: object i is owned by some earlier objects.
fn forest() -> impl Strategy<Value = Vec<Vec<usize>>> {
    prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..3), 1..12).prop_map(|all| {
        let owners = |(i, picks): (usize, Vec<prop::sample::Index>)| {
            let mut of: Vec<usize> = if i == 0 { vec![] } else { picks.iter().map(|p| p.index(i)).collect() };
            of.sort_unstable();
            of.dedup();
            of
        };
        all.into_iter().enumerate().map(owners).collect()
    })
}

fn lines(forest: &[Vec<usize>]) -> Vec<String> {
    let line = |(i, of): (usize, &Vec<usize>)| {
        if of.is_empty() {
            format!("o{i:02}")
        } else {
            format!("o{i:02} <- {}", of.iter().map(|o| format!("o{o:02}")).collect::<Vec<_>>().join(" "))
        }
    };
    forest.iter().enumerate().map(line).collect()
}

proptest! {
    /// Where every owner lives, in whatever order objects are seen, nothing is written.
    #[test]
    fn a_satisfied_cluster_is_left_alone(forest in forest(), backwards: bool) {
        let lines = lines(&forest);
        let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        if backwards { lines.reverse(); }
        let mut cluster = Cluster::of(&lines);
        prop_assert_eq!(cluster.settle().len(), forest.len());
        prop_assert!(cluster.writes.is_empty());
    }

    /// After a deletion exactly those without living owner have gone, and then there is rest.
    #[test]
    fn deletion_takes_exactly_what_has_no_owner_left(forest in forest(), root: prop::sample::Index, foreground: bool) {
        let lines = lines(&forest);
        let mut cluster = Cluster::of(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        cluster.settle();
        let root = root.index(forest.len());
        cluster.delete(&format!("o{root:02}"), if foreground { Propagation::Foreground } else { Propagation::Background });
        let mut lives: Vec<bool> = Vec::new();
        for (i, owners) in forest.iter().enumerate() {
            lives.push(i != root && (owners.is_empty() || owners.iter().any(|o| lives[*o])));
        }
        let left: Vec<String> = lives.iter().enumerate().filter(|(_, l)| **l).map(|(i, _)| format!("o{i:02}")).collect();
        prop_assert_eq!(cluster.settle(), left);
        let writes = cluster.writes.len();
        cluster.settle();
        prop_assert_eq!(cluster.writes.len(), writes);
    }
}

#[test]
fn an_owner_is_known_to_be_absent_where_it_was_looked_for() {
    let mut graph = Graph::default();
    graph.note_absent(Identity::referred(&owner("local", true), "n"));
    graph.note_absent(Identity::referred(&owner("clustered", true), ""));
    for (name, namespace, want) in [
        ("local", "n", true),
        ("local", "other", false),
        ("clustered", "n", true),
        ("clustered", "other", true),
        ("unknown", "n", false),
    ] {
        assert_eq!(graph.is_verified_absent(&owner(name, false), namespace), want, "{name} in {namespace}");
    }
}
