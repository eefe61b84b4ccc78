//! The node's pods with the statuses that the kubelet knows, for agents on the node, by a socket.
//!
//! [`hub`] tells watchers what changes, [`view`] makes what is told of a pod, [`server`] serves.
//! Upstream: pkg/kubelet/apis/pods, v1.37.

pub mod hub;
mod kubelet;
pub mod server;
#[cfg(test)]
mod tests;
pub mod view;
