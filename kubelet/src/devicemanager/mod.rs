//! Devices of plugins: who offers which, and which container has been given which.
//!
//! Plugins register at a socket, or by a socket of their own ([`registry`]), and say what they have ([`plugin`]). Before a
//! pod is admitted its containers get devices ([`choose`] decides, [`manager`] asks the plugin), near to their processors if
//! so configured ([`hints`]); what a plugin answers goes into the containers ([`settings`]). What was given survives a restart
//! ([`checkpoint`]).
//! Start reading at [`state::State`] and [`manager::DeviceManager::allocate`]. Upstream: pkg/kubelet/cm/devicemanager, v1.37.

pub mod checkpoint;
pub mod choose;
pub mod hints;
pub mod manager;
pub mod plugin;
pub mod registry;
pub mod settings;
pub mod state;
#[cfg(test)]
mod tests;

pub use manager::DeviceManager;

/// Folder of plugins' sockets, of the socket to register at, and of the checkpoint: the interface fixes it, wherever the
/// kubelet's own folder is.
pub const FOLDER: &str = "/var/lib/kubelet/device-plugins";
