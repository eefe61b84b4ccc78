//! Rules for iptables: rendered as text, loaded by iptables-restore.
//!
//! [`render`] turns one service port into rules (pure); [`ruleset`] keeps what every Service rendered to and composes
//! full and incremental loads (pure); [`command`] runs the programs. Chain names and rules are upstream's, so that a
//! node can change hands in either direction. Upstream: pkg/proxy/iptables/proxier.go.

pub mod chain;
pub mod cleanup;
pub mod command;
pub mod jumps;
pub mod nfacct;
pub mod render;
pub mod ruleset;
#[cfg(test)]
mod tests;
