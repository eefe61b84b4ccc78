//! What keeps the configuration up to date: followers of both kinds, digestion after every change, the conditions of
//! flow schemas, the bootstrap objects, and the periodic division of seats.
//! Upstream: `apf_controller.go` and `k8s.io/kubernetes/pkg/registry/flowcontrol/rest/storage_flowcontrol.go`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use component::app::Tasks;
use flowcontrol::bootstrap::{self, Kind};
use flowcontrol::borrowing;
use flowcontrol::config::{Dangling, digest};
use k8s_openapi::api::flowcontrol::v1 as api;
use machinery::Value;
use parking_lot::Mutex;
use registry::errors::ApiError;
use serde_json::json;
use tokio::sync::{Notify, watch};

use super::controller::Controller;
use crate::endpoints::health::Health;
use crate::local::{Change, Gvr, Local, now};

const CONSUMER: &str = "api-priority-and-fairness-config-consumer-v1";
const PRODUCER: &str = "api-priority-and-fairness-config-producer-v1";
/// How often the bootstrap objects are looked at: servers of different versions would fight without a pause.
const UPKEEP: Duration = Duration::from_secs(60);
/// More conditions than this are not written for one flow schema in a minute: servers that disagree would fight.
const WRITES_PER_MINUTE: usize = 6;

/// The objects there are, by name.
#[derive(Default)]
struct Objects {
    levels: Mutex<BTreeMap<String, Arc<Value>>>,
    schemas: Mutex<BTreeMap<String, Arc<Value>>>,
    changed: Notify,
}

impl Objects {
    fn of(&self, kind: Kind) -> &Mutex<BTreeMap<String, Arc<Value>>> {
        match kind {
            Kind::Level => &self.levels,
            Kind::Schema => &self.schemas,
        }
    }

    fn change(&self, kind: Kind, change: Change) {
        let name = |object: &Value| object.str_at(&["metadata", "name"]).unwrap_or_default().to_owned();
        let mut objects = self.of(kind).lock();
        match change {
            Change::Replace(all) => *objects = all.into_iter().map(|o| (name(&o), o)).collect(),
            Change::Set(object) => {
                objects.insert(name(&object), object);
            }
            Change::Remove(object) => {
                objects.remove(&name(&object));
            }
        }
        drop(objects);
        self.changed.notify_one();
    }

    fn typed<T: serde::de::DeserializeOwned>(&self, kind: Kind) -> Vec<T> {
        let all: Vec<Arc<Value>> = self.of(kind).lock().values().cloned().collect();
        all.iter().filter_map(|object| machinery::value::from_value(object).ok()).collect()
    }
}

fn gvr(kind: Kind) -> Gvr {
    match kind {
        Kind::Level => Gvr::PRIORITY_LEVELS,
        Kind::Schema => Gvr::FLOW_SCHEMAS,
    }
}

/// Starts all tasks.
pub(crate) fn start(controller: &Arc<Controller>, local: &Local, tasks: &Tasks, health: &Health) {
    health.hook("priority-and-fairness-filter").finish();
    health.hook("storage-object-count-tracker-hook").finish();
    let consumer = health.hook("priority-and-fairness-config-consumer");
    let producer = health.hook("priority-and-fairness-config-producer");
    let objects = Arc::new(Objects::default());
    let synced = watch::Sender::new(0usize);
    for kind in [Kind::Level, Kind::Schema] {
        let (local, stop) = (local.clone(), tasks.shutdown().clone());
        let (objects, synced) = (objects.clone(), synced.clone());
        let sink = move |change| objects.change(kind, change);
        let known = move || synced.send_modify(|n| *n += 1);
        tasks.spawn("flowcontrol-follower", local.follow(gvr(kind), stop, known, sink));
    }
    let (stop, ready) = (tasks.shutdown().clone(), synced.subscribe());
    let consume = consume(controller.clone(), local.as_manager(CONSUMER), objects.clone(), ready, consumer);
    tasks.spawn("priority-and-fairness-config-consumer", async move {
        tokio::select! { () = consume => {}, () = stop.cancelled() => {} }
    });
    let (stop, ready) = (tasks.shutdown().clone(), synced.subscribe());
    let produce = produce(local.as_manager(PRODUCER), objects, ready, producer);
    tasks.spawn("priority-and-fairness-config-producer", async move {
        tokio::select! { () = produce => {}, () = stop.cancelled() => {} }
    });
    let (stop, controller) = (tasks.shutdown().clone(), controller.clone());
    let rebalance = async move {
        let mut ticks = tokio::time::interval(borrowing::PERIOD);
        loop {
            ticks.tick().await;
            controller.rebalance();
        }
    };
    tasks.spawn("priority-and-fairness-borrowing", async move {
        tokio::select! { () = rebalance => {}, () = stop.cancelled() => {} }
    });
}

type Hook = crate::endpoints::health::Hook;

