//! Opens the store that the flags name.

use std::sync::Arc;

use component::app::Tasks;
use encryption::{Current, Encrypted};
use storage::Store;
use storage::etcd::{Etcd, EtcdOptions};

use crate::options::{Config, StoreConfig};

/// Puts encryption before the store, if the flags ask for it.
pub(crate) async fn encrypted(
    config: &Config,
    store: Arc<dyn Store>,
    tasks: &Tasks,
) -> Result<(Arc<dyn Store>, Option<Current>), String> {
    let Some((path, reload)) = &config.encryption else { return Ok((store, None)) };
    let current = Current::start(path, *reload, tasks).await?;
    Ok((Arc::new(Encrypted::new(store, &config.prefix, current.clone())), Some(current)))
}

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
