//! `/lagz`: per controller how far its caches are behind the store, what waits longest in its queues, its last error.
//!
//! The server is asked for its state with each request, once per cache; the page is behind the same authorization as all
//! others. Upstream has no such page.

use std::fmt::Write as _;
use std::sync::Arc;

use component::serving::mux::handler;
use component::serving::{Mux, body};
use controller::QueueState;
use http::StatusCode;
use informer::{CacheState, Factory};
use parking_lot::Mutex;

struct Entry {
    controller: &'static str,
    /// Tells of this controller's informers.
    factory: Factory,
    /// Names of its queues.
    queues: Vec<String>,
}

/// What each controller uses.
#[derive(Clone, Default)]
pub struct Lags(Arc<Mutex<Vec<Arc<Entry>>>>);

impl Lags {
    /// Builds a controller and notes the informers and queues that this makes.
    pub fn note<R>(
        &self,
        controller: &'static str,
        factory: &Factory,
        build: impl FnOnce(Factory) -> R,
    ) -> R {
        let before = controller::metrics::queues().len();
        let own = factory.for_user();
        let built = build(own.clone());
        let queues = controller::metrics::queues().into_iter().skip(before).map(|q| q.name).collect();
        self.0.lock().push(Arc::new(Entry { controller, factory: own, queues }));
        built
    }

    /// Adds the page to a router.
    pub fn install(&self, mux: &mut Mux) {
        let lags = self.clone();
        mux.handle(
            "/lagz",
            handler(move |_| {
                let lags = lags.clone();
                async move { body::text(StatusCode::OK, lags.page().await) }
            }),
        );
    }

    async fn page(&self) -> String {
        let entries = self.0.lock().clone();
        let all = controller::metrics::queues();
        let mut page = String::new();
        for entry in entries {
            let queues: Vec<&QueueState> = all.iter().filter(|q| entry.queues.contains(&q.name)).collect();
            let mut caches = entry.factory.lags().await;
            caches.sort_by(|a, b| a.resource.cmp(&b.resource));
            show(entry.controller, &caches, &queues, &mut page);
        }
        if page.is_empty() { "no controller runs: this one is not the leader\n".to_string() } else { page }
    }
}

/// One controller's part.
fn show(controller: &str, caches: &[CacheState], queues: &[&QueueState], page: &mut String) {
    // Writing to a text cannot fail.
    let _ = writeln!(page, "{controller}");
    for cache in caches {
        let _ = match (&cache.server, cache.behind()) {
            _ if !cache.synced => writeln!(page, "  cache {}: no complete state yet", cache.resource),
            (_, Some(behind)) => writeln!(
                page,
                "  cache {}: {} objects, version {}, {behind} behind the store",
                cache.resource, cache.objects, cache.version
            ),
            (Err(error), None) => writeln!(
                page,
                "  cache {}: {} objects, version {}, the store did not tell its own: {error}",
                cache.resource, cache.objects, cache.version
            ),
            (Ok(server), None) => writeln!(
                page,
                "  cache {}: {} objects, version {}, the store is at {server}",
                cache.resource, cache.objects, cache.version
            ),
        };
    }
    for queue in queues {
        let _ = write!(
            page,
            "  queue {}: {} waiting, {} running, {} delayed",
            queue.name, queue.waiting, queue.running, queue.delayed
        );
        if let Some((item, age)) = &queue.oldest {
            let _ = write!(page, "; oldest {item} since {:.1} s", age.as_secs_f64());
        }
        if let Some((item, error, age)) = &queue.last_error {
            let _ = write!(page, "; last error {:.0} s ago, {item}: {error}", age.as_secs_f64());
        }
        page.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn cache(resource: &str, version: &str, server: Result<&str, &str>, synced: bool) -> CacheState {
        CacheState {
            resource: resource.to_string(),
            objects: 3,
            synced,
            version: version.to_string(),
            server: server.map(str::to_string).map_err(str::to_string),
        }
    }

    #[test]
    fn the_page_tells_lag_oldest_key_and_last_error() {
        let caches = [
            cache("v1/pods", "90", Ok("120"), true),
            cache("v1/nodes", "90", Err("timeout"), true),
            cache("v1/services", "", Ok("120"), false),
        ];
        let queue = QueueState {
            name: "endpoint".to_string(),
            waiting: 2,
            oldest: Some(("\"n/web\"".to_string(), Duration::from_millis(1500))),
            last_error: Some(("\"n/db\"".to_string(), "conflict".to_string(), Duration::from_secs(7))),
            ..QueueState::default()
        };
        let mut page = String::new();
        show("endpoints-controller", &caches, &[&queue], &mut page);
        let expected = "endpoints-controller\n  cache v1/pods: 3 objects, version 90, 30 behind the store\n  \
                        cache v1/nodes: 3 objects, version 90, the store did not tell its own: timeout\n  \
                        cache v1/services: no complete state yet\n  queue endpoint: 2 waiting, 0 running, 0 delayed; \
                        oldest \"n/web\" since 1.5 s; last error 7 s ago, \"n/db\": conflict\n";
        assert_eq!(page, expected);
    }
}
