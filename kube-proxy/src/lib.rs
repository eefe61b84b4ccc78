//! kube-proxy: leads traffic for Services to their endpoints, by rules in the kernel.
//!
//! [`model`] decides (pure), [`iptables`] renders (pure) and loads, [`proxier`] keeps both in step with the API server.
//! Start reading at [`proxier::Proxier::run`]. Upstream: pkg/proxy, cmd/kube-proxy.

pub mod iptables;
pub mod metrics;
pub mod model;
pub mod proxier;
pub mod status;
