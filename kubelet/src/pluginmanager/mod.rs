//! Programs that register by a socket in the kubelet's folder `plugins_registry`: drivers of claimed devices and device
//! plugins.
//!
//! The folder is watched ([`watcher`]); what is to be done with which socket is decided by [`sockets`], and [`registration`]
//! does it; [`manager`] puts them together. Nothing is looked at periodically: upstream compares what is with what should
//! be once a second. Drivers of volumes (`CSIPlugin`) are told that nobody here takes them, as this kubelet has no such
//! volumes. Start reading at [`sockets::Sockets`]. Upstream: pkg/kubelet/pluginmanager, v1.37.

pub mod manager;
pub mod registration;
pub mod sockets;
#[cfg(test)]
mod tests;
pub mod watcher;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

/// Type of device plugins.
pub const DEVICE_PLUGIN: &str = "DevicePlugin";
/// Type of drivers of claimed devices.
pub const DRA_PLUGIN: &str = "DRAPlugin";

/// What a program says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginInfo {
    /// What it is for, such as `DRAPlugin`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Where it is called: the socket that it registers at, or another one.
    pub endpoint: PathBuf,
    /// Versions of interfaces that it has.
    pub versions: Vec<String>,
}

/// Takes programs of one type.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Whether the program can be taken.
    ///
    /// # Errors
    /// Why not.
    fn validate(&self, plugin: &PluginInfo) -> Result<(), String>;

    /// Takes the program.
    ///
    /// # Errors
    /// Why it cannot.
    async fn register(&self, plugin: &PluginInfo) -> Result<(), String>;

    /// The program is gone.
    fn deregister(&self, plugin: &PluginInfo);
}

/// By type.
pub type Handlers = BTreeMap<String, Arc<dyn Handler>>;
