//! Goldens: what one Service renders to, what a change loads, what cleaning up removes.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::chain::{self, Kind};
use super::cleanup;
use super::ruleset::{Load, Ruleset, Saved};
use crate::kept::{EndpointSlice, Service};
use crate::model::table::Table;
use crate::model::traffic::Place;
use crate::model::{Family, PortId, Protocol};
use crate::settings::{Common, LocalDetector, NodePortAddresses, Settings};

fn settings() -> Settings {
    Settings {
        place: Place { node: "here".into(), zone: "z".into() },
        node_ip: [192, 0, 2, 1].into(),
        masquerade_all: false,
        detector: LocalDetector::Cidr("10.0.0.0/8".parse().expect("a CIDR")),
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

#[test]
fn loopback_is_counted_before_all_addresses() {
    let spec = json!({"clusterIP": "172.30.0.41", "type": "NodePort",
        "ports": [{"name": "p80", "port": 80, "protocol": "TCP", "nodePort": 30080}]});
    let settings = Settings { localhost_accounted: true, ..settings() };
    let common = Common { invalid_accounted: true, localhost_node_ports: true, ..common() };
    let mut table = Table::new(Family::V4, "here", Timestamp::UNIX_EPOCH);
    table.set_service("ns1/svc1", Some(&service(&spec)));
    table.set_slice(&slice(&json!([{"addresses": ["10.0.1.1"], "conditions": {"ready": true}}])));
    let mut rules = Ruleset::default();
    let changes = table.take_changes();
    let added = rules.incremental(&settings, &table, &changes.before).text;
    let all = rules.full(&common, &settings, &table, &Saved::default(), &[]).text;
    let port = "KUBE-NODEPORTS -m comment --comment \"ns1/svc1:p80\" -m tcp -p tcp";
    let chain = chain::of_port(
        Kind::External,
        &PortId { service: "ns1/svc1".into(), port: "p80".into(), protocol: Protocol::Tcp },
    );
    let counted = format!(
        "{port} -d 127.0.0.0/8 --dport 30080 -m nfacct --nfacct-name localhost_nps_accepted_pkts -j {chain}"
    );
    let plain = format!("{port} --dport 30080 -j {chain}");
    // What is inserted last stands first.
    assert!(added.contains(&format!("-I {plain}\n-I {counted}\n")), "{added}");
    assert!(all.contains(&format!("-A {counted}\n-A {plain}\n")), "{all}");
    let dropped = "--ctstate INVALID -m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j DROP";
    assert!(all.contains(dropped), "{all}");
}

fn full(rules: &mut Ruleset, table: &Table) -> Load {
    rules.full(&common(), &settings(), table, &Saved::default(), &[])
}

fn incremental(rules: &mut Ruleset, table: &mut Table) -> Load {
    let changes = table.take_changes();
    rules.incremental(&settings(), table, &changes.before)
}

fn service(spec: &Value) -> Service {
    serde_json::from_value(json!({"metadata": {"name": "svc1", "namespace": "ns1"}, "spec": spec}))
        .expect("a Service")
}

fn slice(endpoints: &Value) -> Arc<EndpointSlice> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": "svc1-a", "namespace": "ns1", "labels": {"kubernetes.io/service-name": "svc1"}},
            "addressType": "IPv4", "ports": [{"name": "p80", "port": 80, "protocol": "TCP"}], "endpoints": endpoints,
        }))
        .expect("a slice"),
    )
}

fn loaded(spec: &Value, endpoints: &Value) -> (Table, Ruleset) {
    let mut table = Table::new(Family::V4, "here", Timestamp::UNIX_EPOCH);
    table.set_service("ns1/svc1", Some(&service(spec)));
    table.set_slice(&slice(endpoints));
    let mut rules = Ruleset::default();
    incremental(&mut rules, &mut table);
    (table, rules)
}

fn cluster_ip() -> Value {
    json!({"clusterIP": "172.30.0.41", "ports": [{"name": "p80", "port": 80, "protocol": "TCP"}]})
}

/// Lines that speak of the Service, without the shared ones.
fn lines_of(text: &str) -> Vec<&str> {
    text.lines().filter(|l| l.contains("svc1")).collect()
}

#[test]
fn chain_names_are_upstreams() {
    // From upstream's own expectations: pkg/proxy/iptables/proxier_test.go.
    let id = PortId { service: "ns1/svc1".into(), port: "p80".into(), protocol: Protocol::Tcp };
    assert_eq!(chain::of_port(Kind::Cluster, &id), "KUBE-SVC-XPGD46QRK7WJZT7O");
    assert_eq!(
        chain::of_endpoint(&id, &"10.180.0.1:80".parse().expect("an address")),
        "KUBE-SEP-SXIVWICOYRO3J4NJ"
    );
}

