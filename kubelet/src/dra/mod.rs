//! Claims of devices: drivers prepare what the scheduler allocated before a pod starts, and take it back once it has
//! stopped.
//!
//! A driver registers by a socket ([`drivers`], which keeps a connection to it by [`link`]). Before a pod's sandbox is made
//! its claims are read and checked ([`resolve`]), and their drivers are asked to prepare them ([`manager`]); what they
//! answer is kept by [`claims`], survives a restart ([`checkpoint`]) and goes into the containers. When a driver is gone
//! for long, the node no longer offers its devices ([`wipe`]). What drivers say of their devices' health is in [`health`].
//! Start reading at [`claims::Claims`] and [`manager::DraManager::prepare`]. Upstream: pkg/kubelet/cm/dra, v1.37.

pub mod checkpoint;
pub mod claims;
pub mod drivers;
pub mod health;
pub mod link;
pub mod manager;
pub mod resolve;
#[cfg(test)]
mod tests;
pub mod wipe;

pub use manager::DraManager;
