//! Volumes of pods: what they hold, where they are, making and removing them.
//!
//! [`payload`] decides the files of ConfigMap, Secret, downward API and projected volumes; [`atomic`] puts them on disk so
//! that readers see all of a change or nothing; [`claim`] and [`persistent`] find what is behind a claim; [`manager`] does the
//! work; [`stats`] measures what volumes take. CSI, block devices, iSCSI and fibre channel are refused with an error for
//! now. Layout on disk as upstream's, so that either kubelet can take over.
//! Upstream: pkg/volume and pkg/kubelet/volumemanager, v1.37.

pub mod atomic;
pub mod claim;
pub mod host_path;
pub mod manager;
pub mod mounter;
pub mod mounts;
pub mod objects;
pub mod ownership;
pub mod payload;
pub mod persistent;
pub mod place;
mod projected;
pub mod stats;
pub mod token;
pub mod trust_bundle;
pub mod usage;
