//! Opens the store that the flags name.

use std::sync::Arc;

use storage::Store;

use crate::options::{Config, StoreConfig};

/// Opens it; reading a directory takes a while, so off the runtime's threads.
pub(crate) async fn open(config: &Config) -> Result<Arc<dyn Store>, String> {
    match &config.store {
        StoreConfig::Embedded(dir) => {
            let options = storage::embedded::Options::with_prefix(dir.clone(), &config.prefix);
            let opened = tokio::task::spawn_blocking(move || storage::Embedded::open(options)).await;
            let store = opened.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
            Ok(Arc::new(store))
        }
        StoreConfig::Etcd { servers, .. } => {
            Err(format!("--etcd-servers={}: the etcd store is not implemented yet", servers.join(",")))
        }
    }
}
