//! What becomes of claims and volumes.

use std::sync::Arc;

use client::Meta;
use k8s_openapi::api::core::v1::{PersistentVolume as Volume, PersistentVolumeClaim as Claim};
use k8s_openapi::api::storage::v1::StorageClass;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::bind::Write;
use super::volumes::Known;
use super::{claims, volumes};
use crate::scenario;

fn show(write: &Write) -> String {
    match write {
        Write::Volume(new) => format!("volume\n{}", scenario::yaml(new)),
        Write::VolumeStatus(new) => format!("volume {} status\n{}", new.name(), scenario::yaml(&new.status)),
        Write::Claim(new) => format!("claim\n{}", scenario::yaml(new)),
        Write::ClaimStatus(new) => format!("claim {} status\n{}", new.name(), scenario::yaml(&new.status)),
    }
}

#[test]
fn scenarios_of_claims() {
    scenario::check("persistentvolume/testdata/claims", |given| {
        let view = claims::View {
            claim: &given.one::<Claim>(),
            volumes: &given.shared::<Volume>(),
            classes: &given.shared::<StorageClass>(),
            waiting_pods: &given.setting::<Vec<String>>("waitingPods").unwrap_or_default(),
            provisions: true,
        };
        let (plan, error) = match claims::plan(&view) {
            Ok(plan) => (plan, None),
            Err((error, plan)) => (plan, Some(error)),
        };
        let mut out = plan.write.as_ref().map_or_else(|| "nothing to write\n".to_string(), show);
        if let Some((kind, reason, message)) = plan.told {
            out.push_str(&format!("{kind} {reason}: {message}\n"));
        }
        error.iter().for_each(|e| out.push_str(&format!("error: {e}\n")));
        out
    });
}

