//! What a container is made from: environment, mounts, security, limits, and the messages that create it.
//!
//! Everything here is pure; what has to be read first (secrets, services, image users) is an argument. Start reading at
//! [`config::container_config`]. Upstream: pkg/kubelet/kubelet_pods.go and pkg/kubelet/kuberuntime/kuberuntime_container*.go.

pub mod config;
pub mod downward;
pub mod env;
pub mod expansion;
pub mod limits;
pub mod sandbox;
pub mod security;
pub mod service_env;
