//! Pods as the kubelet reads them: accessors, identity, QoS class, resource sums, and where pods come from.
//!
//! Typed pods come from `k8s_openapi`; most of their fields are optional, so the accessors here give the meaning of an
//! absent field in one place. Upstream: pkg/api/v1/pod/util.go and pkg/kubelet/types/pod_update.go, v1.37.

pub mod mirror;
pub mod qos;
pub mod resources;
pub mod restart;
pub mod source;
pub mod storage;
pub mod store;

pub mod view;

pub use k8s_openapi::api::core::v1::{
    Container, ContainerStatus as ApiContainerStatus, EphemeralContainer, Pod, PodCondition, PodSpec,
    PodStatus as ApiPodStatus,
};

/// Unique id of a pod, as text.
pub type Uid = String;
