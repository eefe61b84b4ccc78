//! Which node an object belongs to, through the pods that refer to it.
//!
//! Every answer is a few hash look-ups: pods count their references per node, and volumes lead to claims.
//! Upstream: `plugin/pkg/auth/authorizer/node/graph.go`, which walks a graph.

use std::collections::{HashMap, HashSet};

/// Kinds of objects a node may be related to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `pods`
    Pod,
    /// `secrets`
    Secret,
    /// `configmaps`
    ConfigMap,
    /// `serviceaccounts`
    ServiceAccount,
    /// `persistentvolumeclaims`
    Claim,
    /// `resourceclaims`
    ResourceClaim,
    /// `persistentvolumes`
    Volume,
    /// `volumeattachments`
    Attachment,
    /// `resourceslices`
    Slice,
    /// `podcertificaterequests`
    PodCertificate,
}

/// What matters about a pod that is bound to a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// `spec.nodeName`
    pub node: String,
    /// Objects of the pod's namespace it refers to.
    pub refs: Vec<(Kind, String)>,
}

type Key = (Kind, String, String);
type Name = (String, String);

struct Volume {
    claim: Name,
    secrets: Vec<Name>,
}

/// All relations.
#[derive(Default)]
pub struct Relations {
    pods: HashMap<Name, PodFacts>,
    /// How many references each node has to an object.
    nodes_of: HashMap<Key, HashMap<String, usize>>,
    volumes: HashMap<String, Volume>,
    volumes_of_secret: HashMap<Name, HashSet<String>>,
}

impl Relations {
    /// Sets a bound pod. Its references are counted for its node.
    pub fn set_pod(&mut self, namespace: &str, name: &str, facts: PodFacts) {
        self.remove_pod(namespace, name);
        self.count(&facts, namespace, name, true);
        self.pods.insert((namespace.to_owned(), name.to_owned()), facts);
    }

    /// Removes a pod.
    pub fn remove_pod(&mut self, namespace: &str, name: &str) {
        if let Some(facts) = self.pods.remove(&(namespace.to_owned(), name.to_owned())) {
            self.count(&facts, namespace, name, false);
        }
    }

    /// Removes all pods, before a new list is set.
    pub fn clear_pods(&mut self) {
        for (namespace, name) in self.pods.keys().cloned().collect::<Vec<_>>() {
            self.remove_pod(&namespace, &name);
        }
    }

    fn count(&mut self, facts: &PodFacts, namespace: &str, name: &str, add: bool) {
        let own = (Kind::Pod, name.to_owned());
        for (kind, name) in std::iter::once(&own).chain(&facts.refs) {
            self.relate(*kind, namespace, name, &facts.node, add);
        }
    }

    fn relate(&mut self, kind: Kind, namespace: &str, name: &str, node: &str, add: bool) {
        let key = (kind, namespace.to_owned(), name.to_owned());
        if add {
            *self.nodes_of.entry(key).or_default().entry(node.to_owned()).or_default() += 1;
            return;
        }
        let Some(nodes) = self.nodes_of.get_mut(&key) else { return };
        if let Some(count) = nodes.get_mut(node) {
            *count -= 1;
            if *count == 0 {
                nodes.remove(node);
            }
        }
        if nodes.is_empty() {
            self.nodes_of.remove(&key);
        }
    }

    /// Sets the one node of an attachment, slice or pod certificate request; an empty node removes it.
    pub fn set_single(&mut self, kind: Kind, namespace: &str, name: &str, node: &str) {
        let key = (kind, namespace.to_owned(), name.to_owned());
        if node.is_empty() {
            self.nodes_of.remove(&key);
        } else {
            self.nodes_of.insert(key, HashMap::from([(node.to_owned(), 1)]));
        }
    }

    /// Removes all objects of a kind set by [`Relations::set_single`].
    pub fn clear_single(&mut self, kind: Kind) {
        self.nodes_of.retain(|key, _| key.0 != kind);
    }

    /// Sets a volume: its claim, and the secrets that mounting it needs.
    pub fn set_volume(&mut self, name: &str, claim: Option<Name>, secrets: Vec<Name>) {
        self.remove_volume(name);
        let Some(claim) = claim else { return };
        for secret in &secrets {
            self.volumes_of_secret.entry(secret.clone()).or_default().insert(name.to_owned());
        }
        self.volumes.insert(name.to_owned(), Volume { claim, secrets });
    }

    /// Removes a volume.
    pub fn remove_volume(&mut self, name: &str) {
        let Some(old) = self.volumes.remove(name) else { return };
        for secret in &old.secrets {
            if let Some(volumes) = self.volumes_of_secret.get_mut(secret) {
                volumes.remove(name);
                if volumes.is_empty() {
                    self.volumes_of_secret.remove(secret);
                }
            }
        }
    }

    /// Removes all volumes, before a new list is set.
    pub fn clear_volumes(&mut self) {
        self.volumes.clear();
        self.volumes_of_secret.clear();
    }

    /// Whether an object belongs to a node.
    pub fn related(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let direct = |kind: Kind, namespace: &str, name: &str| {
            let key = (kind, namespace.to_owned(), name.to_owned());
            self.nodes_of.get(&key).is_some_and(|nodes| nodes.contains_key(node))
        };
        let through = |volume: &String| {
            let claim = self.volumes.get(volume).map(|v| &v.claim);
            claim.is_some_and(|(namespace, name)| direct(Kind::Claim, namespace, name))
        };
        match kind {
            Kind::Volume => through(&name.to_owned()),
            Kind::Secret if !direct(kind, namespace, name) => {
                let secret = (namespace.to_owned(), name.to_owned());
                self.volumes_of_secret.get(&secret).is_some_and(|volumes| volumes.iter().any(through))
            }
            _ => direct(kind, namespace, name),
        }
    }
}
