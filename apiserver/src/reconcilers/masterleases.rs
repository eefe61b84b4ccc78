//! The leases of API servers: one key per address below `masterleases/`, gone when its server has not renewed it for
//! [`TTL`].
//!
//! The value is an Endpoints object in the storage encoding with the address as its only content, byte for byte
//! upstream's. It has a generation that grows by one with each renewal: a write of the same bytes would be none, and
//! would not renew the lease. Not encrypted (`encryption::resources`), as upstream's.
//! Upstream: `storageLeases` of `pkg/controlplane/reconcilers/lease.go`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use machinery::{Value, json, proto};
use serde_json::json;
use storage::{Change, Error, ListOptions, Result, Store, guaranteed_update};

/// How long a lease lasts. Upstream: `DefaultEndpointReconcilerTTL`.
const TTL: Duration = Duration::from_secs(15);

/// The leases in a store.
pub(super) struct MasterLeases {
    store: Arc<dyn Store>,
    /// What all keys begin with; ends in a slash.
    root: String,
}

impl MasterLeases {
    /// The leases below `prefix`, such as `/registry`.
    pub(super) fn new(store: Arc<dyn Store>, prefix: &str) -> Self {
        Self { store, root: format!("{prefix}/masterleases/") }
    }

    /// The addresses of all leases, in the order of their keys.
    ///
    /// # Errors
    /// What the store says; corrupt when a lease cannot be read.
    pub(super) async fn list(&self) -> Result<Vec<String>> {
        let page = self.store.list(ListOptions::prefix(self.root.clone())).await?;
        let mut addresses = Vec::with_capacity(page.kvs.len());
        for kv in page.kvs {
            addresses.extend(address(&decode(&kv.value)?));
        }
        Ok(addresses)
    }

    /// Makes or renews the lease of an address.
    ///
    /// # Errors
    /// What the store says; corrupt when the lease cannot be read.
    pub(super) async fn renew(&self, ip: IpAddr) -> Result<()> {
        let ip = ip.to_string();
        let change = |found: Option<&storage::KeyValue>| {
            let lease = found.map(|kv| decode(&kv.value)).transpose()?;
            Ok::<_, Error>(Change::Put { value: renewed(lease, &ip)?.into(), ttl: Some(TTL) })
        };
        guaranteed_update(&*self.store, &self.key(&ip), None, false, change).await.map(drop)
    }

    /// Ends the lease of an address.
    ///
    /// # Errors
    /// What the store says; not found when there is none.
    pub(super) async fn remove(&self, ip: IpAddr) -> Result<()> {
        let change = |_: Option<&storage::KeyValue>| Ok::<_, Error>(Change::Delete);
        guaranteed_update(&*self.store, &self.key(&ip.to_string()), None, true, change).await.map(drop)
    }

    fn key(&self, ip: &str) -> String {
        format!("{}{ip}", self.root)
    }
}

fn corrupt(why: impl std::fmt::Display) -> Error {
    Error::Corrupt(format!("lease of an API server: {why}"))
}

/// A stored lease. Servers with `--storage-media-type=application/json` write JSON.
fn decode(bytes: &[u8]) -> Result<Value> {
    if bytes.starts_with(&proto::MAGIC) {
        return proto::decode(api::types(), bytes).map(|(_, lease)| lease).map_err(corrupt);
    }
    json::decode_kind(api::types(), bytes, false).map(|(_, lease)| lease.value).map_err(corrupt)
}

/// The next state of a lease, as it is stored.
fn renewed(lease: Option<Value>, ip: &str) -> Result<Vec<u8>> {
    let mut lease = lease.unwrap_or_else(|| Value::from(json!({})));
    let generation = lease.i64_at(&["metadata", "generation"]).unwrap_or(0).wrapping_add(1);
    let subsets = Value::from(json!([{"addresses": [{"ip": ip}]}]));
    for (path, value) in [
        (&["apiVersion"][..], Value::from("v1")),
        (&["kind"][..], Value::from("Endpoints")),
        (&["metadata", "generation"][..], Value::from(generation)),
        (&["subsets"][..], subsets),
    ] {
        lease.set_path(path, value).map_err(corrupt)?;
    }
    let id = api::types().kind("v1", "Endpoints").ok_or_else(|| corrupt("no such kind"))?;
    Ok(proto::encode(api::types(), id, &lease))
}

/// The first address; a lease without one counts for nothing.
fn address(lease: &Value) -> Option<String> {
    let subset = lease.list_at(&["subsets"])?.iter().next()?;
    let ip = subset.list_at(&["addresses"])?.iter().next()?.str_at(&["ip"])?;
    (!ip.is_empty()).then(|| ip.to_owned())
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    /// What upstream's v1.37.2 had in etcd at `/registry/masterleases/192.0.2.1` after its first run.
    const UPSTREAM: &str =
        "azhzAAoPCgJ2MRIJRW5kcG9pbnRzEiMKEAoAEgAaACIAKgAyADgBQgASDwoNCgkxOTIuMC4yLjEaABoAIgA=";

    #[tokio::test]
    async fn leases_are_upstreams_and_come_and_go() {
        let files = tempfile::tempdir().unwrap();
        let options = storage::embedded::Options::new(files.path());
        let store: Arc<dyn Store> = Arc::new(storage::Embedded::open(options).unwrap());
        let leases = MasterLeases::new(store.clone(), "/registry");
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(leases.remove(ip).await.unwrap_err().is_not_found());

        leases.renew(ip).await.unwrap();
        let first = store.get("/registry/masterleases/192.0.2.1", 0).await.unwrap().kv.unwrap();
        assert_eq!(BASE64_STANDARD.encode(&first.value), UPSTREAM);
        assert_ne!(first.lease, 0);

        leases.renew(ip).await.unwrap();
        leases.renew("192.0.2.0".parse().unwrap()).await.unwrap();
        let second = store.get("/registry/masterleases/192.0.2.1", 0).await.unwrap().kv.unwrap();
        assert!(second.mod_revision > first.mod_revision);
        assert_eq!(decode(&second.value).unwrap().i64_at(&["metadata", "generation"]), Some(2));
        assert_eq!(leases.list().await.unwrap(), ["192.0.2.0", "192.0.2.1"]);

        leases.remove(ip).await.unwrap();
        assert_eq!(leases.list().await.unwrap(), ["192.0.2.0"]);
    }

    #[test]
    fn odd_values() {
        let json = r#"{"kind":"Endpoints","apiVersion":"v1","metadata":{"generation":3,"creationTimestamp":null},
            "subsets":[{"addresses":[{"ip":"10.0.0.1"}]}]}"#;
        assert_eq!(address(&decode(json.as_bytes()).unwrap()).as_deref(), Some("10.0.0.1"));
        assert_eq!(address(&Value::from(json!({"subsets": []}))), None);
        assert!(matches!(decode(b"k8s\0\xff"), Err(Error::Corrupt(_))));
        assert!(matches!(decode(b"x"), Err(Error::Corrupt(_))));
    }
}
