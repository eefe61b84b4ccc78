//! What is attached, and when it is let go.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::Meta;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, PersistentVolume as Volume, PersistentVolumeClaim as Claim};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::plan::{Plan, View, Wanted, attachment_name, plan};
use super::volume_of;
use super::volumes::{Attachable, Lookup, of_pods};
use crate::kept::Pod;
use crate::scenario;

const NODE: &str = "node-1";
const NOW: &str = "2026-01-01T00:10:00Z";

struct World {
    node: Option<Node>,
    pods: Vec<Arc<Pod>>,
    claims: Vec<Arc<Claim>>,
    volumes: Vec<Arc<Volume>>,
    attachments: Vec<Arc<VolumeAttachment>>,
    unwanted_since: BTreeMap<String, Timestamp>,
}

impl World {
    fn wanted(&self) -> Wanted {
        let lookup = Lookup {
            claim: &|key| self.claims.iter().find(|c| c.key() == key).cloned(),
            volume: &|name| self.volumes.iter().find(|v| v.name() == name).cloned(),
            attaches: &|driver| driver != "local.example.org",
        };
        of_pods(&self.pods, &lookup)
    }

    fn plan(&self) -> Plan {
        let find = |a: &VolumeAttachment| {
            let volume = self.volumes.iter().find(|v| Some(v.name()) == volume_of(a));
            volume.and_then(|v| Attachable::of(v))
        };
        let (mine, other): (Vec<_>, Vec<_>) = self.attachments.iter().partition(|a| a.spec.node_name == NODE);
        let attachments: Vec<_> = mine.into_iter().map(|a| (a.clone(), find(a))).collect();
        let elsewhere = |volume: &str| {
            let of = |a: &&&Arc<VolumeAttachment>| volume_of(a) == Some(volume);
            other.iter().filter(of).map(|a| a.spec.node_name.clone()).collect()
        };
        let view = View {
            name: NODE,
            node: self.node.as_ref(),
            wanted: &self.wanted(),
            attachments: &attachments,
            elsewhere: &elsewhere,
            unwanted_since: &self.unwanted_since,
            never_force: false,
        };
        plan(&view, NOW.parse().expect("a time"))
    }
}

#[test]
fn scenarios() {
    scenario::check("attachdetach/testdata", |given| {
        let attachments = given.shared::<VolumeAttachment>();
        let since: Option<Timestamp> = given.setting("unwantedSince");
        let unwanted_since = since
            .map(|s| attachments.iter().map(|a| (a.name().to_string(), s)).collect())
            .unwrap_or_default();
        let world = World {
            node: given.maybe(),
            pods: given.shared(),
            claims: given.shared(),
            volumes: given.shared(),
            attachments,
            unwanted_since,
        };
        let plan = world.plan();
        let mut out = String::new();
        if let Some(list) = &plan.report {
            let names: Vec<&str> = list.iter().map(|v| v.name.as_str()).collect();
            out.push_str(&format!("attached to the node: {names:?}\n"));
        }
        plan.detach.iter().for_each(|a| out.push_str(&format!("detach {a}\n")));
        plan.attach.iter().for_each(|a| out.push_str(&format!("attach\n{}", scenario::yaml(a))));
        plan.told.iter().for_each(|(_, reason, message)| out.push_str(&format!("{reason}: {message}\n")));
        plan.look_again.iter().for_each(|wait| out.push_str(&format!("look again in {wait:#}\n")));
        if out.is_empty() { "nothing to do".to_string() } else { out }
    });
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

fn volume(at: usize) -> Arc<Volume> {
    Arc::new(read(json!({
        "metadata": {"name": format!("v{at}")},
        "spec": {"accessModes": ["ReadWriteOnce"], "csi": {"driver": "csi.example.org", "volumeHandle": format!("h{at}")},
                 "claimRef": {"namespace": "n", "name": format!("c{at}")}},
    })))
}

fn claim(at: usize) -> Arc<Claim> {
    Arc::new(read(json!({
        "metadata": {"name": format!("c{at}"), "namespace": "n"},
        "spec": {"volumeName": format!("v{at}")}, "status": {"phase": "Bound"},
    })))
}

fn pod(at: usize) -> Arc<Pod> {
    Arc::new(read(json!({
        "metadata": {"name": format!("p{at}"), "namespace": "n"},
        "spec": {"nodeName": NODE, "containers": [],
                 "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": format!("c{at}")}}]},
    })))
}

/// What another plugin has attached to the node.
const FOREIGN: &str = "kubernetes.io/iscsi/10.0.0.1:3260:iqn.example:0";

