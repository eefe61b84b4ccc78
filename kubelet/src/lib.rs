//! The kubelet: runs the pods that the API server assigns to this node on a container runtime.
//!
//! Decisions are pure functions ([`runtime::actions`], [`status::generate`]); effects are thin shells around them. It
//! does not contain the container runtime or CSI. Start reading at
//! [`runtime::actions::plan`]. Upstream: cmd/kubelet and pkg/kubelet, v1.37.

mod admission;
pub mod allocation;
pub mod app;
mod apparmor;
mod authority;
mod backoff;
pub mod certificate;
pub mod cgroup;
pub mod config;
pub mod container;
pub mod cpumanager;
pub mod devicemanager;
pub mod dra;
mod events;
pub mod eviction;
mod flags;
mod hooks;
mod housekeeping;
mod http_get;
pub mod image;
pub mod kubelet;
mod lockfile;
pub mod logs;
pub mod memorymanager;
mod metrics;
pub mod network;
pub mod node;
mod node_facts;
pub mod nodeshutdown;
mod oom;
pub mod options;
mod paths;
mod pleg;
pub mod pluginmanager;
pub mod pod;
pub mod podcertificate;
pub mod podresources;
pub mod podsapi;
pub mod preemption;
pub mod probe;
mod rpc;
pub mod runtime;
pub mod server;
pub mod spans;
pub mod status;
mod sysctl;
pub mod topologymanager;
pub mod userns;
pub mod volume;
pub mod worker;
