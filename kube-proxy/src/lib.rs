//! kube-proxy: leads traffic for Services to their endpoints, by rules in the kernel.
//!
//! [`model`] decides (pure), [`iptables`] renders (pure) and loads, [`proxier`] keeps both in step with the API server,
//! [`app`] assembles. Start reading at [`proxier::Proxier::run`]. Not there yet: modes nftables and ipvs (refused at
//! start), removal of stale UDP flows. Upstream: pkg/proxy, cmd/kube-proxy.

pub mod app;
pub mod config;
mod flags;
pub mod iptables;
pub mod metrics;
pub mod model;
pub mod node;
pub mod options;
pub mod proxier;
pub mod server;
pub mod status;
pub mod sysctl;
