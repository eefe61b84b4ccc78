//! Device plugins that register by a socket in `plugins_registry`. Upstream: plugin/v1beta1/handler.go.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::DeviceManager;
use super::plugin::{Plugin, VERSION, is_valid_name, listen};
use crate::pluginmanager::{Handler, PluginInfo};

/// Takes such plugins for the manager.
pub struct Registry {
    manager: Arc<DeviceManager>,
    /// Ends what is heard of a plugin, by name and socket.
    heard: Mutex<HashMap<(String, PathBuf), CancellationToken>>,
    stop: CancellationToken,
}

impl Registry {
    /// Plugins are heard until `stop`.
    pub fn new(manager: Arc<DeviceManager>, stop: CancellationToken) -> Self {
        Self { manager, heard: Mutex::default(), stop }
    }
}

#[async_trait]
impl Handler for Registry {
    fn validate(&self, plugin: &PluginInfo) -> Result<(), String> {
        if !plugin.versions.iter().any(|version| version == VERSION) {
            let versions = plugin.versions.join(" ");
            return Err(format!(
                "manager version, {VERSION}, is not among plugin supported versions [{versions}]"
            ));
        }
        if !is_valid_name(&plugin.name) {
            let name = &plugin.name;
            return Err(format!(
                "invalid name of device plugin socket: the ResourceName {name:?} is invalid"
            ));
        }
        Ok(())
    }

    async fn register(&self, info: &PluginInfo) -> Result<(), String> {
        let plugin = Plugin::connect(&info.endpoint).await.map_err(|status| status.message().to_owned())?;
        self.manager.connected(&info.name, &plugin)?;
        let token = self.stop.child_token();
        self.heard.lock().insert((info.name.clone(), info.endpoint.clone()), token.clone());
        tokio::spawn(listen(self.manager.clone(), info.name.clone(), plugin, token));
        Ok(())
    }

    fn deregister(&self, info: &PluginInfo) {
        if let Some(token) = self.heard.lock().remove(&(info.name.clone(), info.endpoint.clone())) {
            token.cancel();
        }
        self.manager.disconnected(&info.name, &info.endpoint);
    }
}
