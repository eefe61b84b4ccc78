//! The manager with a plugin of its own over real sockets.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use pluginapi::registration::registration_server::{Registration, RegistrationServer};
use pluginapi::registration::{
    InfoRequest, PluginInfo as Info, RegistrationStatus, RegistrationStatusResponse,
};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::manager::PluginManager;
use super::{Handler, Handlers, PluginInfo};

/// Tells what it hears. A plugin called `bad` is not valid; one called `odd` cannot be registered.
struct Desk(mpsc::UnboundedSender<String>);

#[async_trait]
impl Handler for Desk {
    fn validate(&self, plugin: &PluginInfo) -> Result<(), String> {
        if plugin.name == "bad" { Err("no good".to_owned()) } else { Ok(()) }
    }

    async fn register(&self, plugin: &PluginInfo) -> Result<(), String> {
        self.0.send(format!("register {} {:?}", plugin.name, plugin.versions)).unwrap();
        if plugin.name == "odd" { Err("cannot".to_owned()) } else { Ok(()) }
    }

    fn deregister(&self, plugin: &PluginInfo) {
        self.0.send(format!("deregister {}", plugin.name)).unwrap();
    }
}

struct Plugin(Info, mpsc::UnboundedSender<String>);

#[tonic::async_trait]
impl Registration for Plugin {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<Info>, Status> {
        Ok(Response::new(self.0.clone()))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        self.1.send(format!("told {} {}", status.plugin_registered, status.error)).unwrap();
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

fn serve(socket: &Path, kind: &str, name: &str, heard: &mpsc::UnboundedSender<String>) -> CancellationToken {
    let stop = CancellationToken::new();
    let info = Info {
        r#type: kind.to_owned(),
        name: name.to_owned(),
        endpoint: String::new(),
        supported_versions: vec!["v1".to_owned()],
    };
    let listener = UnixListener::bind(socket).unwrap();
    let server =
        tonic::transport::Server::builder().add_service(RegistrationServer::new(Plugin(info, heard.clone())));
    let end = stop.clone().cancelled_owned();
    tokio::spawn(server.serve_with_incoming_shutdown(UnixListenerStream::new(listener), end));
    stop
}

#[tokio::test]
async fn registers_who_comes() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("plugins_registry");
    std::fs::create_dir(&folder).unwrap();
    let (sender, mut heard) = mpsc::unbounded_channel();
    let socket = folder.join("a.sock");
    let first = serve(&socket, "Kind", "a", &sender);
    let handlers: Handlers = [("Kind".to_owned(), Arc::new(Desk(sender.clone())) as Arc<dyn Handler>)].into();
    let (manager, stop) = (PluginManager::new(folder.clone(), handlers), CancellationToken::new());
    let running = tokio::spawn(manager.clone().run(stop.clone()));
    let mut next = async || heard.recv().await.unwrap();
    assert_eq!([next().await, next().await], ["register a [\"v1\"]", "told true "]);
    // Another one in its place.
    std::fs::remove_file(&socket).unwrap();
    first.cancel();
    assert_eq!(next().await, "deregister a");
    let _second = serve(&socket, "Kind", "b", &sender);
    assert_eq!([next().await, next().await], ["register b [\"v1\"]", "told true "]);
    let _bad = serve(&folder.join("bad.sock"), "Kind", "bad", &sender);
    let refused = "told false RegisterPlugin error -- plugin validation failed with err: no good";
    assert_eq!(next().await, refused);
    // Told again half a second later.
    assert_eq!(next().await, refused);
    std::fs::remove_file(folder.join("bad.sock")).unwrap();
    let _odd = serve(&folder.join("odd.sock"), "Kind", "odd", &sender);
    let refused = "told false RegisterPlugin error -- plugin registration failed with err: cannot";
    assert_eq!([next().await, next().await], ["register odd [\"v1\"]", refused]);
    std::fs::remove_file(folder.join("odd.sock")).unwrap();
    let csi = folder.join("csi.sock");
    let _csi = serve(&csi, "CSIPlugin", "c", &sender);
    let at = csi.display();
    let refused = format!(
        "told false RegisterPlugin error -- no handler registered for plugin type: CSIPlugin at socket {at}"
    );
    assert_eq!(next().await, refused);
    stop.cancel();
    running.await.unwrap();
}
