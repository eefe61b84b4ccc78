//! Pods on the container runtime: what is there, what should be, and the steps from one to the other.
//!
//! [`model`] is the kubelet's picture of a pod on the runtime; [`actions`] is the pure decision what to do next;
//! [`garbage`] decides what of the dead is removed.
//! Start reading at [`actions::plan`]. Upstream: pkg/kubelet/kuberuntime, v1.37.

pub mod actions;
pub mod actuate;
pub mod collect;
pub mod garbage;
pub mod hash;
mod init_actions;
pub mod kill;
pub mod labels;
pub mod manager;
pub mod model;
pub mod query;
pub mod resize;
pub mod sketch;
mod start;
