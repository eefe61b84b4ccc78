//! `/whyz`: why a pod is where it is, or nowhere. Behind the same authorization as every page.
//!
//! `GET /whyz?pod=namespace/name` explains a pod that waits: its last attempts, every node's verdict and scores as of
//! now, and which events would have it tried again. `POST /whyz` with a Pod as JSON is a dry run: nothing is queued,
//! placed or written.

use std::sync::Arc;

use component::serving::mux::{handler, query_values};
use component::serving::{Body, Mux, body};
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::cycle;
use crate::framework::Code;
use crate::model::{PodInfo, WirePod};
use crate::scheduler::{Running, Scheduler, State};

/// Largest pod that is taken.
const MOST: usize = 1 << 20;

/// Registers the page.
pub fn install(mux: &mut Mux, scheduler: &Arc<Scheduler>) {
    let scheduler = scheduler.clone();
    mux.handle(
        "/whyz",
        handler(move |request: Request<Body>| {
            let scheduler = scheduler.clone();
            async move {
                match *request.method() {
                    Method::POST => posted(&scheduler, request).await,
                    _ => waiting(&scheduler, &request),
                }
            }
        }),
    );
}

fn waiting(scheduler: &Scheduler, request: &Request<Body>) -> Response<Body> {
    let asked = query_values(request, "pod");
    let Some((namespace, name)) = asked.first().and_then(|p| p.split_once('/')) else {
        let text = "name a pod that waits: /whyz?pod=namespace/name, or post one for a dry run";
        return body::error(StatusCode::BAD_REQUEST, text);
    };
    let mut state = scheduler.state.lock();
    let Some(pod) = state.queue.find(namespace, name).cloned() else {
        let text = format!("pod {namespace}/{name} does not wait in the queue");
        return body::error(StatusCode::NOT_FOUND, &text);
    };
    let Some(running) = scheduler.running(&pod) else { return body::not_found() };
    let queue = state.queue.describe(&pod.uid);
    let wakers = wakers(running, &state.queue.refused_by(&pod.uid));
    let mut answer = verdicts(scheduler, running, &mut state, &pod);
    answer["queue"] = queue;
    answer["triedAgainAfter"] = wakers;
    body::json(StatusCode::OK, &answer)
}

async fn posted(scheduler: &Scheduler, request: Request<Body>) -> Response<Body> {
    let bytes = match body::read(request.into_body(), MOST).await {
        Ok(bytes) => bytes,
        Err(error) => {
            return body::error(StatusCode::BAD_REQUEST, &format!("reading the posted pod: {error}"));
        }
    };
    let mut pod: WirePod = match serde_json::from_slice(&bytes) {
        Ok(pod) => pod,
        Err(error) => {
            return body::error(StatusCode::BAD_REQUEST, &format!("the body is no Pod in JSON: {error}"));
        }
    };
    if pod.spec.scheduler_name.is_empty() {
        pod.spec.scheduler_name = "default-scheduler".into();
    }
    let pod = PodInfo::new(&scheduler.interner, &pod);
    let Some(running) = scheduler.running(&pod) else {
        let text = format!("no profile is named {:?}", pod.scheduler_name);
        return body::error(StatusCode::NOT_FOUND, &text);
    };
    let mut state = scheduler.state.lock();
    if let Err(gate) = running.profile.pre_enqueue(&scheduler.listers, &state.groups, &pod) {
        let gate = json!({ "plugin": gate.plugin, "reasons": gate.reasons.as_slice() });
        return body::json(StatusCode::OK, &json!({ "pod": pod.key(), "dryRun": true, "gatedBy": gate }));
    }
    let mut answer = verdicts(scheduler, running, &mut state, &pod);
    answer["dryRun"] = true.into();
    body::json(StatusCode::OK, &answer)
}

/// Plugins that refused the pod, with the events after which each is asked again.
fn wakers(running: &Running, refused_by: &std::collections::BTreeSet<&'static str>) -> Value {
    let points = &running.profile.points;
    let all = || points.pre_enqueue.iter().chain(&points.pre_filter).chain(&points.filter);
    let of = |name: &&'static str| {
        let events = all().find(|p| p.name() == *name).map(|p| p.events()).unwrap_or_default();
        ((*name).to_string(), json!(events))
    };
    refused_by.iter().map(of).collect::<serde_json::Map<_, _>>().into()
}

/// Every node's verdict and scores, as of now.
fn verdicts(scheduler: &Scheduler, running: &Running, state: &mut State, pod: &PodInfo) -> Value {
    let view = state.view(&scheduler.listers, &running.profile, pod);
    let why = cycle::explain(&running.profile, view, pod);
    let refused = why.refused.iter().map(|(node, r)| {
        json!({
            "node": node,
            "plugin": r.plugin,
            "reasons": r.reasons.as_slice(),
            "preemptionCouldHelp": r.code == Code::Unschedulable,
        })
    });
    let fits = why.scores.iter().map(|(node, scores)| {
        let total: i64 = scores.iter().map(|(_, s)| s).sum();
        let by: serde_json::Map<String, Value> =
            scores.iter().map(|(p, s)| ((*p).to_string(), (*s).into())).collect();
        json!({ "node": node, "total": total, "scores": by })
    });
    let before = why.pre_filter.as_ref();
    json!({
        "pod": pod.key(),
        "scheduler": running.profile.scheduler_name,
        "refusedBeforeNodes": before.map(|r| json!({ "plugin": r.plugin, "reasons": r.reasons.as_slice() })),
        "refused": refused.collect::<Vec<_>>(),
        "fits": fits.collect::<Vec<_>>(),
    })
}
