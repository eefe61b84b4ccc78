//! How pods and groups move through the queue.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::model::{GroupObject, Interner, WirePod};

fn queue() -> Queue {
    let seconds = Duration::from_secs;
    let periods =
        Periods { initial_backoff: seconds(1), max_backoff: seconds(10), max_unschedulable: seconds(300) };
    Queue::new(periods, true, false)
}

fn pod(name: &str, priority: i32, group: bool) -> Arc<PodInfo> {
    let group = group.then(|| json!({ "podGroupName": "g" }));
    let pod = json!({
        "metadata": { "name": name, "namespace": "n", "uid": name },
        "spec": { "priority": priority, "schedulingGroup": group, "containers": [] },
    });
    let pod: WirePod = serde_json::from_value(pod).unwrap();
    Arc::new(PodInfo::new(&Interner::default(), &pod))
}

fn object() -> GroupObject {
    let object = json!({
        "metadata": { "name": "g", "namespace": "n" },
        "spec": { "priority": 5, "schedulingPolicy": { "gang": { "minCount": 2 } } },
    });
    GroupObject::Pods(Arc::new(serde_json::from_value(object).unwrap()))
}

fn key() -> GroupKey {
    "n/g".into()
}

/// Names of what comes next.
fn next(queue: &mut Queue, now: Instant) -> Vec<String> {
    let name = |p: Popped| p.info.name.to_string();
    match queue.pop(now, |_| None) {
        None => vec![],
        Some(Next::Pod(popped)) => vec![name(popped)],
        Some(Next::Group(group)) => group.pods.into_iter().map(name).collect(),
    }
}

fn size(queue: &Queue, place: &str) -> usize {
    queue.sizes().iter().find(|(name, _)| *name == place).unwrap().1
}

#[test]
fn pods_of_a_group_wait_for_it_and_are_taken_together() {
    let (mut q, now) = (queue(), Instant::now());
    q.add(pod("b", 1, true), None, now);
    q.add(pod("a", 1, true), None, now);
    q.add(pod("single", 4, false), None, now);
    assert_eq!((size(&q, "incomplete"), size(&q, "active")), (2, 1));
    q.set_group(&key(), Some(object()), now);
    // The group's priority counts.
    assert_eq!(next(&mut q, now), ["a", "b"]);
    assert_eq!(next(&mut q, now), ["single"]);
    // One that comes meanwhile is pending.
    q.add(pod("c", 1, true), None, now);
    assert_eq!(size(&q, "pending"), 1);
    q.finish_group(&key(), Ended::Placed, now);
    assert_eq!(next(&mut q, now), ["c"]);
    q.finish_group(&key(), Ended::Placed, now);
    assert_eq!(next(&mut q, now), Vec::<String>::new());
}

#[test]
fn a_group_that_fits_nowhere_backs_off_as_one() {
    let (mut q, now) = (queue(), Instant::now());
    q.set_group(&key(), Some(object()), now);
    for name in ["a", "b", "c", "d"] {
        q.add(pod(name, 1, true), None, now);
    }
    assert_eq!(next(&mut q, now).len(), 4);
    for name in ["a", "b", "c", "d"] {
        q.refused(&name.into(), RefusedBy::new(), now);
    }
    q.finish_group(&key(), Ended::Refused { victims: true }, now);
    assert_eq!(size(&q, "backoff"), 4);
    // Victims are still there.
    assert!(next(&mut q, now).is_empty());
    q.victims_went();
    assert_eq!(next(&mut q, now).len(), 4);
    // An error has to wait in full.
    for name in ["a", "b", "c", "d"] {
        q.failed(&name.into(), now);
    }
    q.finish_group(&key(), Ended::Failed, now);
    assert!(next(&mut q, now).is_empty());
    assert_eq!(q.deadline(), Some(now + Duration::from_secs(1)));
    q.flush(now + Duration::from_secs(1));
    assert_eq!(next(&mut q, now).len(), 4);
}

/// A queue with a pod whose victims are being sent away.
fn making_room(now: Instant) -> Queue {
    let mut q = queue();
    q.add(pod("p", 1, false), None, now);
    assert_eq!(next(&mut q, now), ["p"]);
    q.refused(&"p".into(), ["F"].into(), now);
    q.makes_room(&"p".into());
    q
}

