//! Takes the devices of a driver off the node's offer when the driver is gone for long: pods would be sent here in vain.
//!
//! At the start no driver has come yet, so that nothing is offered until they do. Upstream: wipeResourceSlices and sync in
//! plugin/dra_plugin_manager.go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::manager::Api;

/// How long a driver may be away: enough for a restart.
pub const DELAY: Duration = Duration::from_secs(30);
/// First pause after an attempt that failed, and the longest one.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// What slices of a node, or of one driver on it, have in common.
pub fn selector(node: &str, driver: Option<&str>) -> String {
    match driver {
        Some(driver) => format!("spec.driver={driver},spec.nodeName={node}"),
        None => format!("spec.nodeName={node}"),
    }
}

/// Deletes slices.
pub struct Wiper {
    api: Option<Arc<dyn Api>>,
    delay: Duration,
    /// Drivers that are away: their slices will be deleted, or are.
    away: Mutex<HashMap<String, CancellationToken>>,
    stop: CancellationToken,
}

impl Wiper {
    /// Without an API server there is nothing to delete.
    pub fn new(api: Option<Arc<dyn Api>>, delay: Duration, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self { api, delay, away: Mutex::default(), stop })
    }

    /// Notes whether a driver is there.
    pub fn note(self: &Arc<Self>, driver: &str, is_there: bool) {
        let mut away = self.away.lock();
        if is_there {
            if let Some(token) = away.remove(driver) {
                token.cancel();
            }
            return;
        }
        if self.api.is_none() || away.contains_key(driver) {
            return;
        }
        let token = self.stop.child_token();
        away.insert(driver.to_owned(), token.clone());
        let (this, driver) = (self.clone(), driver.to_owned());
        tokio::spawn(async move {
            let wipe = async {
                tokio::time::sleep(this.delay).await;
                this.wipe(Some(&driver)).await;
            };
            token.run_until_cancelled(wipe).await
        });
    }

    /// Deletes the slices of a driver, or all of the node, however long it takes.
    pub async fn wipe(&self, driver: Option<&str>) {
        let Some(api) = &self.api else { return };
        let mut pause = FIRST;
        while let Err(error) = api.delete_slices(driver).await {
            tracing::info!(driver, error, "Deleting ResourceSlice failed, retrying");
            tokio::time::sleep(pause.mul_f64(1.0 + 0.2 * rand::random::<f64>())).await;
            pause = (pause * 2).min(LONGEST);
        }
    }
}