/// Digests the objects whenever they change, and tells in the flow schemas' conditions.
async fn consume(
    controller: Arc<Controller>,
    local: Local,
    objects: Arc<Objects>,
    mut ready: watch::Receiver<usize>,
    hook: Hook,
) {
    if ready.wait_for(|kinds| *kinds == 2).await.is_err() {
        return;
    }
    let mut writes = Writes::default();
    loop {
        let (levels, schemas) = (
            objects.typed::<api::PriorityLevelConfiguration>(Kind::Level),
            objects.typed::<api::FlowSchema>(Kind::Schema),
        );
        let config = digest(&levels, &schemas);
        for (level, why) in &config.broken {
            tracing::warn!(
                level,
                why,
                "Ignoring PriorityLevelConfiguration object because its spec is broken"
            );
        }
        controller.adopt(&config);
        hook.finish();
        let again = write_conditions(&local, &config.dangling, &mut writes).await;
        let pause = async {
            match again {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = objects.changed.notified() => {}
            () = controller.idle.notified() => {}
            () = pause => {}
        }
    }
}

/// When conditions were written, for each flow schema.
#[derive(Default)]
struct Writes(HashMap<String, VecDeque<Instant>>);

impl Writes {
    /// Whether another write is due now; it is counted if so.
    fn allow(&mut self, schema: &str, now: Instant) -> bool {
        self.0.retain(|_, times| {
            times.retain(|at| now.saturating_duration_since(*at) < Duration::from_secs(60));
            !times.is_empty()
        });
        let times = self.0.entry(schema.to_owned()).or_default();
        let allowed = times.len() < WRITES_PER_MINUTE;
        if allowed {
            times.push_back(now);
        }
        allowed
    }
}

/// Writes conditions; the time after which to look again, when some could not be written.
async fn write_conditions(local: &Local, all: &[Dangling], writes: &mut Writes) -> Option<Duration> {
    let mut again = None;
    for dangling in all {
        if !writes.allow(&dangling.schema, Instant::now()) {
            again.get_or_insert(Duration::from_secs(rand::random_range(30..75)));
            continue;
        }
        let object = json!({
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
            "kind": "FlowSchema",
            "metadata": {"name": dangling.schema},
            "status": {"conditions": [{
                "type": "Dangling",
                "status": dangling.status,
                "lastTransitionTime": now(),
                "reason": dangling.reason,
                "message": dangling.message,
            }]},
        });
        match local.apply_status(Gvr::FLOW_SCHEMAS, "", &object).await {
            Ok(()) => {}
            // Its end is on its way to us.
            Err(error) if error.code == 404 => {}
            Err(error) => {
                let schema = &dangling.schema;
                tracing::warn!(schema, err = %error, "failed to set a status.condition for FlowSchema");
                again.get_or_insert(Duration::from_secs(1));
            }
        }
    }
    again
}

/// Creates the bootstrap objects and keeps them as they should be.
async fn produce(local: Local, objects: Arc<Objects>, mut ready: watch::Receiver<usize>, hook: Hook) {
    if ready.wait_for(|kinds| *kinds == 2).await.is_err() {
        return;
    }
    let mut done = false;
    loop {
        match ensure(&local, &objects).await {
            Ok(()) => {
                hook.finish();
                done = true;
            }
            Err(error) => {
                tracing::warn!(err = %error, "APF bootstrap ensurer ran into error, will retry later")
            }
        }
        tokio::time::sleep(if done { UPKEEP } else { Duration::from_secs(1) }).await;
    }
}

async fn ensure(local: &Local, objects: &Objects) -> Result<(), ApiError> {
    let found = |kind: Kind, name: &str| objects.of(kind).lock().get(name).cloned();
    for wanted in bootstrap::objects() {
        let gvr = gvr(wanted.kind);
        let Some(current) = found(wanted.kind, wanted.name()) else {
            local.ensure(gvr, "", &wanted.value).await?;
            continue;
        };
        let current = machinery::value::from_value(&current).map_err(ApiError::internal)?;
        let Some(revised) = bootstrap::revise(&current, wanted) else { continue };
        match local.update(gvr, "", &revised).await {
            // Somebody else was faster; it is looked at again.
            Err(error) if error.code == 409 => {}
            result => result?,
        }
    }
    for kind in [Kind::Schema, Kind::Level] {
        let all: Vec<(String, Arc<Value>)> = objects.of(kind).lock().clone().into_iter().collect();
        for (name, object) in all {
            let object = machinery::value::from_value(&object).map_err(ApiError::internal)?;
            if bootstrap::is_unwanted(kind, &object) {
                local.delete(gvr(kind), "", &name).await?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_rare() {
        let (mut writes, start) = (Writes::default(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        assert!((0..6).all(|s| writes.allow("a", at(s))));
        assert!(!writes.allow("a", at(7)));
        assert!(writes.allow("b", at(7)));
        assert!(writes.allow("a", at(61)));
    }
}
