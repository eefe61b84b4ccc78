//! From what the informers see to cache and queue. Upstream: pkg/scheduler/eventhandlers.go.

use std::sync::Arc;

use client::{Kept, Meta};
use component::features::{self, Gate};
use informer::{Event, Factory, Options};
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::resource::v1::{DeviceClass, DeviceTaintRule, ResourceClaim};
use k8s_openapi::api::scheduling::v1alpha3::CompositePodGroup;
use k8s_openapi::api::scheduling::v1beta1::PodGroup;
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment};
use tokio::time::Instant;

use crate::devices::ResourceSlice;
use crate::framework::Change;
use crate::listers::Listers;
use crate::model::{GroupKey, GroupObject, Place, PodInfo, SeenPod, WireNode};
use crate::scheduler::{Scheduler, State};

/// Pods that still run or will; finished ones take no room.
const UNFINISHED: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// Whether rules give taints to devices. Upstream: pkg/scheduler/scheduler.go New, resourceslice tracker options.
fn taint_rules() -> bool {
    features::enabled(Gate::DRADeviceTaints) && features::enabled(Gate::DRADeviceTaintRules)
}

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
        csi_drivers: factory.informer(Options::default()).store(),
        capacities: factory.informer(Options::default()).store(),
        attachments: factory.informer(Options::default()).store(),
        budgets: factory.informer(Options::default()).store(),
        resource_claims: factory.informer(Options::default()).store(),
        device_classes: factory.informer(Options::default()).store(),
        resource_slices: factory.informer(Options::default()).store(),
        device_taint_rules: match taint_rules() {
            true => factory.informer(Options::default()).store(),
            false => Default::default(),
        },
    }
    .indexed()
}

/// Subscribes to everything.
pub fn subscribe(factory: &Factory, scheduler: &Arc<Scheduler>) {
    let to = scheduler.clone();
    let nodes = factory.informer::<WireNode>(Options::default());
    scheduler.keep(nodes.subscribe(move |e| node(&to, e)));
    let to = scheduler.clone();
    let pods = factory.informer::<SeenPod>(Options::default().fields(UNFINISHED));
    scheduler.keep(pods.subscribe(move |e| pod(&to, e)));
    let to = scheduler.clone();
    let namespaces = factory.informer::<Namespace>(Options::default());
    scheduler.keep(namespaces.subscribe(move |e| namespace(&to, e)));
    follow::<PersistentVolumeClaim>(factory, scheduler, |old, new| Change::Claim { old, new });
    follow::<PersistentVolume>(factory, scheduler, |old, new| Change::Volume { old, new });
    follow::<StorageClass>(factory, scheduler, |old, new| Change::Class { old, new });
    follow::<CSINode>(factory, scheduler, |old, new| Change::CsiNode { old, new });
    follow::<CSIDriver>(factory, scheduler, |old, new| Change::CsiDriver { old, new });
    follow::<CSIStorageCapacity>(factory, scheduler, |old, new| Change::Capacity { old, new });
    let to = scheduler.clone();
    let classes = factory.informer::<DeviceClass>(Options::default());
    scheduler.keep(classes.subscribe(move |e| device_class(&to, e)));
    follow::<ResourceSlice>(factory, scheduler, |old, _| Change::Devices { added: old.is_none() });
    let to = scheduler.clone();
    let claims = factory.informer::<ResourceClaim>(Options::default());
    scheduler.keep(claims.subscribe(move |e| resource_claim(&to, e)));
    let to = scheduler.clone();
    if taint_rules() {
        let rules = factory.informer::<DeviceTaintRule>(Options::default());
        scheduler.keep(rules.subscribe(move |_| {
            to.wake(&mut to.state.lock(), &Change::Devices { added: false });
            to.poke();
        }));
    }
    if scheduler.state.lock().groups.enabled() {
        let to = scheduler.clone();
        let groups = factory.informer::<PodGroup>(Options::default());
        scheduler.keep(groups.subscribe(move |e| pod_group(&to, e)));
    }
    if features::enabled(Gate::CompositePodGroup) {
        let to = scheduler.clone();
        let groups = factory.informer::<CompositePodGroup>(Options::default());
        scheduler.keep(groups.subscribe(move |e| composite_pod_group(&to, e)));
    }
    let to = scheduler.clone();
    let attachments = factory.informer::<VolumeAttachment>(Options::default());
    scheduler.keep(attachments.subscribe(move |event| {
        if matches!(event, Event::Deleted(_)) {
            to.wake(&mut to.state.lock(), &Change::AttachmentGone);
            to.poke();
        }
    }));
}

