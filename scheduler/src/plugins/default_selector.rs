//! Pods like a given one: those of its services and of its owner. Upstream: plugins/helper/spread.go DefaultSelector.

use std::collections::BTreeMap;

use machinery::labels::{Requirement, Selector};

use crate::listers::Listers;
use crate::model::{Owner, PodInfo, label_selector};

/// A selector for them; an empty one if there are none.
pub fn default_selector(listers: &Listers, pod: &PodInfo) -> Selector {
    let labels = &pod.labels.map;
    let mut equal: BTreeMap<String, String> = BTreeMap::new();
    for service in listers.services.list_namespace(&pod.namespace) {
        let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref()).filter(|s| !s.is_empty());
        if let Some(selector) = selector
            && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        {
            equal.extend(selector.clone());
        }
    }
    let mut more: Vec<Requirement> = Vec::new();
    if let Some(Owner { api_version, kind, name }) = pod.owner.as_deref() {
        let selector = match (api_version.as_str(), kind.as_str()) {
            ("v1", "ReplicationController") => {
                let found = listers.controllers.get_by(&pod.namespace, name);
                equal.extend(found.and_then(|c| c.spec.clone()?.selector).unwrap_or_default());
                None
            }
            ("apps/v1", "ReplicaSet") => {
                let found = listers.replica_sets.get_by(&pod.namespace, name);
                found.map(|r| r.spec.selector.clone())
            }
            ("apps/v1", "StatefulSet") => {
                let found = listers.stateful_sets.get_by(&pod.namespace, name);
                found.map(|r| r.spec.selector.clone())
            }
            _ => None,
        };
        if let Some(selector) = selector {
            more.extend(label_selector(Some(&selector)).requirements().unwrap_or_default().to_vec());
        }
    }
    Selector::from_set(equal).and(more)
}
