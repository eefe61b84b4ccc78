//! Images: making sure that they are on the node, with the credentials of pods, and removing unused ones.
//!
//! Upstream: pkg/kubelet/images and pkg/credentialprovider, v1.37.

pub mod collect;
pub mod credentials;
pub mod gc;
pub mod manager;
pub mod provider;
pub mod pullmanager;
pub mod reference;