#[test]
fn a_pod_that_makes_room_is_not_tried_before_its_last_victim_goes() {
    let now = Instant::now();
    let mut q = making_room(now);
    q.going(&"first".into());
    q.wake(now, "AssignedPodDelete", |_, _| true);
    assert_eq!(size(&q, "unschedulable"), 1);
    q.last_victim(&"p".into(), &"last".into());
    q.going(&"other".into());
    q.wake(now, "AssignedPodDelete", |_, _| true);
    q.flush(now + Duration::from_secs(600));
    assert_eq!(size(&q, "unschedulable"), 1);
    // Its end is seen before the answer to the call.
    q.going(&"last".into());
    q.wake(now, "AssignedPodDelete", |_, _| true);
    assert_eq!(next(&mut q, now), ["p"]);
}

#[test]
fn a_pod_that_cannot_make_room_goes_on() {
    let now = Instant::now();
    let mut q = making_room(now);
    q.made_room(&"p".into(), true, now);
    assert_eq!(next(&mut q, now), ["p"]);
    let mut q = making_room(now);
    q.made_room(&"p".into(), false, now);
    assert_eq!(size(&q, "unschedulable"), 1);
    q.wake(now, "AssignedPodDelete", |_, _| true);
    assert_eq!(next(&mut q, now), ["p"]);
    // What is left of one that goes does not hold back another of its name.
    let mut q = making_room(now);
    q.remove(&"p".into());
    q.add(pod("p", 1, false), None, now);
    assert_eq!(next(&mut q, now), ["p"]);
}

#[test]
fn the_longest_backoff_grows_with_the_root_of_the_size() {
    let q = queue();
    assert_eq!(q.wait(0, 9), Duration::ZERO);
    assert_eq!(q.wait(1, 9), Duration::from_secs(1));
    assert_eq!(q.wait(30, 1), Duration::from_secs(10));
    assert_eq!(q.wait(30, 9), Duration::from_secs(30));
}

#[test]
fn a_plugin_holds_back_the_whole_group() {
    let (mut q, now) = (queue(), Instant::now());
    q.set_group(&key(), Some(object()), now);
    q.add(pod("a", 1, true), None, now);
    q.add(pod("b", 1, true), None, now);
    let gate = |pod: &PodInfo| (*pod.name == *"b").then_some("G");
    assert!(q.pop(now, gate).is_none());
    assert_eq!(size(&q, "gated"), 2);
    q.wake_groups(now, "E", None, |_, _| false, |_, _| true);
    assert_eq!(size(&q, "gated"), 2, "the plugin does not look at such events");
    q.wake_groups(now, "E", Some(&"n/other".into()), |_, _| true, |_, _| true);
    assert_eq!(size(&q, "gated"), 2, "it is about another group");
    q.wake_groups(now, "E", Some(&key()), |_, plugin| plugin == "G", |_, _| true);
    assert_eq!(next(&mut q, now), ["a", "b"]);
}

#[test]
fn a_group_that_goes_leaves_its_pods_incomplete() {
    let (mut q, now) = (queue(), Instant::now());
    q.set_group(&key(), Some(object()), now);
    q.add(pod("a", 1, true), None, now);
    q.set_group(&key(), None, now);
    assert_eq!((size(&q, "incomplete"), next(&mut q, now).len()), (1, 0));
    q.set_group(&key(), Some(object()), now);
    assert_eq!(next(&mut q, now), ["a"]);
    // Gone while it is tried.
    q.set_group(&key(), None, now);
    q.refused(&"a".into(), RefusedBy::new(), now);
    q.finish_group(&key(), Ended::Refused { victims: false }, now);
    assert_eq!(size(&q, "incomplete"), 1);
    q.remove(&"a".into());
    assert!(q.groups.is_empty() && q.entries.is_empty());
}

#[test]
fn the_last_pod_takes_its_group_with_it() {
    let (mut q, now) = (queue(), Instant::now());
    q.set_group(&key(), Some(object()), now);
    q.add(pod("a", 1, true), None, now);
    q.remove(&"a".into());
    assert!(q.active.is_empty());
    assert!(next(&mut q, now).is_empty());
}

