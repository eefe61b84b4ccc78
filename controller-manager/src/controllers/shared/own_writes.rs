//! What a controller wrote for an object, and whether its caches have caught up with that. A plan made on a cache that
//! does not show the controller's own writes would repeat them.
//! Upstream: pkg/controller/util/consistency.

use std::time::Duration;

use client::Kept;
use hashbrown::HashMap;
use informer::Store;
use parking_lot::Mutex;

/// When to look again at what a cache does not show yet, should no event tell.
pub const BEHIND: Duration = Duration::from_millis(100);

type Version = Box<dyn Fn() -> String + Send + Sync>;

/// Last written resource versions, per owner and resource.
pub struct OwnWrites {
    resources: Vec<(&'static str, Version)>,
    written: Mutex<HashMap<String, Vec<u64>>>,
}

impl OwnWrites {
    /// Nothing written yet.
    pub fn new() -> Self {
        Self { resources: Vec::new(), written: Mutex::default() }
    }

    /// Watches over a cache.
    #[must_use]
    pub fn cache<K: Kept>(mut self, resource: &'static str, store: Store<K>) -> Self {
        self.resources.push((resource, Box::new(move || store.resource_version())));
        self
    }

    /// Something was written for `owner`. Versions that are no numbers cannot be compared and are left out.
    pub fn wrote<K: Kept>(&self, owner: &str, resource: &str, object: &K) {
        let at = self.resources.iter().position(|(name, _)| *name == resource);
        let (Some(at), Ok(version)) = (at, object.named().version.parse::<u64>()) else { return };
        let mut all = self.written.lock();
        let versions = all.entry_ref(owner).or_insert_with(|| vec![0; self.resources.len()]);
        versions[at] = versions[at].max(version);
    }

    /// The owner is gone.
    pub fn forget(&self, owner: &str) {
        self.written.lock().remove(owner);
    }

    /// All caches show what was written for `owner`.
    ///
    /// # Errors
    /// The cache that is behind; the work is to be tried again a little later.
    pub fn seen(&self, owner: &str) -> Result<(), String> {
        let mut all = self.written.lock();
        let Some(versions) = all.get(owner) else { return Ok(()) };
        for ((resource, read), wrote) in self.resources.iter().zip(versions) {
            let read = read();
            if read.parse::<u64>().is_ok_and(|read| read < *wrote) {
                return Err(format!(
                    "read version: {read} is not as new as written version: {wrote} for group resource {resource}"
                ));
            }
        }
        all.remove(owner);
        Ok(())
    }
}
