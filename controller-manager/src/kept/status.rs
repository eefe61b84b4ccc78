//! What a pod is, as far as it is read.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use informer::{Name, Shared, pooled, settle};
use k8s_openapi::api::core::v1::{
    PodExtendedResourceClaimStatus, PodResourceClaimStatus, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use machinery::message;
use machinery::proto::read::{self, Message};
use machinery::proto::wire::{Result, Wire};
use serde::Deserialize;

use super::foreign;
use super::second::Second;

pooled!(by hash Said);

message!(PodStatus, "core/v1.PodStatus" {
    1 phase (shown value),
    2 conditions (by condition),
    4 reason (shown value),
    6 pod_ip (shown value),
    7 start_time (by foreign::time),
    8 container_statuses (some structs),
    9 qos_class (shown value),
    10 init_container_statuses (some structs),
    12 pod_ips (some structs),
    15 resource_claim_statuses (by foreign::resource_claim_status),
    18 extended_resource_claim_status (by foreign::extended_claim_status),
});

message!(ReadCondition, "core/v1.PodCondition" {
    1 type_ (value),
    2 status (value),
    4 last_transition_time (by foreign::time),
    5 reason (shown value),
    7 observed_generation (shown value),
});

fn condition(to: &mut Option<Vec<PodCondition>>, wire: u8, from: &mut Wire<'_>) -> Result<()> {
    let read: ReadCondition = read::message(read::part(wire, from)?)?;
    to.get_or_insert_default().push(read.into());
    Ok(())
}

message!(ContainerStatus, "core/v1.ContainerStatus" {
    1 name (value),
    2 state (some struct),
    5 restart_count (value),
    10 allocated_resources (by foreign::shared_quantity),
    11 resources (by foreign::shared_requirements),
});

message!(ContainerState, "core/v1.ContainerState" {
    1 waiting (some struct),
    3 terminated (by terminated),
});

message!(Waiting, "core/v1.ContainerStateWaiting" {});
message!(Terminated, "core/v1.ContainerStateTerminated" {
    1 exit_code (value),
    6 finished_at (by foreign::time),
});

fn terminated(to: &mut Option<Box<Terminated>>, wire: u8, from: &mut Wire<'_>) -> Result<()> {
    to.get_or_insert_default().merge(read::part(wire, from)?)
}

message!(PodIP, "core/v1.PodIP" { 1 ip (value) });

/// A pod's status.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    pub phase: Option<Name>,
    pub reason: Option<Name>,
    pub qos_class: Option<Name>,
    pub conditions: Option<Vec<PodCondition>>,
    pub container_statuses: Option<Vec<ContainerStatus>>,
    pub init_container_statuses: Option<Vec<ContainerStatus>>,
    #[serde(rename = "podIP")]
    pub pod_ip: Option<Box<str>>,
    #[serde(rename = "podIPs")]
    pub pod_ips: Option<Vec<PodIP>>,
    pub start_time: Option<Second>,
    pub resource_claim_statuses: Option<Vec<PodResourceClaimStatus>>,
    pub extended_resource_claim_status: Option<Box<PodExtendedResourceClaimStatus>>,
}

impl PodStatus {
    pub fn settle(&mut self, old: Option<&Self>) {
        let before = old.and_then(|o| o.conditions.as_deref()).unwrap_or_default();
        for (at, condition) in self.conditions.iter_mut().flatten().enumerate() {
            condition.said.settle(before.get(at).map(|c| &c.said));
        }
        if let Some(all) = &mut self.conditions {
            all.shrink_to_fit();
        }
        settle_containers(&mut self.container_statuses, old.map(|o| &o.container_statuses));
        settle_containers(&mut self.init_container_statuses, old.map(|o| &o.init_container_statuses));
        if let Some(all) = &mut self.pod_ips {
            all.shrink_to_fit();
        }
    }
}

fn settle_containers(all: &mut Option<Vec<ContainerStatus>>, old: Option<&Option<Vec<ContainerStatus>>>) {
    let before = old.and_then(|o| o.as_deref()).unwrap_or_default();
    for (at, status) in all.iter_mut().flatten().enumerate() {
        let before = before.get(at);
        settle(&mut status.resources, before.map(|s| &s.resources));
        settle(&mut status.allocated_resources, before.map(|s| &s.allocated_resources));
    }
    if let Some(all) = all {
        all.shrink_to_fit();
    }
}

/// A condition. Reads like what it says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "ReadCondition")]
pub struct PodCondition {
    said: Shared<Said>,
    pub last_transition_time: Option<Second>,
}

/// What conditions of many pods say alike.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub struct Said {
    pub type_: Name,
    pub status: Name,
    pub reason: Option<Name>,
    pub observed_generation: Option<i64>,
}

impl Deref for PodCondition {
    type Target = Said;
    fn deref(&self) -> &Said {
        &self.said
    }
}

impl DerefMut for PodCondition {
    fn deref_mut(&mut self) -> &mut Said {
        &mut self.said
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ReadCondition {
    #[serde(rename = "type")]
    type_: Name,
    status: Name,
    reason: Option<Name>,
    observed_generation: Option<i64>,
    last_transition_time: Option<Second>,
}

impl From<ReadCondition> for PodCondition {
    fn from(read: ReadCondition) -> Self {
        let ReadCondition { type_, status, reason, observed_generation, last_transition_time } = read;
        let said = Shared::new(Said { type_, status, reason, observed_generation });
        Self { said, last_transition_time }
    }
}

/// A container's status.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    pub name: Name,
    pub restart_count: i32,
    pub state: Option<ContainerState>,
    pub resources: Option<Shared<ResourceRequirements>>,
    pub allocated_resources: Option<Shared<BTreeMap<String, Quantity>>>,
}

/// A container that runs is neither.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    pub terminated: Option<Box<Terminated>>,
    pub waiting: Option<Waiting>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Terminated {
    pub exit_code: i32,
    pub finished_at: Option<Second>,
}

/// Only that it waits.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Waiting {}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PodIP {
    pub ip: Box<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    numbered_as_the_table!(
        PodStatus,
        ReadCondition,
        ContainerStatus,
        ContainerState,
        Waiting,
        Terminated,
        PodIP
    );
}
