//! Memory of single NUMA nodes for containers, and the reserve that the system keeps on each node.
//!
//! Under the policy `Static` each container of a guaranteed pod gets memory and huge pages from as few nodes as possible
//! ([`policy_static`] decides, [`hints`] says where from), which may not be used otherwise. What they have is remembered in a file
//! that either kubelet reads ([`checkpoint`]). Pods with resources of their own get none without the gate
//! PodLevelResourceManagers; [`whole_pods`] is what they get with it.
//! Start reading at [`manager`]. Upstream: pkg/kubelet/cm/memorymanager, v1.37.

pub mod checkpoint;
pub mod discover;
pub mod hints;
pub mod manager;
#[cfg(test)]
mod oracle_tests;
pub mod policy_static;
pub mod reserved;
pub mod state;
pub mod whole_pods;

pub use manager::MemoryManager;
