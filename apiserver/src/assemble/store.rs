//! Opens the store that the flags name.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::resources::resources;
use component::app::Tasks;
use encryption::{Current, Encrypted};
use storage::etcd::{Etcd, EtcdOptions};
use storage::{Routed, Store};
use traces::Traces;

use crate::options::{Config, EtcdConfig, Override, StoreConfig};

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
pub(crate) async fn open(config: &Config, traces: Option<&Traces>) -> Result<Arc<dyn Store>, String> {
    match &config.store {
        StoreConfig::Embedded(dir) => {
            let options = storage::embedded::Options::with_prefix(dir.clone(), &config.prefix);
            let opened = tokio::task::spawn_blocking(move || storage::Embedded::open(options)).await;
            let store = opened.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
            Ok(Arc::new(store))
        }
        StoreConfig::Etcd(etcd) => {
            let main = connect(config, etcd, &etcd.servers, traces).await?;
            let parts = elsewhere(config, etcd, traces).await?;
            Ok(if parts.is_empty() { main } else { Arc::new(Routed::new(main, parts)) })
        }
    }
}

async fn connect(
    config: &Config,
    etcd: &EtcdConfig,
    servers: &[String],
    traces: Option<&Traces>,
) -> Result<Arc<dyn Store>, String> {
    let mut options = EtcdOptions::new(servers.iter().cloned());
    options.ca_file.clone_from(&etcd.ca);
    (options.cert_file, options.key_file) = etcd.client.clone().unzip();
    options.prefix.clone_from(&config.prefix);
    options.compaction = etcd.compaction;
    options.traces = traces.cloned();
    Ok(Arc::new(Etcd::connect(options).await.map_err(|e| e.to_string())?))
}

/// The stores of `--etcd-servers-overrides`, one per set of servers. Resources that are stored as others (events of
/// events.k8s.io) are where those are.
async fn elsewhere(
    config: &Config,
    etcd: &EtcdConfig,
    traces: Option<&Traces>,
) -> Result<Vec<(String, Arc<dyn Store>)>, String> {
    let mut stores: Vec<(BTreeSet<&String>, Arc<dyn Store>)> = Vec::new();
    let mut parts = Vec::new();
    for Override { group, resource, servers } in &etcd.overrides {
        let row = resources().iter().find(|row| row.kind.group == group && row.resource == resource);
        let Some(key) = row.and_then(|row| row.stored.as_ref()).map(|stored| stored.key) else {
            tracing::warn!(
                group,
                resource,
                "--etcd-servers-overrides names a resource that is not stored here"
            );
            continue;
        };
        let set: BTreeSet<&String> = servers.iter().collect();
        let store = match stores.iter().find(|(known, _)| *known == set) {
            Some((_, store)) => store.clone(),
            None => {
                let store = connect(config, etcd, servers, traces).await?;
                stores.push((set, store.clone()));
                store
            }
        };
        parts.push((format!("{}/{key}/", config.prefix), store));
    }
    // The last of several for one resource counts.
    parts.reverse();
    Ok(parts)
}
