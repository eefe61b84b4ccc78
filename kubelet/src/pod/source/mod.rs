//! Where pods come from besides the API server: manifests in files and behind a URL. Upstream: pkg/kubelet/config, v1.37.

pub mod file;
pub mod manifest;
pub mod sink;
pub mod uid;
pub mod url;
