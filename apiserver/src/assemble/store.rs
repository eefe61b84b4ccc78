//! Opens the store that the flags name.

use std::sync::Arc;

use storage::Store;
use storage::etcd::{Etcd, EtcdOptions};

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
        StoreConfig::Etcd { servers, ca, client, compaction } => {
            let mut options = EtcdOptions::new(servers.iter().cloned());
            options.ca_file.clone_from(ca);
            (options.cert_file, options.key_file) = client.clone().unzip();
            options.prefix.clone_from(&config.prefix);
            options.compaction = *compaction;
            Ok(Arc::new(Etcd::connect(options).await.map_err(|e| e.to_string())?))
        }
    }
}
