//! Where pods come from: the API server, and manifests in files.
//!
//! Manifests by URL are not supported yet and refused at start. Upstream: pkg/kubelet/config, v1.37.

pub mod file;
pub mod manifest;
pub mod uid;
