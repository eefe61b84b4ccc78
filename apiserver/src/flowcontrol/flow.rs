//! A flow schema as requests are classified by it, bound to its level.

use std::sync::{Arc, OnceLock};

use flowcontrol::config::{Distinguisher, SchemaSpec};
use http::HeaderValue;
use sha2::{Digest, Sha256};

use super::level::Level;
use super::metrics::FlowMetrics;

/// A flow schema and what is known of its level.
pub(crate) struct Flow {
    pub(crate) spec: SchemaSpec,
    pub(crate) level: Arc<Level>,
    /// Its uid, and that of its level, for the response.
    pub(crate) uids: [HeaderValue; 2],
    /// Its level has no limits.
    pub(crate) exempt: bool,
    /// Its level has several queues.
    pub(crate) queues: bool,
    /// Most seats of a request.
    pub(crate) max_seats: Option<u64>,
    metrics: OnceLock<FlowMetrics>,
}

impl Flow {
    pub(crate) fn new(spec: SchemaSpec, level: Arc<Level>) -> Self {
        let (uid, exempt, queues, max_seats) = level.look(|state| {
            let queues = match state.spec.discipline {
                flowcontrol::queueset::Discipline::Queue { dealer, .. } => dealer.deck() > 1,
                _ => false,
            };
            let max = state.spec.max_seats(&state.limits);
            (state.spec.uid.clone(), state.spec.is_exempt(), queues, max)
        });
        let header = |uid: &str| HeaderValue::from_str(uid).unwrap_or(HeaderValue::from_static(""));
        let uids = [header(&spec.uid), header(&uid)];
        Self { spec, level, uids, exempt, queues, max_seats, metrics: OnceLock::new() }
    }

    /// What tells a request's flow from the schema's others.
    pub(crate) fn distinguisher<'a>(&self, user: &'a str, namespace: &'a str) -> &'a str {
        match self.spec.distinguisher {
            Distinguisher::ByUser if self.queues => user,
            Distinguisher::ByNamespace if self.queues => namespace,
            _ => "",
        }
    }

    /// A request's flow as a number. Upstream: `hashFlowID`.
    pub(crate) fn hash(&self, user: &str, namespace: &str) -> u64 {
        if !self.queues {
            return 0;
        }
        let mut hash = Sha256::new();
        hash.update(self.spec.name.as_bytes());
        hash.update([0]);
        hash.update(self.distinguisher(user, namespace).as_bytes());
        let sum = hash.finalize();
        sum.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    pub(crate) fn metrics(&self) -> &FlowMetrics {
        self.metrics.get_or_init(|| FlowMetrics::of(&self.level.name, &self.spec.name))
    }

    pub(crate) fn freed(&self, seats: u64) {
        self.metrics().executing_seats.add(-(seats as f64));
    }
}
