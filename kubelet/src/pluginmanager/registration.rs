//! Asks who listens at a socket and registers it. Upstream: operationexecutor/operation_generator.go.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pluginapi::registration::registration_client::RegistrationClient;
use pluginapi::registration::{InfoRequest, RegistrationStatus};
use tonic::Request;
use tonic::transport::Channel;

use super::{Handlers, PluginInfo};
use crate::rpc::{dial, error_text};

/// How long a program may take to listen.
const DIAL: Duration = Duration::from_secs(10);
/// How long it may take to say who it is.
const INFO: Duration = Duration::from_secs(1);
/// How long it may take to hear what came of it.
const NOTIFY: Duration = Duration::from_secs(5);

/// Registers the program that listens at a socket, and tells it so, or why not.
///
/// # Errors
/// Why not.
pub async fn register(socket: &Path, handlers: &Handlers) -> Result<PluginInfo, String> {
    let at = socket.display();
    let channel = dial(socket, DIAL).await.map_err(|e| {
        format!(
            "RegisterPlugin error -- dial failed at socket {at}, err: failed to dial socket {at}, err: {e}"
        )
    })?;
    let mut client = RegistrationClient::new(channel);
    let plugin = info(&mut client, socket).await.map_err(|e| {
        format!(
            "RegisterPlugin error -- failed to get plugin info using RPC GetInfo at socket {at}, err: {e}"
        )
    })?;
    let untold = |e: String| format!("RegisterPlugin error -- failed to send error at socket {at}, err: {e}");
    let Some(handler) = handlers.get(&plugin.kind) else {
        let kind = &plugin.kind;
        let why =
            format!("RegisterPlugin error -- no handler registered for plugin type: {kind} at socket {at}");
        tell(&mut client, &why).await.map_err(untold)?;
        return Err(why);
    };
    if let Err(error) = handler.validate(&plugin) {
        let why = format!("RegisterPlugin error -- plugin validation failed with err: {error}");
        tell(&mut client, &why).await.map_err(untold)?;
        return Err(why);
    }
    if let Err(error) = handler.register(&plugin).await {
        let why = format!("RegisterPlugin error -- plugin registration failed with err: {error}");
        tell(&mut client, &why).await?;
        return Err(why);
    }
    if let Err(error) = tell(&mut client, "").await {
        handler.deregister(&plugin);
        return Err(format!(
            "RegisterPlugin error -- failed to send registration status at socket {at}, err: {error}"
        ));
    }
    Ok(plugin)
}

async fn info(client: &mut RegistrationClient<Channel>, socket: &Path) -> Result<PluginInfo, String> {
    let mut request = Request::new(InfoRequest {});
    request.set_timeout(INFO);
    let answer = client.get_info(request).await.map_err(|e| error_text(&e))?.into_inner();
    Ok(PluginInfo {
        kind: answer.r#type,
        name: answer.name,
        endpoint: if answer.endpoint.is_empty() { socket.to_owned() } else { PathBuf::from(answer.endpoint) },
        versions: answer.supported_versions,
    })
}

/// Tells what came of it; nothing means that all is well.
async fn tell(client: &mut RegistrationClient<Channel>, error: &str) -> Result<(), String> {
    let status = RegistrationStatus { plugin_registered: error.is_empty(), error: error.to_owned() };
    let mut request = Request::new(status);
    request.set_timeout(NOTIFY);
    match client.notify_registration_status(request).await {
        Ok(_) => Ok(()),
        Err(status) => Err(format!("{error}: {}", error_text(&status))),
    }
}
