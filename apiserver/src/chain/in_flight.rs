//! How many requests run at once: one limit for reading, one for changing requests.
//!
//! Long-running requests and superusers are not counted. In use without `--enable-priority-and-fairness`
//! ([`crate::flowcontrol`]), which knows flows and queues. Upstream: `k8s.io/apiserver/pkg/server/filters/maxinflight.go`.

use std::sync::Arc;

use auth::SYSTEM_PRIVILEGED_GROUP;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::server::Call;

/// The two limits; `None` means no limit.
pub struct InFlight {
    reading: Option<Arc<Semaphore>>,
    changing: Option<Arc<Semaphore>>,
}

/// A seat, held while a request is handled.
#[derive(Default)]
pub(crate) struct Seat {
    _permit: Option<OwnedSemaphorePermit>,
    _counted: Option<crate::metrics::Running>,
}

/// The limit is reached.
pub(crate) struct Full;

impl InFlight {
    /// Limits from `--max-requests-inflight` and `--max-mutating-requests-inflight`; 0 switches a limit off.
    pub fn new(reading: usize, changing: usize) -> Self {
        let limit = |n: usize| (n > 0).then(|| Arc::new(Semaphore::new(n)));
        Self { reading: limit(reading), changing: limit(changing) }
    }

    /// Takes a seat for the duration of the request.
    pub(crate) fn enter(&self, call: &Call) -> Result<Seat, Full> {
        if call.long_running {
            return Ok(Seat::default());
        }
        let read_only = matches!(call.info.verb.as_str(), "get" | "list" | "watch");
        let Some(limit) = (if read_only { &self.reading } else { &self.changing }) else {
            return Ok(Seat { _permit: None, _counted: Some(crate::metrics::seat(read_only)) });
        };
        let counted = || Some(crate::metrics::seat(read_only));
        match limit.clone().try_acquire_owned() {
            Ok(seat) => Ok(Seat { _permit: Some(seat), _counted: counted() }),
            Err(_) if call.user.in_group(SYSTEM_PRIVILEGED_GROUP) => {
                Ok(Seat { _permit: None, _counted: counted() })
            }
            Err(_) => Err(Full),
        }
    }
}