/// The cluster's part: drivers attach, detached attachments go, the node writes what it is told.
fn settle(world: &mut World, plan: Plan) {
    if let (Some(list), Some(node)) = (plan.report, &mut world.node) {
        node.status.get_or_insert_default().volumes_attached = Some(list);
    }
    world.attachments.retain(|a| !plan.detach.contains(&a.name().to_string()));
    for mut new in plan.attach {
        new.status = Some(read(json!({"attached": true})));
        world.attachments.push(Arc::new(new));
    }
}

proptest! {
    /// However pods come and go: soon exactly what they use is attached and told to the node, and nothing is detached
    /// that the node still uses or lists.
    #[test]
    fn plan_then_apply_settles(
        first in proptest::collection::btree_set(0usize..5, 0..5), second in proptest::collection::btree_set(0usize..5, 0..5),
        slow in any::<bool>(),
    ) {
        let mut world = World {
            node: Some(read(json!({
                "metadata": {"name": NODE, "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}},
                "status": {"conditions": [{"type": "Ready", "status": "True"}],
                           "volumesAttached": [{"name": FOREIGN, "devicePath": "/dev/sdx"}]},
            }))),
            pods: vec![], claims: (0..5).map(claim).collect(), volumes: (0..5).map(volume).collect(),
            attachments: vec![], unwanted_since: BTreeMap::new(),
        };
        for wanted in [first, second] {
            world.pods = wanted.iter().copied().map(pod).collect();
            for round in 0..6 {
                let plan = world.plan();
                let node = world.node.as_ref().and_then(|n| n.status.clone()).expect("a status");
                for gone in &plan.detach {
                    let used = node.volumes_in_use.iter().flatten().any(|u| {
                        (0..5).any(|i| Attachable::of(&volume(i)).is_some_and(|a| a.unique_name() == *u && attachment_name(&a, NODE) == *gone))
                    });
                    prop_assert!(!used, "{gone} is in use");
                }
                settle(&mut world, plan);
                // The node uses what is attached, and lets go of it when its pods are gone, maybe a little later.
                let names: Vec<String> = world.wanted().into_keys().collect();
                let status = world.node.as_mut().and_then(|n| n.status.as_mut()).expect("a status");
                if !slow || round > 1 {
                    status.volumes_in_use = Some(names);
                }
            }
            let quiet = Plan { unwanted: Default::default(), ..world.plan() };
            prop_assert_eq!(quiet, Plan::default());
            prop_assert_eq!(world.attachments.len(), wanted.len());
            let listed = world.node.as_ref().and_then(|n| n.status.as_ref()?.volumes_attached.as_ref());
            prop_assert_eq!(listed.map_or(0, Vec::len), wanted.len() + 1);
            prop_assert!(listed.is_some_and(|l| l.iter().any(|v| v.name == FOREIGN && v.device_path == "/dev/sdx")));
        }
    }

    /// A node that attaches by itself is left alone.
    #[test]
    fn a_satisfied_view_needs_nothing(pods in proptest::collection::btree_set(0usize..5, 0..5)) {
        let world = World {
            node: Some(read(json!({"metadata": {"name": NODE}}))),
            pods: pods.into_iter().map(pod).collect(), claims: (0..5).map(claim).collect(),
            volumes: (0..5).map(volume).collect(), attachments: vec![], unwanted_since: BTreeMap::new(),
        };
        prop_assert_eq!(world.plan(), Plan::default());
    }

    /// What the pods of a node use is attached, in use and told: nothing is attached twice, nor detached.
    #[test]
    fn what_is_attached_and_used_stays(wanted in proptest::collection::btree_set(0usize..5, 0..5)) {
        let attached = |at: &usize| Attachable::of(&volume(*at)).expect("a CSI volume");
        let names: Vec<String> = wanted.iter().map(|at| attached(at).unique_name()).collect();
        let list: Vec<Value> = names.iter().map(|n| json!({"name": n, "devicePath": ""})).collect();
        let attachment = |at: &usize| -> Arc<VolumeAttachment> {
            Arc::new(read(json!({
                "metadata": {"name": attachment_name(&attached(at), NODE)}, "status": {"attached": true},
                "spec": {"attacher": "csi.example.org", "nodeName": NODE, "source": {"persistentVolumeName": format!("v{at}")}},
            })))
        };
        let world = World {
            node: Some(read(json!({
                "metadata": {"name": NODE, "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}},
                "status": {"conditions": [{"type": "Ready", "status": "True"}], "volumesAttached": list, "volumesInUse": names},
            }))),
            pods: wanted.iter().copied().map(pod).collect(), claims: (0..5).map(claim).collect(),
            volumes: (0..5).map(volume).collect(), attachments: wanted.iter().map(attachment).collect(),
            unwanted_since: BTreeMap::new(),
        };
        prop_assert_eq!(world.plan(), Plan::default());
    }
}
