//! The `scale` subresource of anything that has one, found by kind.
//! Upstream: client-go/scale, restmapper.DeferredDiscoveryRESTMapper as the controller manager resets it.

use std::sync::Arc;
use std::time::Duration;

use client::discovery::{ApiResource, Discovered};
use client::{Client, Gvr, Result};
use k8s_openapi::api::autoscaling::v1::Scale;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// What the server offers is asked for again after this time.
const FRESH: Duration = Duration::from_secs(30);

/// Reads and writes scales.
pub struct Scales {
    client: Client,
    known: Mutex<Option<(Instant, Arc<Discovered>)>>,
}

impl Scales {
    pub fn new(client: Client) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// What the server offers.
    ///
    /// # Errors
    /// The server does not say.
    async fn discovered(&self) -> std::result::Result<Arc<Discovered>, String> {
        let mut known = self.known.lock().await;
        if let Some((at, discovered)) = &*known
            && at.elapsed() < FRESH
        {
            return Ok(discovered.clone());
        }
        let found =
            self.client.discover().await.map_err(|e| format!("asking the server for its resources: {e}"))?;
        let found = Arc::new(found);
        *known = Some((Instant::now(), found.clone()));
        Ok(found)
    }

    /// The resources that serve a kind, in the server's order of versions; `version` narrows to one.
    ///
    /// # Errors
    /// There is none, in the words of upstream's mapper.
    pub async fn resources(
        &self,
        group: &str,
        version: Option<&str>,
        kind: &str,
    ) -> std::result::Result<Vec<ApiResource>, String> {
        let discovered = self.discovered().await?;
        let serves = |r: &&ApiResource| {
            r.gvr.group == group && r.kind == kind && version.is_none_or(|v| r.gvr.version == v)
        };
        let found: Vec<ApiResource> = discovered.resources.iter().filter(serves).cloned().collect();
        if found.is_empty() {
            let dot = if group.is_empty() { "" } else { "." };
            let slash = if group.is_empty() { "" } else { "/" };
            return Err(match version {
                Some(version) => {
                    format!("no matches for kind {kind:?} in version \"{group}{slash}{version}\"")
                }
                None => format!("no matches for {kind}{dot}{group}"),
            });
        }
        Ok(found)
    }

    /// The scale of an object.
    ///
    /// # Errors
    /// The call's.
    pub async fn get(&self, gvr: &Gvr, namespace: &str, name: &str) -> Result<Scale> {
        self.client.dynamic(gvr, namespace).get_subresource(name, "scale").await
    }

    /// Gives an object another size.
    ///
    /// # Errors
    /// The call's.
    pub async fn replace(&self, gvr: &Gvr, namespace: &str, name: &str, scale: &Scale) -> Result<Scale> {
        self.client.dynamic(gvr, namespace).replace_subresource(name, "scale", scale).await
    }
}

/// Group and version of an `apiVersion`. Upstream: schema.ParseGroupVersion.
///
/// # Errors
/// There are two slashes.
pub fn group_version(api_version: &str) -> std::result::Result<(&str, &str), String> {
    match api_version.split('/').collect::<Vec<_>>()[..] {
        [version] => Ok(("", version)),
        [group, version] => Ok((group, version)),
        _ => Err(format!("unexpected GroupVersion string: {api_version}")),
    }
}
