use super::*;
use crate::node::status::cpus;
use crate::runtime::model::{ContainerId, ContainerState, ContainerStatus as Runtime, SandboxStatus};
use serde_json::json;

/// What every probe says.
struct All(ProbeState);

impl ProbeStates for All {
    fn startup(&self, _: &Pod, _: &ContainerStatus) -> ProbeState {
        self.0
    }
    fn readiness(&self, _: &Pod, _: &ContainerStatus) -> ProbeState {
        self.0
    }
}

fn pod() -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 1},
        "spec": {"restartPolicy": "Always", "containers": [{"name": "c", "image": "i"}]}}))
    .unwrap()
}

fn runtime(state: ContainerState, exit_code: i32) -> PodStatus {
    PodStatus {
        ips: vec!["10.0.0.1".into()],
        sandboxes: vec![SandboxStatus {
            id: "s".into(),
            ready: true,
            ips: Some(vec!["10.0.0.1".into()]),
            ..Default::default()
        }],
        containers: vec![Runtime {
            id: ContainerId { runtime: "containerd".into(), id: "1".into() },
            name: "c".into(),
            state,
            exit_code,
            sandbox_id: "s".into(),
            image: "i".into(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn generate(
    pod: &Pod,
    runtime: &PodStatus,
    old: &ApiPodStatus,
    failures: &HashMap<String, StartFailure>,
) -> ApiPodStatus {
    generate_with(&All(ProbeState::None), pod, runtime, old, failures)
}

fn generate_with(
    probes: &All,
    pod: &Pod,
    runtime: &PodStatus,
    old: &ApiPodStatus,
    failures: &HashMap<String, StartFailure>,
) -> ApiPodStatus {
    pod_status(&Inputs {
        pod,
        runtime,
        old,
        start_failures: failures,
        probes,
        host_ips: &["1.1.1.1".into()],
        terminal: false,
        eviction: None,
        recursive_read_only: false,
        given: None,
        group: None,
        resize: vec![],
    })
}

fn condition<'a>(status: &'a ApiPodStatus, kind: &str) -> &'a k8s_openapi::api::core::v1::PodCondition {
    status.conditions.as_ref().unwrap().iter().find(|c| c.type_ == kind).unwrap()
}

#[test]
fn new_pod_waits() {
    let status = generate(&pod(), &PodStatus::default(), &ApiPodStatus::default(), &HashMap::new());
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    let container = &status.container_statuses.as_ref().unwrap()[0];
    let reason = container.state.as_ref().unwrap().waiting.as_ref().unwrap().reason.as_deref();
    assert_eq!(reason, Some("ContainerCreating"));
    assert_eq!(
        condition(&status, "PodReadyToStartContainers").message.as_deref(),
        Some("no pod sandbox exists")
    );
    assert_eq!(
        condition(&status, "ContainersReady").message.as_deref(),
        Some("containers with unready status: [c]")
    );
    assert_eq!(condition(&status, "Initialized").status, "True");
}

#[test]
fn running_pod_is_ready() {
    let status =
        generate(&pod(), &runtime(ContainerState::Running, 0), &ApiPodStatus::default(), &HashMap::new());
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(condition(&status, "Ready").status, "True");
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.1"));
    assert_eq!(status.host_ip.as_deref(), Some("1.1.1.1"));
    let container = &status.container_statuses.as_ref().unwrap()[0];
    assert!(container.ready && container.started == Some(true));
    assert_eq!(container.container_id.as_deref(), Some("containerd://1"));
}

#[test]
fn what_a_mirror_told_holds_until_probes_ran() {
    let mut pod = pod();
    let before: ApiPodStatus = serde_json::from_value(json!({
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "c", "image": "i", "imageID": "", "restartCount": 0, "ready": true, "started": true,
            "containerID": "containerd://1", "state": {"running": {}}}]}))
    .unwrap();
    let running = runtime(ContainerState::Running, 0);
    let ready = |pod: &Pod, old: &ApiPodStatus| {
        let status = generate_with(&All(ProbeState::Inherited), pod, &running, old, &HashMap::new());
        let container = &status.container_statuses.as_ref().unwrap()[0];
        (container.started, container.ready)
    };
    // A pod of the API server has a status of its own, which says nothing here.
    assert_eq!(ready(&pod, &before), (Some(true), false));
    pod.metadata.annotations = Some([("kubernetes.io/config.source".to_owned(), "file".to_owned())].into());
    assert_eq!(ready(&pod, &before), (Some(true), true));
    assert_eq!(ready(&pod, &ApiPodStatus::default()), (Some(false), false));
}

#[test]
fn crash_loop_shows_reason_and_last_exit() {
    let failures = HashMap::from([(
        "c".to_owned(),
        StartFailure { reason: "CrashLoopBackOff".into(), message: "back-off 10s".into() },
    )]);
    let status = generate(&pod(), &runtime(ContainerState::Exited, 3), &ApiPodStatus::default(), &failures);
    let container = &status.container_statuses.as_ref().unwrap()[0];
    let waiting = container.state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("CrashLoopBackOff"));
    assert_eq!(container.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 3);
    assert_eq!(status.phase.as_deref(), Some("Running"));
}

#[test]
fn a_running_container_that_vanished_has_ended() {
    let old =
        generate(&pod(), &runtime(ContainerState::Running, 0), &ApiPodStatus::default(), &HashMap::new());
    let mut gone = runtime(ContainerState::Running, 0);
    gone.containers.clear();
    let status = generate(&pod(), &gone, &old, &HashMap::new());
    let container = &status.container_statuses.as_ref().unwrap()[0];
    assert_eq!(container.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 137);
    assert_eq!(container.restart_count, 1);
    assert_eq!(status.phase.as_deref(), Some("Running"));
}

#[test]
fn what_the_pod_as_a_whole_has() {
    let mut pod = pod();
    let level = json!({"requests": {"cpu": "4m"}, "limits": {"cpu": "8m"}});
    pod.spec.as_mut().unwrap().resources = serde_json::from_value(level.clone()).unwrap();
    let running = runtime(ContainerState::Running, 0);
    let status = generate(&pod, &running, &ApiPodStatus::default(), &HashMap::new());
    let shown = serde_json::to_value(&status).unwrap();
    assert_eq!((&shown["allocatedResources"], &shown["resources"]), (&json!({"cpu": "4m"}), &level));
    let sent = |old: &ApiPodStatus| {
        crate::status::cache::patch("u", old, &status).unwrap()["status"]["allocatedResources"].clone()
    };
    assert_eq!(sent(&ApiPodStatus::default()), json!({"cpu": "4m"}));
    let old = ApiPodStatus {
        allocated_resources: Some([("cpu".to_owned(), cpus(3))].into()),
        ..Default::default()
    };
    assert_eq!(sent(&old), json!({"$patch": "replace", "cpu": "4m"}));
}
