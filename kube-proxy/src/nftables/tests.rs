//! What the comparison with upstream (tests/oracle.rs) does not reach: conflicts, stale chains, changed timeouts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::ruleset::{Conflict, Existing, Ruleset};
use crate::model::Family;
use crate::model::table::Table;
use crate::model::traffic::Place;
use crate::settings::{Common, LocalDetector, NodePortAddresses, Settings};

fn settings() -> Settings {
    Settings {
        place: Place { node: "here".into(), zone: "z".into() },
        node_ip: [192, 0, 2, 1].into(),
        masquerade_all: false,
        detector: LocalDetector::None,
        external_ips: true,
        service_cidrs: Vec::new(),
        localhost_accounted: false,
    }
}

fn common() -> Common {
    Common {
        family: Family::V4,
        masquerade_mark: 0x4000,
        localhost_node_ports: false,
        node_ports: NodePortAddresses::new(Family::V4, &[]),
        conntrack_tcp_liberal: false,
        invalid_accounted: false,
    }
}

struct Rig {
    table: Table,
    rules: Ruleset,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        let table = Table::new(Family::V4, "here", Timestamp::UNIX_EPOCH);
        Self { table, rules: Ruleset::default(), now: Instant::now() }
    }

    fn service(&mut self, name: &str, spec: &Value) {
        let mut full = json!({"ports": [{"name": "p80", "port": 80}]});
        for (k, v) in spec.as_object().expect("an object") {
            full[k] = v.clone();
        }
        let service = serde_json::from_value(json!({"metadata": {}, "spec": full})).expect("a Service");
        self.table.set_service(&format!("ns/{name}"), Some(&service));
        let slice = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "ns", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": [{"name": "p80", "port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}],
        }));
        self.table.set_slice(&Arc::new(slice.expect("a slice")));
    }

    fn incremental(&mut self) -> Result<String, Conflict> {
        let changes = self.table.take_changes();
        self.rules.incremental(&common(), &settings(), &self.table, &changes.before, self.now)
    }

    fn full(&mut self, existing: &Existing) -> String {
        self.table.take_changes();
        self.rules.full(&common(), &settings(), &self.table, existing, &[], self.now)
    }
}

#[test]
fn a_claimed_address_is_settled_by_name() {
    let mut rig = Rig::new();
    rig.service("b", &json!({"clusterIP": "172.30.0.2", "externalIPs": ["203.0.113.1"]}));
    rig.incremental().expect("no conflict");
    rig.service("a", &json!({"clusterIP": "172.30.0.1", "externalIPs": ["203.0.113.1"]}));
    assert_eq!(rig.incremental(), Err(Conflict));
    let text = rig.full(&Existing::default());
    let lines: Vec<&str> = text.lines().filter(|l| l.contains("203.0.113.1 . tcp . 80")).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("ns/a/tcp/p80"), "{lines:?}");
    rig.table.set_service("ns/a", None);
    assert_eq!(rig.incremental(), Err(Conflict));
}

#[test]
fn chains_are_emptied_first_and_deleted_later() {
    let mut rig = Rig::new();
    rig.service("a", &json!({"clusterIP": "172.30.0.1"}));
    rig.incremental().expect("no conflict");
    rig.table.set_service("ns/a", None);
    let text = rig.incremental().expect("no conflict");
    assert!(text.contains("flush chain ip kube-proxy service-") && !text.contains("delete chain"), "{text}");
    assert!(text.contains("delete element ip kube-proxy service-ips { 172.30.0.1 . tcp . 80 }"), "{text}");
    assert_eq!(rig.rules.delete_stale(&common(), rig.now), None);
    let later = rig.now + Duration::from_secs(2);
    let text = rig.rules.delete_stale(&common(), later).expect("a transaction");
    assert!(text.starts_with("delete chain ip kube-proxy service-"), "{text}");
    assert_eq!(rig.rules.delete_stale(&common(), later), None);
}

#[test]
fn a_chain_that_is_used_again_stays() {
    let mut rig = Rig::new();
    rig.service("a", &json!({"clusterIP": "172.30.0.1"}));
    rig.incremental().expect("no conflict");
    rig.table.set_service("ns/a", None);
    rig.incremental().expect("no conflict");
    rig.service("a", &json!({"clusterIP": "172.30.0.1"}));
    rig.incremental().expect("no conflict");
    assert_eq!(rig.rules.delete_stale(&common(), rig.now + Duration::from_secs(2)), None);
}

#[test]
fn a_changed_timeout_makes_the_set_anew() {
    let affinity = |seconds: u32| {
        json!({"clusterIP": "172.30.0.1", "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}})
    };
    let mut rig = Rig::new();
    rig.service("a", &affinity(60));
    rig.incremental().expect("no conflict");
    rig.service("a", &affinity(90));
    let text = rig.incremental().expect("no conflict");
    let place = |start: &str| {
        text.lines().position(|l| l.starts_with(start)).unwrap_or_else(|| panic!("{start}: {text}"))
    };
    let deleted = place("delete set ip kube-proxy affinity-");
    assert!(
        place("flush chain ip kube-proxy service-") < deleted
            && place("flush chain ip kube-proxy endpoint-") < deleted
    );
    assert!(deleted < place("add set ip kube-proxy affinity-"));
    assert!(place("add set") < place("add rule ip kube-proxy service-"));
}

#[test]
fn a_full_transaction_clears_what_others_left() {
    let mut rig = Rig::new();
    rig.service("a", &json!({"clusterIP": "172.30.0.1"}));
    let existing = Existing {
        chains: ["services", "service-AAAAAAAA-ns/old/tcp/p80"].map(str::to_string).into(),
        affinity: [("affinity-AAAAAAAA-ns/old/tcp/p80__10.0.0.1/80".to_string(), 60)].into(),
    };
    let text = rig.full(&existing);
    assert!(text.contains("flush chain ip kube-proxy service-AAAAAAAA-ns/old/tcp/p80\n"), "{text}");
    assert!(
        text.contains("delete set ip kube-proxy affinity-AAAAAAAA-ns/old/tcp/p80__10.0.0.1/80\n"),
        "{text}"
    );
    let stale = rig.rules.delete_stale(&common(), rig.now + Duration::from_secs(2)).expect("a transaction");
    assert_eq!(stale, "delete chain ip kube-proxy service-AAAAAAAA-ns/old/tcp/p80\n");
}
