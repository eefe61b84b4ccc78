//! Objects as they were last written here, until the cache has caught up. Upstream: pv_controller_base.go storeObjectUpdate.

use std::sync::Arc;

use client::Meta;
use hashbrown::HashMap;
use informer::Store;
use parking_lot::Mutex;

/// A store seen through our own writes.
pub struct Latest<K> {
    store: Store<K>,
    written: Mutex<HashMap<String, Arc<K>>>,
}

fn version<K: Meta>(object: &K) -> u64 {
    object.resource_version().parse().unwrap_or(0)
}

impl<K: Meta> Latest<K> {
    pub fn new(store: Store<K>) -> Self {
        Self { store, written: Mutex::default() }
    }

    /// The newest that is known.
    pub fn get(&self, key: &str) -> Option<Arc<K>> {
        let cached = self.store.get(key);
        let mut written = self.written.lock();
        match (written.get(key), cached) {
            (Some(own), Some(cached)) if version(&**own) > version(&*cached) => Some(own.clone()),
            (Some(_), cached) => {
                written.remove(key);
                cached
            }
            (None, cached) => cached,
        }
    }

    /// All objects, each as new as is known.
    pub fn list(&self) -> Vec<Arc<K>> {
        let mut written = self.written.lock();
        let mut all = self.store.list();
        if written.is_empty() {
            return all;
        }
        let mut ahead: HashMap<String, Arc<K>> = HashMap::new();
        for object in &mut all {
            let key = object.key();
            if let Some(own) = written.get(&key).filter(|own| version(&***own) > version(&**object)) {
                *object = own.clone();
                ahead.insert(key, own.clone());
            }
        }
        *written = ahead;
        all
    }

    /// What was written, as the server answered.
    pub fn note(&self, object: K) -> Arc<K> {
        let object = Arc::new(object);
        self.written.lock().insert(object.key(), object.clone());
        object
    }
}
