//! What the API server is told about a pod.
//!
//! [`generate`] is pure: it turns a pod, its state on the runtime and its last status into the next one. [`cache`] keeps
//! the latest status of each pod and decides what is sent; [`manager`] sends it. Upstream: pkg/kubelet/status and
//! pkg/kubelet/kubelet_pods.go generateAPIPodStatus, v1.37.

pub mod cache;
mod conditions;
mod containers;
pub mod generate;
pub mod manager;
mod phase;
mod resources;