#[test]
fn cluster_ip_with_an_endpoint() {
    let (table, mut rules) = loaded(&cluster_ip(), &json!([{"addresses": ["10.180.0.1"]}]));
    let text = full(&mut rules, &table).text;
    let comment = "-m comment --comment";
    assert_eq!(
        lines_of(&text),
        [
            &format!(
                "-A KUBE-SERVICES {comment} \"ns1/svc1:p80 cluster IP\" -m tcp -p tcp -d 172.30.0.41 --dport 80 -j KUBE-SVC-XPGD46QRK7WJZT7O"
            ),
            &format!(
                "-A KUBE-SVC-XPGD46QRK7WJZT7O {comment} \"ns1/svc1:p80 cluster IP\" -m tcp -p tcp -d 172.30.0.41 --dport 80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ"
            ),
            &format!(
                "-A KUBE-SVC-XPGD46QRK7WJZT7O {comment} \"ns1/svc1:p80 -> 10.180.0.1:80\" -j KUBE-SEP-SXIVWICOYRO3J4NJ"
            ),
            &format!(
                "-A KUBE-SEP-SXIVWICOYRO3J4NJ {comment} \"ns1/svc1:p80\" -s 10.180.0.1 -j KUBE-MARK-MASQ"
            ),
            &format!(
                "-A KUBE-SEP-SXIVWICOYRO3J4NJ {comment} \"ns1/svc1:p80\" -m tcp -p tcp -j DNAT --to-destination 10.180.0.1:80"
            ),
        ]
    );
    let last = text.lines().rfind(|l| l.starts_with("-A KUBE-SERVICES")).expect("a rule");
    assert!(last.contains("NOTE: this must be the last rule in this chain"), "{last}");
}

#[test]
fn no_endpoints_rejects_and_no_local_ones_drop() {
    let (table, mut rules) = loaded(&cluster_ip(), &json!([]));
    let text = full(&mut rules, &table).text;
    assert_eq!(
        lines_of(&text),
        [
            "-A KUBE-SERVICES -m comment --comment \"ns1/svc1:p80 has no endpoints\" -m tcp -p tcp -d 172.30.0.41 --dport 80 -j REJECT"
        ]
    );
    let mut spec = cluster_ip();
    spec["internalTrafficPolicy"] = json!("Local");
    let (table, mut rules) = loaded(&spec, &json!([{"addresses": ["10.180.0.1"], "nodeName": "there"}]));
    let text = full(&mut rules, &table).text;
    assert_eq!(
        lines_of(&text),
        [
            "-A KUBE-SERVICES -m comment --comment \"ns1/svc1:p80 has no local endpoints\" -m tcp -p tcp -d 172.30.0.41 --dport 80 -j DROP"
        ]
    );
    assert_eq!(rules.counts().no_local, (1, 0));
}

#[test]
fn an_added_endpoint_loads_only_its_own_chains() {
    let (mut table, mut rules) = loaded(&cluster_ip(), &json!([{"addresses": ["10.180.0.1"]}]));
    table.set_slice(&slice(&json!([{"addresses": ["10.180.0.1"]}, {"addresses": ["10.180.0.2"]}])));
    let load = incremental(&mut rules, &mut table);
    assert!(load.text.starts_with("*nat\n"), "{}", load.text);
    assert!(
        !load.text.contains("-A KUBE-SERVICES") && !load.text.contains("-I KUBE-SERVICES"),
        "{}",
        load.text
    );
    assert!(load.text.contains("--probability 0.5000000000 "), "{}", load.text);
    assert_eq!(load.text.lines().filter(|l| l.starts_with(':')).count(), 2, "{}", load.text);
}

#[test]
fn nothing_changed_loads_nothing() {
    let (mut table, mut rules) = loaded(&cluster_ip(), &json!([{"addresses": ["10.180.0.1"]}]));
    table.set_slice(&slice(&json!([{"addresses": ["10.180.0.1"]}])));
    assert!(table.take_changes().before.is_empty());
    // Away and back between two loads.
    table.set_service("ns1/svc1", None);
    table.set_service("ns1/svc1", Some(&service(&cluster_ip())));
    assert_eq!(incremental(&mut rules, &mut table).text, "");
}

#[test]
fn a_removed_service_takes_its_chains_along() {
    let (mut table, mut rules) = loaded(&cluster_ip(), &json!([{"addresses": ["10.180.0.1"]}]));
    table.set_service("ns1/svc1", None);
    let text = incremental(&mut rules, &mut table).text;
    for line in [
        "-D KUBE-SERVICES -m comment --comment \"ns1/svc1:p80 cluster IP\" -m tcp -p tcp -d 172.30.0.41 --dport 80 -j KUBE-SVC-XPGD46QRK7WJZT7O",
        "-X KUBE-SVC-XPGD46QRK7WJZT7O",
        "-X KUBE-SEP-SXIVWICOYRO3J4NJ",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert_eq!((rules.counts().filter, rules.counts().nat), (0, 0));
}

#[test]
fn full_load_adds_missing_jumps_and_drops_stale_chains() {
    let saved = Saved::parse(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]\n:FOREIGN - [0:0]\n\
         -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\nCOMMIT\n",
    );
    let table = Table::new(Family::V4, "here", Timestamp::UNIX_EPOCH);
    let text = Ruleset::default().full(&common(), &settings(), &table, &saved, &[]).text;
    assert!(text.contains("-X KUBE-SVC-AAAAAAAAAAAAAAAA\n"));
    assert!(!text.contains("FOREIGN"));
    assert!(!text.contains("-I PREROUTING"));
    assert!(
        text.contains("-I OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n")
    );
    assert!(text.contains("-I OUTPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n"));
}

#[test]
fn cleaning_up_removes_ours_and_nothing_else() {
    let saved = Saved::parse(
        "*filter\n:INPUT ACCEPT [0:0]\n:KUBE-FIREWALL - [0:0]\n:KUBE-FORWARD - [0:0]\n\
         -A INPUT -j KUBE-FIREWALL\n-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\nCOMMIT\n",
    );
    assert_eq!(
        cleanup::load(&saved),
        "*filter\n:KUBE-FORWARD - [0:0]\n-D FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\n-X KUBE-FORWARD\nCOMMIT\n"
    );
    assert_eq!(cleanup::load(&Saved::default()), "");
}
