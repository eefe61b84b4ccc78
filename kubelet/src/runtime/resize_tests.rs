use std::sync::Arc;

use super::*;
use crate::runtime::model::{ContainerStatus, SandboxStatus};
use serde_json::{Value, json};

fn pod(containers: Value, level: Value) -> Pod {
    let init = json!([{"name": "side", "restartPolicy": "Always"}, {"name": "once"}]);
    let spec = json!({"initContainers": init, "containers": containers, "resources": level});
    serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": spec})).unwrap()
}

fn status(names: &[&str]) -> PodStatus {
    let one = |name: &&str| ContainerStatus {
        name: (*name).into(),
        id: ContainerId { runtime: "r".into(), id: (*name).into() },
        state: ContainerState::Running,
        sandbox_id: "s".into(),
        ..Default::default()
    };
    PodStatus {
        sandboxes: vec![SandboxStatus { id: "s".into(), ready: true, ..Default::default() }],
        containers: names.iter().map(one).collect(),
        ..Default::default()
    }
}

fn container(name: &str, cpu: &str, memory: &str) -> Value {
    let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let limits = json!({"cpu": cpu, "memory": memory});
    let mut out = json!({"name": name, "resources": {"limits": limits, "requests": limits}});
    if name == "restarts" {
        out["resizePolicy"] = policy;
    }
    out
}

fn state(of: &Pod) -> State {
    let mut state = State::in_memory();
    let mut all = PodResources::of(of);
    for (name, resources) in &mut all.containers {
        let container = resizable(of).find(|(_, c)| c.name == *name);
        if let Some((_, container)) = container {
            *resources = inherited(of, &of_container(container));
        }
    }
    state.keep("u", Arc::new(all));
    state
}

#[test]
fn who_gives_back_comes_first() {
    let of = |a, b| pod(json!([container("a", a, "1Gi"), container("b", b, "1Gi")]), Value::Null);
    let (before, after) = (of("1", "2"), of("2", "1"));
    let running = status(&["a", "b", "side"]);
    let plan = |pod: &Pod, known: &Pod| plan(pod, &running, &PodActions::default(), &state(known));
    assert_eq!(plan(&before, &before), Plan::default());
    assert!(!is_in_progress(&before, &running, &state(&before)));
    let found = plan(&after, &before);
    let names: Vec<&str> = found.cpu.iter().map(|at| found.updates[*at].name.as_str()).collect();
    assert_eq!((names, found.memory.len(), found.pod, found.level), (vec!["b", "a"], 0, false, false));
    assert_eq!((found.updates[0].current.cpu_limit, found.updates[0].wanted.cpu_limit), (1000, 2000));
    assert!(is_in_progress(&after, &running, &state(&before)));
    // What does not run has nothing to change; what starts is given what it is to have, and so is its pod.
    let stopped = status(&[]);
    assert!(!is_in_progress(&after, &stopped, &state(&before)));
    let starts = PodActions { start: vec![0], ..PodActions::default() };
    let found = super::plan(&after, &stopped, &starts, &state(&before));
    assert_eq!((found.updates.len(), found.pod), (0, true));
}

#[test]
fn restarts() {
    let of = |memory| pod(json!([container("restarts", "1", memory)]), Value::Null);
    let running = status(&["restarts"]);
    let mut actions = PodActions::default();
    let found = plan(&of("2Gi"), &running, &actions, &state(&of("1Gi")));
    assert_eq!((found.updates.len(), found.restarts.len(), found.pod), (0, 1, true));
    add_restarts(&found.restarts, &mut actions);
    assert_eq!(
        (actions.kill[0].message.as_str(), &actions.start),
        ("Container restarts resize requires restart", &vec![0])
    );
    // What is stopped for another reason is left alone.
    let found = plan(&of("2Gi"), &running, &actions, &state(&of("1Gi")));
    assert!(found.restarts.is_empty() && found.pod);
    let cpu = |cpu| pod(json!([container("restarts", cpu, "1Gi")]), Value::Null);
    let found = plan(&cpu("2"), &running, &PodActions::default(), &state(&cpu("1")));
    assert_eq!((found.cpu.len(), found.restarts.len()), (1, 0));
}

#[test]
fn limits_of_the_pod_are_inherited() {
    let of = |cpu: &str| pod(json!([{"name": "a"}]), json!({"limits": {"cpu": cpu}}));
    let known = state(&of("1"));
    assert_eq!(known.container("u", "a").unwrap().limits.as_ref().unwrap()["cpu"].0, "1");
    let found = plan(&of("2"), &status(&["a"]), &PodActions::default(), &known);
    assert_eq!((found.cpu.len(), found.level), (1, true));
    assert!(is_in_progress(&of("2"), &status(&["a"]), &known));
    let found = plan(&of("1"), &status(&["a"]), &PodActions::default(), &known);
    assert!(found.is_empty());
}
