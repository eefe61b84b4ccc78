//! From what the informers see to cache and queue. Upstream: pkg/scheduler/eventhandlers.go.

use std::sync::Arc;

use informer::{Event, Factory, Options};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use tokio::time::Instant;

use crate::framework::Change;
use crate::listers::Listers;
use crate::model::{Place, PodInfo};
use crate::scheduler::{Scheduler, State};

/// Pods that still run or will; finished ones take no room.
const UNFINISHED: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// Makes the informers whose stores plugins read.
pub fn listers(factory: &Factory) -> Listers {
    Listers {
        services: factory.informer(Options::default()).store(),
        controllers: factory.informer(Options::default()).store(),
        replica_sets: factory.informer(Options::default()).store(),
        stateful_sets: factory.informer(Options::default()).store(),
        claims: factory.informer(Options::default()).store(),
        volumes: factory.informer(Options::default()).store(),
        classes: factory.informer(Options::default()).store(),
        csi_nodes: factory.informer(Options::default()).store(),
        budgets: factory.informer(Options::default()).store(),
    }
}

/// Subscribes to everything.
pub fn subscribe(factory: &Factory, scheduler: &Arc<Scheduler>) {
    let to = scheduler.clone();
    scheduler.keep(factory.informer::<Node>(Options::default()).subscribe(move |e| node(&to, e)));
    let to = scheduler.clone();
    let pods = factory.informer::<Pod>(Options::default().fields(UNFINISHED));
    scheduler.keep(pods.subscribe(move |e| pod(&to, e)));
    let to = scheduler.clone();
    let namespaces = factory.informer::<Namespace>(Options::default());
    scheduler.keep(namespaces.subscribe(move |e| namespace(&to, e)));
    storage::<k8s_openapi::api::core::v1::PersistentVolumeClaim>(factory, scheduler);
    storage::<k8s_openapi::api::core::v1::PersistentVolume>(factory, scheduler);
    storage::<k8s_openapi::api::storage::v1::StorageClass>(factory, scheduler);
    storage::<k8s_openapi::api::storage::v1::CSINode>(factory, scheduler);
}

fn storage<K: client::Object>(factory: &Factory, scheduler: &Arc<Scheduler>) {
    let to = scheduler.clone();
    let informer = factory.informer::<K>(Options::default());
    scheduler.keep(informer.subscribe(move |event| {
        if !matches!(event, Event::Deleted(_)) {
            to.wake(&mut to.state.lock(), &Change::Storage);
            to.poke();
        }
    }));
}

fn namespace(scheduler: &Scheduler, event: Event<Namespace>) {
    let gone = matches!(event, Event::Deleted(_));
    let meta = &event.object().metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let mut state = scheduler.state.lock();
    state.cache.set_namespace(name, (!gone).then(|| meta.labels.clone().unwrap_or_default()));
    scheduler.wake(&mut state, &Change::Namespace);
    drop(state);
    scheduler.poke();
}

fn node(scheduler: &Scheduler, event: Event<Node>) {
    let mut state = scheduler.state.lock();
    match &event {
        Event::Added(new) => {
            state.cache.set_node(new.clone());
            scheduler.wake(&mut state, &Change::NodeAdded(new));
        }
        Event::Updated { old, new } => {
            state.cache.set_node(new.clone());
            let offered = |n: &Node| n.status.as_ref().and_then(|s| s.allocatable.clone());
            let changed = old.metadata.labels != new.metadata.labels
                || old.spec != new.spec
                || offered(old) != offered(new);
            if changed {
                scheduler.wake(&mut state, &Change::NodeUpdated { old, new });
            }
        }
        Event::Deleted(old) => {
            state.cache.remove_node(old.metadata.name.as_deref().unwrap_or_default());
            scheduler.wake(&mut state, &Change::NodeGone);
        }
    }
    drop(state);
    scheduler.poke();
}

fn assigned(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|n| !n.is_empty())
}

fn finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn pod(scheduler: &Scheduler, event: Event<Pod>) {
    let mut state = scheduler.state.lock();
    match event {
        Event::Deleted(old) => gone(scheduler, &mut state, old),
        Event::Added(new) => arrived(scheduler, &mut state, None, new),
        Event::Updated { old, new } if old.metadata.uid != new.metadata.uid => {
            gone(scheduler, &mut state, old);
            arrived(scheduler, &mut state, None, new);
        }
        Event::Updated { old, new } => arrived(scheduler, &mut state, Some(&old), new),
    }
    drop(state);
    scheduler.poke();
}

fn gone(scheduler: &Scheduler, state: &mut State, pod: Arc<Pod>) {
    let info = Arc::new(PodInfo::new(pod));
    state.queue.remove(&info.uid);
    state.nominate(&info, None);
    if let Some(removed) = state.cache.remove(&info.uid) {
        scheduler.wake(state, &Change::PodGone(&removed));
    }
}

fn arrived(scheduler: &Scheduler, state: &mut State, old: Option<&Pod>, new: Arc<Pod>) {
    if finished(&new) {
        return gone(scheduler, state, new);
    }
    let info = Arc::new(PodInfo::new(new));
    match assigned(&info.pod) {
        Some(node) => placed(scheduler, state, old, &info, node),
        None => waiting(scheduler, state, old, info),
    }
}

fn placed(scheduler: &Scheduler, state: &mut State, old: Option<&Pod>, info: &Arc<PodInfo>, node: &str) {
    state.queue.remove(&info.uid);
    state.nominate(info, None);
    state.cache.place(info.clone(), node, Place::Seen);
    match old.filter(|o| assigned(o).is_some()) {
        None => scheduler.wake(state, &Change::PodAssigned(info)),
        Some(old) => {
            let before = PodInfo::new(Arc::new(old.clone()));
            let labels = old.metadata.labels != info.pod.metadata.labels;
            let resized = before.requests != info.requests;
            let ending = before.terminating() != info.terminating();
            if labels || resized || ending {
                scheduler.wake(state, &Change::PodChanged { new: info, smaller: resized });
            }
        }
    }
}

fn waiting(scheduler: &Scheduler, state: &mut State, old: Option<&Pod>, info: Arc<PodInfo>) {
    let Some(running) = scheduler.running(&info) else { return };
    // Placed by us and on its way; what the informer shows is older.
    if state.cache.is_assumed(&info.uid) {
        return;
    }
    let gate = running.profile.pre_enqueue(&info).err().map(|r| r.plugin);
    let now = Instant::now();
    if let Some(node) = info.nominated() {
        let node = node.to_string();
        state.nominate(&info, Some(&node));
    } else if old.is_some_and(|o| PodInfo::new(Arc::new(o.clone())).nominated().is_some()) {
        state.nominate(&info, None);
    }
    let Some(old) = old else { return state.queue.add(info, gate, now) };
    let itself = old.spec != info.pod.spec
        || old.metadata.labels != info.pod.metadata.labels
        || old.metadata.annotations != info.pod.metadata.annotations
        || old.metadata.deletion_timestamp != info.pod.metadata.deletion_timestamp;
    let profile = &running.profile;
    let probe = info.clone();
    state.queue.update(info, gate, now, |by| itself && profile.wakes(&Change::Itself, &probe, by));
}
