//! The part of etcd's v3 API that Kubernetes uses, served from the embedded store.
//!
//! It exists so that others can judge the store: etcdctl, upstream's storage tests, upstream's own API server and etcd's
//! validators run on it. It listens on a unix socket only; whoever may open the socket may do everything. What
//! Kubernetes does not use (users, members, nested transactions) is refused as unimplemented, never pretended.

mod convert;
mod kv;
mod lease;
mod maintenance;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::{PbClusterServer, PbKvServer, PbLeaseServer, PbMaintenanceServer, PbWatchServer};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

use crate::embedded::Embedded;
use crate::error::{Error, Result};

/// The largest request taken: etcd's limit with room for the envelope.
const MAX_REQUEST: usize = 2 << 20;

/// The services.
#[derive(Clone)]
struct Facade {
    store: Arc<Embedded>,
    stop: CancellationToken,
    /// The interval of unasked progress reports.
    notify: Duration,
}

/// etcd's default interval of unasked progress reports.
pub const NOTIFY: Duration = Duration::from_secs(600);

/// Listens on a socket, replacing one left behind by an earlier process, with access for the owner only.
pub fn bind(path: &Path) -> Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("removing the old socket", path, &error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(|error| Error::io("listening on", path, &error))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(|error| Error::io("restricting access to", path, &error))?;
    Ok(listener)
}

/// Serves until `stop` is cancelled.
pub async fn serve(store: Arc<Embedded>, listener: UnixListener, stop: CancellationToken) -> Result<()> {
    serve_notifying(store, listener, NOTIFY, stop).await
}

/// As [`serve`], with watches that asked for it told of their progress in this interval.
pub async fn serve_notifying(
    store: Arc<Embedded>,
    listener: UnixListener,
    notify: Duration,
    stop: CancellationToken,
) -> Result<()> {
    let facade = Facade { store, stop: stop.clone(), notify };
    let kv = PbKvServer::new(facade.clone())
        .max_decoding_message_size(MAX_REQUEST)
        .max_encoding_message_size(usize::MAX);
    let watch = PbWatchServer::new(facade.clone()).max_encoding_message_size(usize::MAX);
    tonic::transport::Server::builder()
        .add_service(kv)
        .add_service(watch)
        .add_service(PbLeaseServer::new(facade.clone()))
        .add_service(PbMaintenanceServer::new(facade.clone()))
        .add_service(PbClusterServer::new(facade))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled_owned())
        .await
        .map_err(|error| Error::Io(format!("serving the etcd API: {error}")))
}