/// Wakes pods that a new or changed object of storage may help.
fn follow<K: Kept + Resource>(
    factory: &Factory,
    scheduler: &Arc<Scheduler>,
    change: impl for<'a> Fn(Option<&'a K>, &'a K) -> Change<'a> + Send + Sync + 'static,
) {
    let to = scheduler.clone();
    let informer = factory.informer::<K>(Options::default());
    scheduler.keep(informer.subscribe(move |event| {
        to.storage.send_modify(|version| *version += 1);
        let (old, new) = match &event {
            Event::Deleted(_) => return,
            Event::Added(new) => (None, new),
            Event::Updated { old, new } => (Some(&**old), new),
        };
        to.wake(&mut to.state.lock(), &change(old, new));
        to.poke();
    }));
}

fn device_class(scheduler: &Scheduler, event: Event<DeviceClass>) {
    let mut state = scheduler.state.lock();
    let new = event.object();
    let gone = matches!(event, Event::Deleted(_));
    state.cache.set_device_class(new.name(), (!gone).then(|| new.clone()));
    if !gone {
        let old = match &event {
            Event::Updated { old, .. } => Some(&**old),
            _ => None,
        };
        scheduler.wake(&mut state, &Change::DeviceClass { old, new });
    }
    drop(state);
    scheduler.poke();
}

fn resource_claim(scheduler: &Scheduler, event: Event<ResourceClaim>) {
    let change = match &event {
        Event::Added(new) => Change::ResourceClaim { old: None, new },
        Event::Updated { old, new } => Change::ResourceClaim { old: Some(&**old), new },
        Event::Deleted(old) => Change::ResourceClaimGone(old),
    };
    let mut state = scheduler.state.lock();
    if let Event::Updated { old, new } = &event
        && old.metadata.uid != new.metadata.uid
    {
        // Deleted and made again while nobody looked.
        state.assumed.claim_seen(old, true);
    }
    state.assumed.claim_seen(event.object(), matches!(event, Event::Deleted(_)));
    scheduler.wake(&mut state, &change);
    scheduler.release(&mut state, change.name());
    drop(state);
    scheduler.storage.send_modify(|version| *version += 1);
    scheduler.poke();
}

fn pod_group(scheduler: &Scheduler, event: Event<PodGroup>) {
    let new = event.object();
    let key: GroupKey = new.key().into();
    let gone = matches!(event, Event::Deleted(_));
    let mut state = scheduler.state.lock();
    let object = (!gone).then(|| GroupObject::Pods(new.clone()));
    state.groups.set(&key, object.clone());
    state.queue.set_group(&key, object, Instant::now());
    if !gone {
        let old = match &event {
            Event::Updated { old, .. } => Some(&**old),
            _ => None,
        };
        scheduler.wake(&mut state, &Change::PodGroup { key: &key, old, new });
    }
    drop(state);
    scheduler.poke();
}

fn composite_pod_group(scheduler: &Scheduler, event: Event<CompositePodGroup>) {
    let gone = matches!(event, Event::Deleted(_));
    let object = GroupObject::Groups(event.object().clone());
    let key = object.key();
    let mut state = scheduler.state.lock();
    state.groups.set(&key, (!gone).then(|| object.clone()));
    state.queue.set_group(&key, (!gone).then_some(object), Instant::now());
    if !gone {
        let new = matches!(event, Event::Added(_));
        scheduler.wake(&mut state, &Change::CompositePodGroup { key: &key, new });
    }
    drop(state);
    scheduler.poke();
}

fn namespace(scheduler: &Scheduler, event: Event<Namespace>) {
    let gone = matches!(event, Event::Deleted(_));
    let meta = &event.object().metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    if let Event::Updated { old, new } = &event
        && old.metadata.labels == new.metadata.labels
    {
        return;
    }
    let mut state = scheduler.state.lock();
    state.cache.set_namespace(name, (!gone).then(|| meta.labels.clone().unwrap_or_default()));
    scheduler.wake(&mut state, &Change::Namespace);
    drop(state);
    scheduler.poke();
}

fn node(scheduler: &Scheduler, event: Event<WireNode>) {
    let mut state = scheduler.state.lock();
    match &event {
        Event::Added(new) => {
            state.cache.set_node(new.clone());
            scheduler.wake(&mut state, &Change::NodeAdded(new));
        }
        Event::Updated { old, new } => {
            let changed = old.metadata.labels != new.metadata.labels
                || old.spec != new.spec
                || old.status.allocatable != new.status.allocatable
                || old.status.declared_features != new.status.declared_features;
            if changed || old.status.images != new.status.images {
                state.cache.set_node(new.clone());
            }
            if changed {
                scheduler.wake(&mut state, &Change::NodeUpdated { old, new });
            }
        }
        Event::Deleted(old) => {
            state.cache.remove_node(&old.metadata.name);
            scheduler.wake(&mut state, &Change::NodeGone);
        }
    }
    drop(state);
    scheduler.poke();
}

