//! Which pods use which volumes with which SELinux labels, and which of them cannot share a node. Pure.
//!
//! Conflicts are not stored: they follow from what pods use, and volumes whose pods agree, nearly all, cost one comparison
//! per pod. Upstream: selinuxwarning/cache/volumecache.go, conflict.go.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use client::split_key;

use super::label;

/// How a volume gets its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    MountOption,
    Recursive,
}

/// A pod's use of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Name that all pods know the volume by.
    pub volume: String,
    /// CSI driver, "" for none.
    pub driver: String,
    pub label: String,
    pub policy: Policy,
}

/// What pods differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    ChangePolicy,
    Label,
}

impl Property {
    pub fn name(self) -> &'static str {
        match self {
            Property::ChangePolicy => "SELinuxChangePolicy",
            Property::Label => "SELinuxLabel",
        }
    }

    pub fn reason(self) -> &'static str {
        match self {
            Property::ChangePolicy => "SELinuxChangePolicyConflict",
            Property::Label => "SELinuxLabelConflict",
        }
    }
}

/// One of two pods that differ; the other one has the same, turned round.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    pub property: Property,
    /// Keys of the pods.
    pub pod: Arc<str>,
    pub value: Arc<str>,
    pub other: Arc<str>,
    pub other_value: Arc<str>,
}

impl Conflict {
    fn turned(&self) -> Self {
        Self {
            property: self.property,
            pod: self.other.clone(),
            value: self.other_value.clone(),
            other: self.pod.clone(),
            other_value: self.value.clone(),
        }
    }

    /// What the pod's event says. What is in other namespaces stays unnamed; the missing space is upstream's.
    pub fn message(&self) -> String {
        let (name, value) = (self.property.name(), &self.value);
        let ((namespace, _), (other_namespace, other)) = (split_key(&self.pod), split_key(&self.other));
        let whom = if namespace == other_namespace {
            format!(
                " \"{value}\" conflicts with pod {other} that uses the same volume as this pod with {name} \"{}\"",
                self.other_value
            )
        } else {
            format!(
                "\"{value}\" conflicts with another pod that uses the same volume as this pod with a different {name}"
            )
        };
        format!("{name}{whom}. If both pods land on the same node, only one of them may access the volume.")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Info {
    label: Arc<str>,
    policy: Policy,
}

impl Info {
    /// The policy as conflicts show it.
    fn policy(&self) -> Arc<str> {
        match self.policy {
            Policy::MountOption => "MountOption".into(),
            Policy::Recursive => "Recursive".into(),
        }
    }

    fn conflicts(&self, pod: &Arc<str>, other: &Arc<str>, info: &Info, mut found: impl FnMut(Conflict)) {
        let conflict = |property, value: Arc<str>, other_value: Arc<str>| Conflict {
            property,
            pod: pod.clone(),
            value,
            other: other.clone(),
            other_value,
        };
        if self.policy != info.policy {
            found(conflict(Property::ChangePolicy, self.policy(), info.policy()));
        }
        if label::conflict(&self.label, &info.label) {
            found(conflict(Property::Label, self.label.clone(), info.label.clone()));
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Volume {
    driver: String,
    pods: BTreeMap<Arc<str>, Info>,
}

impl Volume {
    /// Pods by what they want, if they do not all want the same.
    fn camps(&self) -> Vec<(&Info, Vec<&Arc<str>>)> {
        let mut infos = self.pods.values();
        let first = infos.next();
        if infos.all(|info| Some(info) == first) {
            return Vec::new();
        }
        let mut camps: BTreeMap<&Info, Vec<&Arc<str>>> = BTreeMap::new();
        for (pod, info) in &self.pods {
            camps.entry(info).or_default().push(pod);
        }
        camps.into_iter().collect()
    }
}

/// All volumes of all pods that have not ended.
#[derive(Debug, Default, PartialEq)]
pub struct Cache {
    volumes: HashMap<Arc<str>, Volume>,
    /// The volumes of each pod.
    pods: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
}

impl Cache {
    /// Takes in all uses of a pod, none when it is gone; says which conflicts are new, for both pods of each.
    ///
    /// Differs: upstream only adds, so what a pod of the same name used before stays until that name is gone.
    pub fn set(&mut self, pod: &str, uses: Vec<Use>) -> Vec<Conflict> {
        let kept: BTreeSet<&str> = uses.iter().map(|u| u.volume.as_str()).collect();
        let known = self.pods.get(pod).cloned().unwrap_or_default();
        known.iter().filter(|v| !kept.contains(&***v)).for_each(|v| self.let_go(pod, v));
        uses.into_iter().flat_map(|of| self.add(pod, of)).collect()
    }

    /// Takes in one use of a pod.
    pub fn add(&mut self, pod: &str, of: Use) -> Vec<Conflict> {
        let pod: Arc<str> = self.pods.get_key_value(pod).map_or_else(|| pod.into(), |(k, _)| k.clone());
        let name: Arc<str> = of.volume.into();
        let volume = self
            .volumes
            .entry(name.clone())
            .or_insert_with(|| Volume { driver: of.driver, pods: BTreeMap::new() });
        let alike = volume.pods.values().find(|i| *i.label == *of.label);
        let label = alike.map_or_else(|| of.label.as_str().into(), |i| i.label.clone());
        let info = Info { label, policy: of.policy };
        if volume.pods.get(&pod) == Some(&info) {
            return Vec::new();
        }
        volume.pods.insert(pod.clone(), info.clone());
        self.pods.entry(pod.clone()).or_default().insert(name);
        let mut conflicts = Vec::new();
        for (other, wants) in &volume.pods {
            info.conflicts(&pod, other, wants, |conflict| {
                let turned = conflict.turned();
                conflicts.extend([conflict, turned]);
            });
        }
        conflicts
    }

    fn let_go(&mut self, pod: &str, name: &str) {
        if let Some(volume) = self.volumes.get_mut(name) {
            volume.pods.remove(pod);
            if volume.pods.is_empty() {
                self.volumes.remove(name);
            }
        }
        if let Some(volumes) = self.pods.get_mut(pod) {
            volumes.remove(name);
            if volumes.is_empty() {
                self.pods.remove(pod);
            }
        }
    }

    /// Keys of the pods that use volumes of a CSI driver.
    pub fn pods_of(&self, driver: &str) -> BTreeSet<Arc<str>> {
        self.volumes.values().filter(|v| v.driver == driver).flat_map(|v| v.pods.keys().cloned()).collect()
    }

    /// The conflicts there are, each once and for both of its pods; at most so many.
    pub fn conflicts(&self, most: usize) -> BTreeSet<Conflict> {
        let mut all = BTreeSet::new();
        for volume in self.volumes.values() {
            let camps = volume.camps();
            for (at, (info, pods)) in camps.iter().enumerate() {
                for (wants, others) in camps.iter().skip(at + 1) {
                    let pairs = pods.iter().flat_map(|pod| others.iter().map(move |other| (*pod, *other)));
                    for (pod, other) in pairs {
                        if all.len() + 4 > most {
                            return all;
                        }
                        info.conflicts(pod, other, wants, |conflict| {
                            all.insert(conflict.turned());
                            all.insert(conflict);
                        });
                    }
                }
            }
        }
        all
    }
}
