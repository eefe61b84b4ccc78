//! Labels of namespaces: whether they can be read, and which pods break what they newly ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use machinery::{Map, Value};

use super::checks::evaluate;
use super::policy::{Level, Policy, Standard};
use super::{PREFIX, PodSecurity};
use crate::admission::{Attributes, Operation};
use crate::errors::ApiError;
use crate::meta;

/// Most pods that are looked at, and for how long.
const MAX_PODS: usize = 3000;
const MAX_TIME: Duration = Duration::from_secs(1);

impl PodSecurity {
    pub(super) async fn namespace(&self, a: &Attributes<'_>, object: &Value) -> Result<(), ApiError> {
        let labels = meta::labels(object);
        let (policy, errors) = self.defaults.of_labels(labels);
        let old = a.old.as_ref().filter(|_| a.operation == Operation::Update);
        let before = old.map(|old| self.defaults.of_labels(meta::labels(old)));
        // Labels that were wrong before may stay.
        if !errors.is_empty() && before.as_ref().is_none_or(|(_, known)| *known != errors) {
            return Err(ApiError::invalid_fields(a.kind.group, a.kind.kind, &a.name, &errors));
        }
        if let Some((before, _)) = &before
            && !is_stricter(policy.enforce, before.enforce)
        {
            return Ok(());
        }
        let exempt = self.exemptions.namespaces.contains(&a.namespace);
        if exempt {
            let ignored =
                (!policy.is_privileged() && !policy.same(&self.defaults)).then(|| ignored(&policy, labels));
            if let Some(list) = ignored {
                let name = &a.name;
                a.call.warn(format!(
                    "namespace {name:?} is exempt from Pod Security, and the policy ({list}) will be ignored"
                ));
            }
            return Ok(());
        }
        if before.is_some() {
            let pods = a.call.core.find_all("", "pods", &a.name).await?;
            for text in self.existing(&pods, &a.name, policy.enforce, Instant::now()) {
                a.call.warn(text);
            }
        }
        Ok(())
    }

    /// Warnings about the pods that there are. Pods alike are named once, by the first of them.
    fn existing(&self, pods: &[Value], namespace: &str, standard: Standard, start: Instant) -> Vec<String> {
        let (first, others) = self.by_controller(pods);
        let all = first.len() + others.len();
        let mut checked = 0;
        let mut found: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for pod in first.into_iter().chain(others).take(MAX_PODS) {
            checked += 1;
            let reasons: Vec<String> = evaluate(standard, pod).into_iter().map(|f| f.reason).collect();
            if !reasons.is_empty() {
                found.entry(reasons.join(", ")).or_default().insert(meta::name(pod));
            }
            if start.elapsed() > MAX_TIME {
                break;
            }
        }
        let mut warnings = Vec::new();
        if checked < all {
            warnings.push(format!(
                "new PodSecurity enforce level only checked against the first {checked} of {all} existing pods"
            ));
        }
        if !found.is_empty() {
            warnings.push(format!(
                "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{standard}\""
            ));
        }
        let mut texts: Vec<String> = found
            .iter()
            .map(|(reasons, names)| {
                let name = names.first().copied().unwrap_or_default();
                match names.len() {
                    1 => format!("{name}: {reasons}"),
                    2 => format!("{name} (and 1 other pod): {reasons}"),
                    n => format!("{name} (and {} other pods): {reasons}", n - 1),
                }
            })
            .collect();
        texts.sort();
        warnings.extend(texts);
        warnings
    }

    /// One pod of each controller and those without, then the rest.
    fn by_controller<'a>(&self, pods: &'a [Value]) -> (Vec<&'a Value>, Vec<&'a Value>) {
        let mut seen = BTreeSet::new();
        let checked = pods.iter().filter(|pod| !self.exempts_runtime_class(pod));
        checked.partition(|pod| controller(pod).is_none_or(|uid| seen.insert(uid)))
    }
}

fn controller(pod: &Value) -> Option<&str> {
    let owners = pod.list_at(&["metadata", "ownerReferences"])?;
    let owner = owners.iter().find(|owner| owner.bool_at(&["controller"]) == Some(true))?;
    owner.str_at(&["uid"])
}

/// Whether pods that were fine may not be any more.
fn is_stricter(new: Standard, old: Standard) -> bool {
    new != old && new.level != Level::Privileged && !(new.version == old.version && new.level <= old.level)
}

/// The modes of labels that an exemption leaves without effect.
fn ignored(policy: &Policy, labels: Option<&Map>) -> String {
    let has = |mode: &str| {
        labels.is_some_and(|labels| {
            ["", "-version"].iter().any(|of| labels.contains_key(&format!("{PREFIX}{mode}{of}")))
        })
    };
    let modes = [("enforce", policy.enforce), ("audit", policy.audit), ("warn", policy.warn)];
    let modes = modes.iter().filter(|(mode, standard)| standard.level != Level::Privileged && has(mode));
    modes.map(|(mode, standard)| format!("{mode}={standard}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Configuration;
    use super::super::policy::Version;
    use super::*;

    #[test]
    fn pods_alike_are_named_once() {
        let pod = |name: &str, controller: Option<&str>, host: bool| {
            let owners = controller.map(|uid| json!([{"controller": true, "uid": uid}]));
            Value::from(json!({"metadata": {"name": name, "ownerReferences": owners},
                "spec": {"hostNetwork": host, "containers": [{"name": "c"}]}}))
        };
        let plugin = PodSecurity::new(&Configuration::default()).unwrap();
        let baseline = Standard { level: Level::Baseline, version: Version::Latest };
        let pods = [
            pod("d", Some("1"), true),
            pod("b", Some("1"), true),
            pod("a", None, false),
            pod("c", None, true),
        ];
        assert_eq!(
            plugin.existing(&pods, "n", baseline, Instant::now()),
            [
                "existing pods in namespace \"n\" violate the new PodSecurity enforce level \"baseline:latest\"",
                "b (and 2 other pods): host namespaces"
            ]
        );
        let (first, others) = plugin.by_controller(&pods);
        assert_eq!((first.len(), others.len()), (3, 1));
    }

    #[test]
    fn stricter() {
        let of = |level, version| Standard { level, version };
        let (baseline, restricted) = (Level::Baseline, Level::Restricted);
        let latest = Version::Latest;
        assert!(is_stricter(of(restricted, latest), of(baseline, latest)));
        assert!(!is_stricter(of(baseline, latest), of(restricted, latest)));
        assert!(is_stricter(of(baseline, Version::Minor(1)), of(restricted, latest)));
        assert!(!is_stricter(of(Level::Privileged, latest), of(restricted, latest)));
    }
}