fn pod(scheduler: &Scheduler, event: Event<SeenPod>) {
    let (old, new) = match &event {
        Event::Added(new) | Event::Deleted(new) => (None, new.0.clone()),
        Event::Updated { old, new } => (Some(old.0.clone()), new.0.clone()),
    };
    let mut state = scheduler.state.lock();
    match (event, old) {
        (Event::Deleted(_), _) => gone(scheduler, &mut state, &new),
        (_, Some(old)) if old.uid != new.uid => {
            gone(scheduler, &mut state, &old);
            arrived(scheduler, &mut state, None, new);
        }
        (_, old) => arrived(scheduler, &mut state, old, new),
    }
    drop(state);
    scheduler.poke();
}

fn gone(scheduler: &Scheduler, state: &mut State, info: &Arc<PodInfo>) {
    state.queue.remove(&info.uid);
    state.groups.remove(info);
    state.nominate(info, None);
    state.queue.going(&info.uid);
    if let Some(removed) = state.cache.remove(&info.uid) {
        scheduler.wake(state, &Change::PodGone(&removed));
    }
}

fn arrived(scheduler: &Scheduler, state: &mut State, old: Option<Arc<PodInfo>>, info: Arc<PodInfo>) {
    if info.finished {
        return gone(scheduler, state, &info);
    }
    match info.node.clone() {
        Some(node) => placed(scheduler, state, old, &info, &node),
        None => waiting(scheduler, state, old, info),
    }
}

fn placed(
    scheduler: &Scheduler,
    state: &mut State,
    old: Option<Arc<PodInfo>>,
    info: &Arc<PodInfo>,
    node: &str,
) {
    if growing(scheduler, info) {
        grow(scheduler, state, old.as_ref(), info);
    } else {
        state.queue.remove(&info.uid);
    }
    state.nominate(info, None);
    state.groups.add(info);
    if info.terminating {
        state.queue.going(&info.uid);
    }
    state.cache.place(info.clone(), node, Place::Seen);
    match old.filter(|o| o.node.is_some()) {
        None => scheduler.wake(state, &Change::PodAssigned(info)),
        Some(old) => {
            if !old.same_place(info) {
                scheduler.wake(state, &Change::PodChanged { old: &old, new: info });
            }
        }
    }
}

/// Whether room is to be made for a pod that runs.
fn growing(scheduler: &Scheduler, info: &PodInfo) -> bool {
    features::enabled(Gate::InPlacePodVerticalScalingSchedulerPreemption)
        && info.deferred()
        && scheduler.running(info).is_some()
}

/// It waits beside the pods that have no node yet.
fn grow(scheduler: &Scheduler, state: &mut State, old: Option<&Arc<PodInfo>>, info: &Arc<PodInfo>) {
    let (gate, now) = (scheduler.gate(&state.groups, info), Instant::now());
    match old.filter(|old| growing(scheduler, old) && state.queue.contains(&info.uid)) {
        None => state.queue.add(info.clone(), gate, now),
        Some(old) => {
            let change = Change::Itself { old, new: info };
            let State { queue, groups, .. } = state;
            let helps =
                |by: &_| scheduler.running(info).is_some_and(|r| r.profile.wakes(&change, info, by, groups));
            queue.update(info.clone(), gate, now, helps);
        }
    }
}

fn waiting(scheduler: &Scheduler, state: &mut State, old: Option<Arc<PodInfo>>, info: Arc<PodInfo>) {
    let Some(running) = scheduler.running(&info) else { return };
    state.groups.add(&info);
    // Placed by us and on its way; what the informer shows is older.
    if state.cache.is_assumed(&info.uid) {
        return;
    }
    let gate = scheduler.gate(&state.groups, &info);
    let now = Instant::now();
    if let Some(node) = &info.nominated {
        state.nominate(&info, Some(node));
    } else if old.as_ref().is_some_and(|o| o.nominated.is_some()) {
        state.nominate(&info, None);
    }
    let Some(old) = old else {
        state.queue.add(info.clone(), gate, now);
        if state.groups.enabled() && info.group.is_some() {
            scheduler.wake(state, &Change::PodWaiting(&info));
        }
        return;
    };
    let profile = &running.profile;
    let probe = info.clone();
    let State { queue, groups, .. } = state;
    let change = Change::Itself { old: &old, new: &probe };
    queue.update(info, gate, now, |by| profile.wakes(&change, &probe, by, groups));
}
