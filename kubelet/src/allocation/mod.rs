//! What pods were promised, and which changes of their resources the node takes.
//!
//! A pod is run with the resources that it was promised, not with those that its spec asks for now. A change that does not
//! fit waits, and is tried again when something has changed. Both what is promised and what is in force are kept in files
//! that either kubelet reads ([`state`]). Decisions are pure: [`admit`], [`changes`], [`order`], [`conditions`]. Putting
//! a promise in force is [`crate::runtime::resize`]. Start reading at
//! [`manager::Allocations::retry`].
//!
//! Sizes of volumes in memory are not changed (InPlacePodVerticalScalingMemoryBackedVolumes, off by default); what the
//! files say of them is kept until the pod is promised something new. Upstream: pkg/kubelet/allocation, v1.37.

pub mod admit;
pub mod changes;
pub mod checkpoint;
pub mod conditions;
mod handle;
mod kubelet;
pub mod manager;
pub mod messages;
pub mod order;
pub mod resources;
pub mod state;

#[cfg(test)]
mod oracle_tests;