#[test]
fn scenarios_of_volumes() {
    scenario::check("persistentvolume/testdata/volumes", |given| {
        let (claim, live) = (given.maybe::<Claim>(), given.setting::<bool>("live").unwrap_or(false));
        let known = if live { Known::Live(claim.as_ref()) } else { Known::Cached(claim.as_ref()) };
        match volumes::plan(&given.one::<Volume>(), known) {
            volumes::Plan::Write(write) => show(&write),
            volumes::Plan::Tell(write, reason, message) => format!("{}{reason}: {message}", show(&write)),
            other => format!("{other:?}"),
        }
    });
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

/// A world of volumes and claims, in which writes happen at once.
#[derive(Clone)]
struct World {
    volumes: Vec<Arc<Volume>>,
    claims: Vec<Arc<Claim>>,
}

impl World {
    fn apply(&mut self, write: Write) {
        fn put<K: Meta>(all: &mut [Arc<K>], new: K) {
            let at = all.iter().position(|o| o.name() == new.name()).expect("a known object");
            all[at] = Arc::new(new);
        }
        match write {
            Write::Volume(new) | Write::VolumeStatus(new) => put(&mut self.volumes, *new),
            Write::Claim(new) | Write::ClaimStatus(new) => put(&mut self.claims, *new),
        }
    }

    fn claim_write(&self, at: usize) -> Option<Write> {
        let view = claims::View {
            claim: &self.claims[at],
            volumes: &self.volumes,
            classes: &[],
            waiting_pods: &[],
            provisions: true,
        };
        claims::plan(&view).map(|p| p.write).unwrap_or(None)
    }

    fn volume_write(&self, at: usize) -> Option<Write> {
        let volume = &self.volumes[at];
        let key = super::claim_key(volume).unwrap_or_default();
        let claim = self.claims.iter().find(|c| c.key() == key);
        match volumes::plan(volume, Known::Live(claim.map(|c| &**c))) {
            volumes::Plan::Write(write) | volumes::Plan::Tell(write, ..) => Some(write),
            _ => None,
        }
    }

    /// One round: everybody's next write, in this order.
    fn round(&mut self, claims_first: bool) -> bool {
        let before = (self.volumes.clone(), self.claims.clone());
        for half in [claims_first, !claims_first] {
            let count = if half { self.claims.len() } else { self.volumes.len() };
            for at in 0..count {
                let write = if half { self.claim_write(at) } else { self.volume_write(at) };
                write.into_iter().for_each(|w| self.apply(w));
            }
        }
        before != (self.volumes.clone(), self.claims.clone())
    }
}

fn volume(at: usize, size: u8, reserved: Option<u8>, phase: &str) -> Arc<Volume> {
    let reference = reserved.map(|c| json!({"namespace": "n", "name": format!("c{c}")}));
    Arc::new(read(json!({
        "metadata": {"name": format!("v{at}")},
        "spec": {"capacity": {"storage": format!("{size}Gi")}, "accessModes": ["ReadWriteOnce"], "claimRef": reference,
                 "persistentVolumeReclaimPolicy": "Retain", "storageClassName": ""},
        "status": {"phase": phase},
    })))
}

fn claim(at: usize, size: u8, named: Option<u8>) -> Arc<Claim> {
    Arc::new(read(json!({
        "metadata": {"name": format!("c{at}"), "namespace": "n", "uid": format!("u{at}")},
        "spec": {"resources": {"requests": {"storage": format!("{size}Gi")}}, "accessModes": ["ReadWriteOnce"],
                 "volumeName": named.map(|v| format!("v{v}")), "storageClassName": ""},
        "status": {"phase": "Pending"},
    })))
}

proptest! {
    /// Whatever is reserved for whom: everything settles, no volume serves two claims, and no claim gets too little unless
    /// it asks for it.
    #[test]
    fn plan_then_apply_settles(
        volumes in proptest::collection::vec((1u8..5, proptest::option::weighted(0.2, 0u8..4)), 0..6),
        claims in proptest::collection::vec((1u8..5, proptest::option::weighted(0.2, 0u8..6)), 0..5),
        order in proptest::collection::vec(any::<bool>(), 30),
    ) {
        let mut world = World {
            volumes: volumes.iter().enumerate().map(|(i, (size, claim))| volume(i, *size, *claim, "Pending")).collect(),
            claims: claims.iter().enumerate().map(|(i, (size, name))| claim(i, *size, *name)).collect(),
        };
        let rounds = order.iter().take_while(|first| world.round(**first)).count();
        prop_assert!(rounds < 30, "it never settles");
        for claim in &world.claims {
            let name = super::volume_name(claim);
            if super::facts::claim_phase(claim) == "Bound" {
                let mine: Vec<_> = world.volumes.iter().filter(|v| super::facts::claim_uid(v) == claim.uid()).collect();
                prop_assert_eq!(mine.len(), 1);
                prop_assert_eq!(mine[0].name(), name);
                // Who asks for a volume that is reserved for him gets it as it is.
                let chosen = claims[claim.uid()[1..].parse::<usize>().expect("a number")].1.is_some();
                let too_small = super::facts::is_smaller(&super::facts::capacity(mine[0]), &super::facts::request(claim));
                prop_assert!(chosen || !too_small);
            }
        }
    }

    /// What is bound needs nothing, in whatever order it is looked at.
    #[test]
    fn a_satisfied_view_needs_nothing(sizes in proptest::collection::vec(1u8..5, 1..5)) {
        let mut world = World {
            volumes: sizes.iter().enumerate().map(|(i, size)| volume(i, *size, None, "Available")).collect(),
            claims: sizes.iter().enumerate().map(|(i, size)| claim(i, *size, None)).collect(),
        };
        let mut left = 20;
        while world.round(true) && left > 0 {
            left -= 1;
        }
        prop_assert!(world.claims.iter().all(|c| super::facts::claim_phase(c) == "Bound"));
        prop_assert!((0..sizes.len()).all(|i| world.claim_write(i).is_none() && world.volume_write(i).is_none()));
    }
}
