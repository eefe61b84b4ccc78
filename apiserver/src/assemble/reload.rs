//! Certificates and CA bundles follow their files while the server runs. A file that cannot be used is reported and
//! what was in use stays. Upstream: `k8s.io/apiserver/pkg/server/dynamiccertificates`.

use std::path::PathBuf;

use component::app::Tasks;

use super::files;
use crate::chain::authenticate::SharedBundle;
use crate::serve::tls::{ServingPair, ServingPairs};

/// A certificate, its key, and the names it is for (empty: those in the certificate).
pub(crate) type PairFiles = (PathBuf, PathBuf, Vec<String>);

/// Reads all pairs; the first is the default.
pub(crate) fn read_pairs(all: &[PairFiles]) -> Result<Vec<ServingPair>, files::FileError> {
    all.iter().map(|(certificate, key, names)| files::serving(certificate, key, names.clone())).collect()
}

/// Follows the serving certificates.
pub(crate) fn serving(tasks: &Tasks, all: Vec<PairFiles>, pairs: ServingPairs) {
    let paths = all.iter().flat_map(|(certificate, key, _)| [certificate.clone(), key.clone()]).collect();
    let stop = tasks.shutdown().clone();
    tasks.spawn("serving-cert-reload", async move {
        let changed = || match read_pairs(&all) {
            Ok(read) => {
                pairs.store(std::sync::Arc::new(read));
                tracing::info!("Loaded a new serving certificate");
            }
            Err(error) => tracing::error!(err = %error, "keeping the serving certificate in use"),
        };
        component::files::watch(paths, stop, changed).await;
    });
}

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
