//! kube-proxy: leads traffic for Services to their endpoints, by rules in the kernel.
//!
//! [`model`] decides (pure), [`iptables`], [`nftables`] and [`ipvs`] render (pure) and load, [`backend`] is one of them,
//! [`proxier`] keeps the kernel in step with the API server, [`app`] assembles. Start reading at
//! [`proxier::Proxier::run`]. Upstream: pkg/proxy, cmd/kube-proxy.

pub mod app;
pub mod backend;
pub mod cleanup;
pub mod config;
pub mod conntrack;
mod flags;
pub mod flaws;
pub mod generation;
mod hash;
pub mod health_check;
pub mod iptables;
pub mod ipvs;
pub mod kept;
pub mod metrics;
pub mod model;
mod netlink;
pub mod nftables;
pub mod node;
pub mod options;
pub mod program;
pub mod proxier;
pub mod rulez;
pub mod server;
pub mod settings;
pub mod status;
pub mod sysctl;
pub mod tally;
mod turn;
