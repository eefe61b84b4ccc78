//! Rules for nftables: rendered as text, run by nft as one transaction.
//!
//! [`base`] is what every node has, [`render`] turns one service port into chains and elements (pure); [`ruleset`]
//! composes full and incremental transactions (pure); [`command`] runs the program. Table, chains, sets and maps are
//! upstream's, so that a node can change hands in either direction. Upstream: pkg/proxy/nftables/proxier.go.

pub mod base;
pub mod command;
pub mod names;
pub mod render;
pub mod ruleset;
#[cfg(test)]
mod tests;
pub mod wire;
