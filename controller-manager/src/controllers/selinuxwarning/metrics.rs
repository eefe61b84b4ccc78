//! The conflicts there are, as a metric, by upstream's name. Upstream: selinuxwarning/metrics.go.

use std::sync::{Arc, LazyLock, Weak};

use client::split_key;
use component::metrics::{Collect, Kind, Metrics, Sample, default_registry};
use parking_lot::Mutex;

use super::cache::{Cache, Conflict};

/// Pairs of pods on one volume can be very many; as many series as any family shows.
const MOST: usize = 20_000;

fn sample(of: &Conflict) -> Sample {
    let ((namespace, name), (other_namespace, other)) = (split_key(&of.pod), split_key(&of.other));
    let labels = [
        ("property", of.property.name()),
        ("pod1_namespace", namespace),
        ("pod1_name", name),
        ("pod1_value", &*of.value),
        ("pod2_namespace", other_namespace),
        ("pod2_name", other),
        ("pod2_value", &*of.other_value),
    ];
    Sample::number(&labels, 1.0)
}

/// What a scrape sees of a cache.
pub fn family(of: &Cache) -> Metrics {
    Metrics {
        name: "selinux_warning_controller_selinux_volume_conflict".to_owned(),
        help: "[ALPHA] Conflict between two Pods using the same volume".to_owned(),
        kind: Kind::Gauge,
        samples: of.conflicts(MOST).iter().map(sample).collect(),
    }
}

/// The cache that is shown, registered once: the daemon has one controller at a time.
struct Shown(Mutex<Weak<Mutex<Cache>>>);

impl Collect for Shown {
    fn collect(&self, out: &mut Vec<Metrics>) {
        let Some(cache) = self.0.lock().upgrade() else { return };
        let family = family(&cache.lock());
        if !family.samples.is_empty() {
            out.push(family);
        }
    }
}

/// Shows a cache's conflicts from now on.
pub fn show(cache: &Arc<Mutex<Cache>>) {
    static SHOWN: LazyLock<Arc<Shown>> = LazyLock::new(|| {
        let shown = Arc::new(Shown(Mutex::default()));
        default_registry().register_collector(shown.clone());
        shown
    });
    *SHOWN.0.lock() = Arc::downgrade(cache);
}
