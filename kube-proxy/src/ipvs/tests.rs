//! What becomes of real servers, of claims, and of settings.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;

use super::check;
use super::draining::{Draining, Fate, fate};
use super::ruleset::{Changes, Config, Kernel, Ruleset, Step};
use super::server::{Key, Real};
use super::set::{self, Set};
use crate::config;
use crate::kept::{EndpointSlice, Service};
use crate::model::table::Table;
use crate::model::traffic::Place;
use crate::model::{Family, Protocol};
use crate::settings::{Common, LocalDetector, NodePortAddresses, Settings};

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn key(text: &str) -> Key {
    Key { address: socket(text), protocol: Protocol::Tcp }
}

/// A table and what has been loaded of it.
struct Rig {
    common: Common,
    settings: Settings,
    table: Table,
    rules: Ruleset,
}

impl Rig {
    fn new() -> Self {
        let common = Common {
            family: Family::V4,
            masquerade_mark: 1 << 14,
            node_ports: NodePortAddresses::new(Family::V4, &[]),
            localhost_node_ports: false,
            conntrack_tcp_liberal: false,
            invalid_accounted: false,
        };
        let settings = Settings {
            place: Place { node: "here".into(), zone: String::new() },
            node_ip: [192, 0, 2, 1].into(),
            masquerade_all: false,
            detector: LocalDetector::None,
            external_ips: true,
            service_cidrs: Vec::new(),
            localhost_accounted: false,
        };
        let table = Table::new(Family::V4, "here", Timestamp::UNIX_EPOCH);
        Self { common, settings, table, rules: Ruleset::new(Config::new("", Vec::new())) }
    }

    fn service(&mut self, name: &str, cluster_ip: &str) {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "ns"},
            "spec": {"clusterIP": cluster_ip, "ports": [{"port": 80}]}
        }))
        .expect("a Service");
        self.table.set_service(&format!("ns/{name}"), Some(&service));
    }

    fn endpoints(&mut self, service: &str, addresses: &[&str]) {
        let endpoints: Vec<_> = addresses.iter().map(|a| json!({"addresses": [a]})).collect();
        let slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"name": service, "namespace": "ns", "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "ports": [{"name": "", "port": 8080}], "endpoints": endpoints
        }))
        .expect("a slice");
        self.table.set_slice(&Arc::new(slice));
    }

    fn full(&mut self, kernel: &Kernel) -> Changes {
        self.table.take_changes();
        self.rules.full(&self.common, &self.settings, &self.table, kernel)
    }

    fn incremental(&mut self) -> Option<Changes> {
        let before = self.table.take_changes().before;
        self.rules.incremental(&self.common, &self.settings, &self.table, &before).ok()
    }
}

#[test]
fn a_change_costs_what_changed() {
    let mut rig = Rig::new();
    rig.service("a", "10.96.0.1");
    rig.endpoints("a", &["10.0.0.1", "10.0.0.2"]);
    let first = rig.full(&Kernel::default());
    assert!(first.device && first.sets.contains("add KUBE-CLUSTER-IP 10.96.0.1,tcp:80\n"));
    rig.endpoints("a", &["10.0.0.2", "10.0.0.3"]);
    let server = key("10.96.0.1:80");
    let steps =
        vec![Step::AddReal(server, socket("10.0.0.3:8080")), Step::Drain(server, socket("10.0.0.1:8080"))];
    assert_eq!(rig.incremental(), Some(Changes { steps, ..Changes::default() }));
    rig.table.set_service("ns/a", None);
    let gone = rig.incremental().expect("no conflict");
    assert_eq!(gone.sets, "del KUBE-IPVS-IPS 10.96.0.1\ndel KUBE-CLUSTER-IP 10.96.0.1,tcp:80\n");
    assert_eq!((gone.unbind, gone.delete), (vec![[10, 96, 0, 1].into()], vec![server]));
    assert!(!gone.rules.contains("KUBE-CLUSTER-IP src,dst"), "the last entry takes its rule with it");
}

#[test]
fn the_first_by_name_has_a_server_that_two_claim() {
    let mut rig = Rig::new();
    rig.service("b", "10.96.0.1");
    rig.endpoints("b", &["10.0.0.2"]);
    rig.full(&Kernel::default());
    rig.service("a", "10.96.0.1");
    rig.endpoints("a", &["10.0.0.1"]);
    assert_eq!(rig.incremental(), None);
    let steps = rig.full(&Kernel::default()).steps;
    assert!(steps.contains(&Step::AddReal(key("10.96.0.1:80"), socket("10.0.0.1:8080"))));
    assert!(!steps.contains(&Step::AddReal(key("10.96.0.1:80"), socket("10.0.0.2:8080"))));
    rig.table.set_service("ns/a", None);
    assert_eq!(rig.incremental(), None, "the other one gets it now");
}

#[test]
fn connections_are_waited_for() {
    let busy = Real { weight: 1, connections: 1 };
    assert_eq!(fate(Protocol::Tcp, Some(&busy)), Fate::Drain);
    assert_eq!(fate(Protocol::Udp, Some(&busy)), Fate::Delete);
    assert_eq!(fate(Protocol::Tcp, Some(&Real::default())), Fate::Delete);
    assert_eq!(fate(Protocol::Tcp, None), Fate::Gone);
}

#[test]
fn waiting_servers_are_looked_at_every_minute() {
    let (mut draining, start) = (Draining::default(), Instant::now());
    let (server, real) = (key("10.96.0.1:80"), socket("10.0.0.1:8080"));
    let after = |seconds| start + Duration::from_secs(seconds);
    draining.add(server, real);
    assert_eq!(draining.due(start), []);
    assert_eq!(draining.due(after(59)), []);
    assert_eq!(draining.due(after(60)), [(server, real)]);
    assert_eq!(draining.due(after(61)), []);
    draining.remove(&server, &real);
    assert_eq!(draining.due(after(200)), []);
}

#[test]
fn names_fit() {
    for family in [Family::V4, Family::V6] {
        let names: std::collections::BTreeSet<String> = set::ALL.iter().map(|s| s.name(family)).collect();
        assert_eq!(names.len(), set::ALL.len());
        assert!(names.iter().all(|name| name.len() <= 31), "{names:?}");
    }
    assert_eq!(Set::LoadBalancerSourceCidr.name(Family::V6), "KUBE-6-LOAD-BALANCER-SOURCE-CID");
}

#[test]
fn settings_depend_on_the_kernel() {
    let names = |strict_arp, release| {
        let config = config::Ipvs { strict_arp, ..config::Ipvs::default() };
        check::settings(&config, release).into_iter().collect::<BTreeMap<_, _>>()
    };
    assert_eq!(names(false, "5.4.0-1").get("net/ipv4/vs/conn_reuse_mode"), Some(&"0"));
    assert_eq!(names(false, "6.1.0").get("net/ipv4/vs/conn_reuse_mode"), None);
    assert_eq!(names(false, "3.10.0").get("net/ipv4/vs/conn_reuse_mode"), None);
    assert_eq!(names(true, "6.1.0").get("net/ipv4/conf/all/arp_announce"), Some(&"2"));
}
