//! CA bundles follow their files while the server runs. A file that cannot be used is reported and
//! what was in use stays. Upstream: `k8s.io/apiserver/pkg/server/dynamiccertificates`.

use std::path::PathBuf;

use component::app::Tasks;

use super::files;
use crate::chain::authenticate::SharedBundle;

/// Follows a CA bundle.
pub(crate) fn bundle(tasks: &Tasks, what: &'static str, path: Option<PathBuf>, shared: SharedBundle) {
    let Some(path) = path else { return };
    let stop = tasks.shutdown().clone();
    tasks.spawn("ca-bundle-reload", async move {
        let own = path.clone();
        let changed = || match files::bundle(what, Some(&own)) {
            Ok(read) => {
                shared.store(read);
                tracing::info!(name = what, "Loaded a new CA bundle");
            }
            Err(error) => tracing::error!(err = %error, "keeping the CA bundle in use"),
        };
        component::files::watch(vec![path], stop, changed).await;
    });
}