#[test]
fn a_pod_that_is_to_grow_waits_without_its_group() {
    let pod = json!({
        "metadata": { "name": "p", "namespace": "n", "uid": "p" },
        "spec": { "nodeName": "a", "schedulingGroup": { "podGroupName": "g" }, "containers": [] },
        "status": { "conditions": [{ "type": "PodResizePending", "status": "True", "reason": "Deferred" }] },
    });
    let pod: WirePod = serde_json::from_value(pod).unwrap();
    let pod = Arc::new(PodInfo::new(&Interner::default(), &pod));
    let (mut queue, now) = (queue(), Instant::now());
    queue.add(pod.clone(), None, now);
    assert_eq!(next(&mut queue, now), ["p"]);
    queue.refused(&pod.uid, RefusedBy::new(), now);
    assert_eq!(queue.describe(&pod.uid)["place"], "unschedulable");
}

#[test]
fn pods_wait_with_the_topmost_group() {
    let object = |name: &str, parent: Option<&str>| {
        let spec = json!({ "schedulingPolicy": { "basic": {} }, "parentCompositePodGroupName": parent });
        let object = json!({ "metadata": { "name": name, "namespace": "n" }, "spec": spec });
        GroupObject::Pods(Arc::new(serde_json::from_value(object).unwrap()))
    };
    let composite = |name: &str, parent: Option<&str>| {
        let spec = json!({
            "priority": 7,
            "schedulingPolicy": { "basic": {} },
            "parentCompositePodGroupName": parent,
            "workloadRef": { "workloadName": "w", "templateName": "t" },
        });
        let object = json!({ "metadata": { "name": name, "namespace": "n" }, "spec": spec });
        GroupObject::Groups(Arc::new(serde_json::from_value(object).unwrap()))
    };
    let member = |name: &str, group: &str| {
        let pod = json!({
            "metadata": { "name": name, "namespace": "n", "uid": name },
            "spec": { "schedulingGroup": { "podGroupName": group }, "containers": [] },
        });
        let pod: WirePod = serde_json::from_value(pod).unwrap();
        Arc::new(PodInfo::new(&Interner::default(), &pod))
    };
    let second = Duration::from_secs(1);
    let periods = Periods { initial_backoff: second, max_backoff: second, max_unschedulable: second };
    let (mut q, now) = (Queue::new(periods, true, true), Instant::now());
    let set = |q: &mut Queue, object: GroupObject, there: bool| {
        q.set_group(&object.key(), there.then(|| object.clone()), now);
    };
    q.add(member("a", "g"), None, now);
    q.add(member("b", "h"), None, now);
    set(&mut q, object("g", Some("c")), true);
    set(&mut q, object("h", Some("d")), true);
    assert_eq!((size(&q, "incomplete"), next(&mut q, now).len()), (2, 0));
    set(&mut q, composite("c", Some("d")), true);
    assert_eq!(size(&q, "incomplete"), 2);
    set(&mut q, composite("d", None), true);
    assert_eq!((size(&q, "incomplete"), size(&q, "active")), (0, 2));
    // A part goes, and comes back.
    set(&mut q, composite("c", Some("d")), false);
    assert_eq!((size(&q, "incomplete"), size(&q, "active")), (1, 1));
    set(&mut q, composite("c", Some("d")), true);
    let Some(Next::Group(taken)) = q.pop(now, |_| None) else { panic!("no group is ready") };
    assert_eq!((taken.pods.len(), taken.tree.children.len()), (2, 2));
    // The top goes while they are tried.
    set(&mut q, composite("d", None), false);
    for pod in ["a", "b"] {
        q.refused(&pod.into(), RefusedBy::new(), now);
    }
    q.finish_group(&taken.key, Ended::Refused { victims: false }, now);
    assert_eq!(size(&q, "incomplete"), 2);
    set(&mut q, object("g", Some("c")), false);
    set(&mut q, object("h", Some("d")), false);
    set(&mut q, composite("c", Some("d")), false);
    ["a", "b"].into_iter().for_each(|pod| q.remove(&pod.into()));
    assert!(q.groups.is_empty() && q.entries.is_empty());
}
