//! Runs the scenarios of `testdata/actions.txt`: each names a pod, what runs of it, and what is to be done.

use std::collections::HashMap;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Probe;

use super::*;
use crate::runtime::model::SandboxStatus;

#[derive(Default)]
struct Results {
    liveness: HashMap<String, ProbeResult>,
    startup: HashMap<String, ProbeResult>,
}

impl Probes for Results {
    fn liveness(&self, id: &ContainerId) -> Option<ProbeResult> {
        self.liveness.get(&id.id).copied()
    }
    fn startup(&self, id: &ContainerId) -> Option<ProbeResult> {
        self.startup.get(&id.id).copied()
    }
}

#[derive(Default)]
struct Scenario {
    pod: Pod,
    status: PodStatus,
    probes: Results,
    restart_all: bool,
}

impl Scenario {
    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let spec = self.pod.spec.get_or_insert_default();
        match words.as_slice() {
            ["policy", policy] => spec.restart_policy = Some((*policy).into()),
            ["deleted"] => {
                let now = k8s_openapi::jiff::Timestamp::UNIX_EPOCH;
                self.pod.metadata.deletion_timestamp =
                    Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
            }
            ["hostNetwork"] => spec.host_network = Some(true),
            ["restart-all"] => self.restart_all = true,
            ["init", name, rest @ ..] => {
                spec.init_containers.get_or_insert_default().push(container(name, rest));
            }
            ["sidecar", name, rest @ ..] => {
                let mut c = container(name, rest);
                c.restart_policy = Some("Always".into());
                spec.init_containers.get_or_insert_default().push(c);
            }
            ["container", name, rest @ ..] => spec.containers.push(container(name, rest)),
            ["ephemeral", name] => {
                let c = EphemeralContainer { name: (*name).into(), ..Default::default() };
                spec.ephemeral_containers.get_or_insert_default().push(c);
            }
            ["sandbox", id, state, rest @ ..] => self.status.sandboxes.push(SandboxStatus {
                id: (*id).into(),
                ready: *state == "ready",
                attempt: u32::try_from(rest.iter().filter_map(|w| w.parse::<i64>().ok()).next().unwrap_or(0))
                    .unwrap(),
                host_network: rest.contains(&"host"),
                ips: Some(if rest.contains(&"no-ip") { vec![] } else { vec!["10.0.0.1".into()] }),
                ..Default::default()
            }),
            ["status", name, state, rest @ ..] => self.container_status(name, state, rest),
            other => panic!("unknown line {other:?}"),
        }
    }

    fn container_status(&mut self, name: &str, state: &str, rest: &[&str]) {
        let spec = self.pod.spec();
        let all = init_containers(spec).iter().chain(&spec.containers).find(|c| c.name == name);
        let mut status = ContainerStatus {
            id: ContainerId { runtime: "t".into(), id: format!("id-{name}") },
            name: name.into(),
            hash: all.map(container_hash).unwrap_or_default(),
            sandbox_id: self.status.sandboxes.first().map(|s| s.id.clone()).unwrap_or_default(),
            ..Default::default()
        };
        status.state = match state {
            "running" => ContainerState::Running,
            "exited" => ContainerState::Exited,
            "created" => ContainerState::Created,
            _ => ContainerState::Unknown,
        };
        for word in rest {
            match *word {
                "changed" => status.hash += 1,
                "oom" => status.reason = "OOMKilled".into(),
                "liveness-failed" => {
                    _ = self.probes.liveness.insert(status.id.id.clone(), ProbeResult::Failure)
                }
                "startup-failed" => {
                    _ = self.probes.startup.insert(status.id.id.clone(), ProbeResult::Failure)
                }
                "started" => _ = self.probes.startup.insert(status.id.id.clone(), ProbeResult::Success),
                "old-sandbox" => status.sandbox_id = "gone".into(),
                code => status.exit_code = code.parse().unwrap(),
            }
        }
        self.status.containers.push(status);
    }
}

use k8s_openapi::api::core::v1::EphemeralContainer;

fn container(name: &str, words: &[&str]) -> Container {
    let mut c = Container { name: name.into(), image: Some("i".into()), ..Default::default() };
    for word in words {
        match *word {
            "startupProbe" => c.startup_probe = Some(Probe::default()),
            "livenessProbe" => c.liveness_probe = Some(Probe::default()),
            "restart-all-on-42" => {
                c.restart_policy = Some("Never".into());
                c.restart_policy_rules = serde_json::from_value(serde_json::json!([
                    {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]))
                .unwrap();
            }
            policy => c.restart_policy = Some(policy.into()),
        }
    }
    c
}

fn describe(scenario: &Scenario, actions: &PodActions) -> String {
    let mut out = String::new();
    let spec = scenario.pod.spec();
    if actions.kill_pod {
        out.push_str("kill pod\n");
    }
    if actions.create_sandbox {
        writeln!(out, "create sandbox attempt={}", actions.attempt).unwrap();
    }
    for kill in &actions.kill {
        writeln!(out, "kill {} {:?}: {}", kill.name, kill.reason, kill.message).unwrap();
    }
    for reset in &actions.reset {
        writeln!(out, "reset {}{}", reset.name, if reset.kill { " (kill)" } else { "" }).unwrap();
    }
    for index in &actions.start_ephemeral {
        writeln!(out, "start ephemeral {}", ephemeral_containers(spec)[*index].name).unwrap();
    }
    for index in &actions.start_init {
        writeln!(out, "start init {}", init_containers(spec)[*index].name).unwrap();
    }
    for index in &actions.start {
        writeln!(out, "start {}", spec.containers[*index].name).unwrap();
    }
    if out.is_empty() {
        out.push_str("nothing\n");
    }
    out
}

#[test]
fn scenarios() {
    let text = include_str!("testdata/actions.txt");
    let mut count = 0;
    for case in text.split("\n\n").filter(|case| case.lines().any(|line| line == "----")) {
        let (given, expected) = case.split_once("\n----\n").unwrap();
        let mut scenario = Scenario::default();
        for line in given.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            scenario.line(line);
        }
        let actions = plan(&scenario.pod, &scenario.status, &scenario.probes, scenario.restart_all);
        assert_eq!(describe(&scenario, &actions).trim_end(), expected.trim_end(), "in:\n{given}");
        count += 1;
    }
    assert!(count >= 30, "{count} scenarios found");
}
