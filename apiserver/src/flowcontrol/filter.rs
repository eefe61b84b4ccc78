//! The step of the chain: classification, estimate, seats or a refusal, and what the response tells about it.
//! Upstream: `k8s.io/apiserver/pkg/server/filters/priority-and-fairness.go`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flowcontrol::estimate::{self, ListQuery};
use flowcontrol::matching::Digest;
use flowcontrol::queueset::Refusal;
use flowcontrol::seats::Work;
use flowcontrol::watches;
use http::header::HeaderName;
use parking_lot::Mutex;

use super::controller::{Controller, Watching, scope};
use super::flow::Flow;
use super::level::{Ticket, Waiter};
use super::metrics::{Executing, metrics};
use crate::chain::http_log::Classified;
use crate::metrics::Running;
use crate::server::{Call, Server};
use crate::web::Response;

static SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
static LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");
/// Nothing waits longer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A request that may run.
pub(crate) struct Admitted {
    ticket: Ticket,
    work: Work,
    _counted: (Running, Executing),
    _watching: Option<Watching>,
}

/// A request that may not.
pub(crate) struct Refused {
    flow: Arc<Flow>,
    work: Work,
    /// Seconds.
    pub(crate) retry_after: u64,
}

/// The seats of a watch on their way to the one who knows when its first events are sent. Dropped unclaimed, they are
/// free again.
#[derive(Clone, Default)]
pub(crate) struct Claim(Arc<Mutex<Option<Admitted>>>);

impl Claim {
    /// Leaves seats here.
    pub(crate) fn put(&self, admitted: Admitted) {
        *self.0.lock() = Some(admitted);
    }

    /// Takes them.
    pub(crate) fn take(&self) -> Option<Initializing> {
        let Admitted { ticket, _counted, _watching, .. } = self.0.lock().take()?;
        Some(Initializing { _ticket: ticket, _counted, watching: _watching })
    }
}

/// A watch that takes seats.
pub(crate) struct Initializing {
    _ticket: Ticket,
    _counted: (Running, Executing),
    watching: Option<Watching>,
}

impl Initializing {
    /// Its first events are sent: from now on it takes no seats, yet is counted among those that see changes.
    pub(crate) fn initialized(mut self) -> Option<Watching> {
        self.watching.take()
    }
}

/// Waits for seats. `None` for requests that are not limited: long-running ones that are no watches.
pub(crate) async fn enter(
    controller: &Arc<Controller>,
    server: &Server,
    call: &Call,
) -> Result<Option<Admitted>, Refused> {
    let info = &call.info;
    let watch = info.verb == "watch";
    if call.long_running && !watch {
        return Ok(None);
    }
    let digest = Digest {
        user: &call.user.name,
        groups: &call.user.groups,
        is_resource: info.is_resource_request,
        verb: &info.verb,
        group: &info.api_group,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        path: &info.path,
    };
    // There is always a catch-all.
    let Some(flow) = controller.classify(&digest) else { return Ok(None) };
    let work = estimate(controller, server, call, &flow);
    flow.metrics().estimated_seats.observe(work.max_seats() as f64);
    let waiter = Waiter::new(flow.clone(), call.user.clone(), info.clone(), work);
    let hash = flow.hash(&call.user.name, &info.namespace);
    match flow.level.enter(waiter, work, hash, wait_until(call)).await {
        Ok(ticket) => {
            let read_only = matches!(info.verb.as_str(), "get" | "list" | "watch");
            let counts = watch && watches::counts(&info.resource, &info.field_selector);
            Ok(Some(Admitted {
                ticket,
                work,
                _counted: (crate::metrics::seat(read_only), Executing::of(info)),
                _watching: counts.then(|| controller.watching(info)),
            }))
        }
        Err(why) => Err(refuse(flow, work, why)),
    }
}

fn refuse(flow: Arc<Flow>, work: Work, why: Refusal) -> Refused {
    let retry_after = flow.level.retry_after(&flow, why);
    Refused { flow, work, retry_after }
}

/// A quarter of the time it has, and not more than a minute. Upstream: `getRequestWaitContext`.
fn wait_until(call: &Call) -> Instant {
    let quarter = call.deadline.saturating_duration_since(call.started) / 4;
    call.started + quarter.min(LONGEST_WAIT)
}

/// Upstream: `workEstimator.estimate`.
fn estimate(controller: &Controller, server: &Server, call: &Call, flow: &Flow) -> Work {
    let info = &call.info;
    match info.verb.as_str() {
        "list" | "watch" => estimate_list(controller, server, call, flow),
        "create" | "update" | "patch" | "delete" => {
            // A token makes no event.
            if info.resource == "serviceaccounts" && info.subresource == "token" {
                return Work::seats(1);
            }
            let watches = controller.interested(scope(info));
            let labels = [flow.level.name.as_str(), flow.spec.name.as_str()];
            metrics().watch_count_samples.with(&labels).observe(watches as f64);
            estimate::change(watches, flow.max_seats)
        }
        _ => Work::seats(1),
    }
}

fn estimate_list(controller: &Controller, server: &Server, call: &Call, flow: &Flow) -> Work {
    let (info, query) = (&call.info, &call.query);
    let text = |name: &str| query.get(name).unwrap_or_default();
    let limit = query.int("limit").ok().flatten().unwrap_or(0);
    let asked = ListQuery {
        watch: info.verb == "watch",
        single: !info.name.is_empty(),
        limit: u64::try_from(limit).unwrap_or(0),
        resource_version: text("resourceVersion"),
        version_match: text("resourceVersionMatch"),
        continues: !text("continue").is_empty(),
        selects: !info.field_selector.is_empty() || !info.label_selector.is_empty(),
        initial_events: query.flag("sendInitialEvents"),
    };
    let place = (info.api_group.as_str(), info.api_version.as_str(), info.resource.as_str());
    let stored = server.registry.object_count(place.0, place.1, place.2).map(|count| {
        let size = || server.registry.average_size(place.0, place.1, place.2);
        controller.stored(place.0, place.2, count as u64, size)
    });
    estimate::list(&asked, stored, flow.max_seats)
}

impl Admitted {
    /// Tells the client how its request was classified.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.ticket.flow.clone(), self.work)
    }
}

impl Refused {
    /// Tells the client how its request was classified.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.flow.clone(), self.work)
    }
}

/// How a request was classified: by uid, so that names are not disclosed.
pub(crate) struct Mark(Arc<Flow>, Work);

impl Mark {
    /// Puts it on the response of a request that ran so long.
    pub(crate) fn on(self, response: &mut Response, ran: Option<Duration>) {
        let Self(flow, work) = self;
        let [schema, level] = &flow.uids;
        let headers = response.headers_mut();
        headers.insert(SCHEMA_UID.clone(), schema.clone());
        headers.insert(LEVEL_UID.clone(), level.clone());
        Classified { flow, work, ran }.note(response);
    }
}
