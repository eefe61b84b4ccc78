//! Processors of their own for containers: which ones, and keeping everything else off them.
//!
//! [`policy_static`] decides, [`assignment`] chooses the processors, [`manager`] keeps the state on disk and tells the
//! runtime. Pods with resources of their own get none without the gate PodLevelResourceManagers, [`whole_pods`] is what they
//! get with it. Resizing of exclusive processors is not supported. Start reading at [`policy_static::StaticPolicy`].
//! Upstream: pkg/kubelet/cm/cpumanager, v1.37.

pub mod accumulator;
pub mod assignment;
pub mod checkpoint;
mod combinations;
pub mod cpuset;
pub mod discover;
pub mod manager;
pub mod options;
pub mod policy_static;
pub mod state;
pub mod topology;
pub mod whole_pods;

#[cfg(test)]
mod oracle_tests;

pub use manager::CpuManager;
