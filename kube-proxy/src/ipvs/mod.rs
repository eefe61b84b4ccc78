//! Mode ipvs: virtual servers in the kernel's IPVS, their addresses on a device of their own, ipsets, and a few iptables
//! rules that match those sets.
//!
//! [`part`] turns one Service into its share (pure); [`ruleset`] keeps who needs what and composes the changes of a full
//! or incremental load (pure); [`rules`] renders the iptables text (pure); [`draining`] decides what becomes of real
//! servers that are to go (pure); [`kernel`] looks and applies by [`netlink`], [`device`] and [`ipset`]. Names of sets,
//! chains and the device are upstream's, so that a node can change hands in either direction. Does not weigh endpoints
//! and knows no firewall marks, as upstream. Start reading at [`ruleset::Ruleset::full`].
//! Upstream: pkg/proxy/ipvs/proxier.go.

pub mod check;
pub mod cleanup;
pub mod device;
pub mod draining;
pub mod ipset;
pub mod kernel;
pub mod netlink;
pub mod part;
pub mod rules;
pub mod ruleset;
pub mod server;
pub mod set;
#[cfg(test)]
mod tests;
