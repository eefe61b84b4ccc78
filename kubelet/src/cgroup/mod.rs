//! Control groups: the tree of service classes, one group per pod, and their limits.
//!
//! [`tree`] names the groups; [`fs`] makes, limits and removes them on both hierarchies. Containers' own groups are made
//! by the runtime. Only the `cgroupfs` driver is here. Upstream: pkg/kubelet/cm, v1.37.

pub mod fs;
pub mod manager;
pub mod tree;
