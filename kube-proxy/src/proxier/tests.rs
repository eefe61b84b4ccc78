//! Bad input and foreign hands, with the real programs and the real kernel: each test runs itself again in a network
//! namespace of its own, with a PATH of its own. Needs root and `unshare`; without them it says that it is skipped.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::*;
use crate::metrics::Metrics;
use crate::model::traffic::Place;
use crate::settings::{Common, LocalDetector, NodePortAddresses};

const INSIDE: &str = "PROXIER_TEST_PATH";
const PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

fn program(name: &str) -> Option<PathBuf> {
    PLACES.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists())
}

/// Runs a test again where it can do no harm; true = this is that place.
fn alone(test: &str, drop: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let usable = ["iptables", "nft", "unshare", "setpriv"].iter().all(|name| program(name).is_some());
    let permitted = || {
        Command::new("/usr/bin/unshare").args(["-n", "true"]).status().is_ok_and(|status| status.success())
    };
    if !usable || !permitted() {
        println!("skipped: it takes root, unshare, setpriv, iptables and nft");
        return false;
    }
    let path = std::env::temp_dir().join(format!("proxier-{}-{}", std::process::id(), test));
    std::fs::create_dir_all(&path).expect("a directory");
    let ran = Command::new("/usr/bin/unshare")
        .arg("-n")
        .args(drop)
        .arg(std::env::current_exe().expect("this program"))
        .args([&format!("proxier::tests::{test}"), "--exact", "--nocapture", "--test-threads=1"])
        .env("PATH", &path)
        .env(INSIDE, &path)
        .output();
    std::fs::remove_dir_all(&path).expect("its end");
    let Output { status, stdout, stderr } = ran.expect("a run");
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success() && stdout.contains("1 passed"), "{stdout}{stderr}");
    false
}

/// Puts programs into PATH.
fn install(names: &[&str]) {
    let path = PathBuf::from(std::env::var_os(INSIDE).expect("a path"));
    for name in names {
        symlink(program(name).expect("the program"), path.join(name)).expect("a link");
    }
}

/// Somebody else at work.
fn foreign(command: &str) -> String {
    let mut words = command.split(' ');
    let name = words.next().expect("a program");
    let ran = Command::new(program(name).expect("the program")).args(words).output().expect("a run");
    assert!(ran.status.success(), "{command}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

struct Rig {
    proxier: Proxier,
    settings: Settings,
    due: Due,
}

impl Rig {
    fn new(mode: &str) -> Self {
        let settings = Settings {
            place: Place { node: "here".into(), zone: String::new() },
            node_ip: [192, 0, 2, 1].into(),
            masquerade_all: false,
            detector: LocalDetector::None,
            external_ips: true,
            service_cidrs: Vec::new(),
            localhost_accounted: false,
        };
        let common = Common {
            family: Family::V4,
            masquerade_mark: 0x4000,
            localhost_node_ports: false,
            node_ports: NodePortAddresses::new(Family::V4, &[]),
            conntrack_tcp_liberal: false,
            invalid_accounted: false,
        };
        // Names are the process's.
        static METRICS: OnceLock<Metrics> = OnceLock::new();
        let metrics = METRICS.get_or_init(|| Metrics::register(mode)).clone();
        let status = Arc::new(Status::new(metrics, Duration::from_secs(60)));
        let token = CancellationToken::new();
        let make = if mode == "iptables" { Backend::iptables } else { Backend::nftables };
        let (keep, receiver) = tokio::sync::watch::channel(settings.clone());
        let proxier = Proxier {
            inbox: Inbox::new(Table::new(Family::V4, "here", Timestamp::UNIX_EPOCH), status.clone()),
            backend: make(common, Arc::default()),
            settings: receiver,
            keep,
            periods: Periods { min: Duration::ZERO, sync: Duration::from_secs(30) },
            health_checks: HealthChecks::new("here", Vec::new(), status.clone(), None, token),
            status,
            flows_due: false,
        };
        Self { proxier, settings, due: Due::Full }
    }

    fn service(&self, name: &str, spec: &Value) {
        let service = json!({"metadata": {"namespace": "ns", "name": name}, "spec": spec});
        let service: Service = serde_json::from_value(service).expect("a Service");
        self.proxier.inbox.service(&format!("ns/{name}"), Some(&service));
    }

    fn endpoints(&self, name: &str, addresses: &[&str]) {
        let endpoints: Vec<Value> = addresses.iter().map(|a| json!({"addresses": [a]})).collect();
        let slice = json!({
            "metadata": {"namespace": "ns", "name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": [{"name": "", "port": 8080}], "endpoints": endpoints,
        });
        self.proxier.inbox.slice(&Arc::new(serde_json::from_value(slice).expect("a slice")));
    }

    fn usual(&self) {
        self.service("a", &json!({"clusterIP": "10.96.7.7", "ports": [{"port": 80}]}));
        self.endpoints("a", &["10.0.0.1", "10.0.0.2"]);
    }

    /// One sync; what went wrong.
    async fn sync(&mut self) -> Option<String> {
        self.due = self.proxier.attempt(&self.settings, self.due.clone()).await;
        self.proxier.status.error(Family::V4)
    }

    /// What a proxier does each sync period: looks, and writes everything if it must. Tells whether it had to.
    async fn period(&mut self) -> bool {
        self.proxier.backend.count_now();
        let intact = self.proxier.intact(&self.settings).await;
        if !intact {
            self.due = Due::Full;
            assert_eq!(self.sync().await, None);
        }
        !intact
    }
}

/// Each is found and mended within one period, and nothing else is written.
async fn mended(rig: &mut Rig, state: &str, damages: &[String], harmless: &str) {
    assert!(!rig.period().await, "nothing was done");
    let good = foreign(state);
    for damage in damages {
        foreign(damage);
        assert!(rig.period().await, "{damage} went unnoticed");
        assert!(rig.proxier.backend.undisturbed(), "mending {damage} looks like somebody else's change");
        assert_eq!(foreign(state).lines().count(), good.lines().count(), "{damage}");
        assert!(!rig.period().await, "{damage} is mended");
    }
    foreign(harmless);
    assert!(!rig.period().await, "{harmless} is no business of ours");
}

fn word_with<'a>(text: &'a str, start: &str) -> &'a str {
    let mut words = text.split_whitespace();
    words.find(|w| w.starts_with(start) && w.len() > 20).unwrap_or_else(|| panic!("{start} in {text}"))
}

#[tokio::test]
async fn iptables_waits_for_its_programs() {
    if !alone("iptables_waits_for_its_programs", &[]) {
        return;
    }
    let mut rig = Rig::new("iptables");
    rig.usual();
    for _ in 0..2 {
        let error = rig.sync().await.expect("an error");
        assert!(
            error.contains("iptables-save") && error.contains("is the package iptables installed?"),
            "{error}"
        );
    }
    install(&["iptables", "iptables-save", "iptables-restore"]);
    assert_eq!(rig.sync().await, None);
    assert!(foreign("iptables -t nat -S KUBE-SERVICES").contains("10.96.7.7"));
}

#[tokio::test]
async fn iptables_mends_what_others_do() {
    if !alone("iptables_mends_what_others_do", &[]) {
        return;
    }
    install(&["iptables", "iptables-save", "iptables-restore"]);
    let mut rig = Rig::new("iptables");
    rig.usual();
    assert_eq!(rig.sync().await, None);
    let rules = foreign("iptables -t nat -S");
    let (service, endpoint) = (word_with(&rules, "KUBE-SVC-"), word_with(&rules, "KUBE-SEP-"));
    let damages = [
        "iptables -t nat -F".to_string(),
        "iptables -F".to_string(),
        format!("iptables -t nat -F {service}"),
        format!("iptables -t nat -D {endpoint} 2"),
        format!("iptables -t nat -I {service} -j RETURN"),
        "iptables -t nat -D OUTPUT 1".to_string(),
        "iptables -D FORWARD 1".to_string(),
        "nft flush ruleset".to_string(),
    ];
    mended(&mut rig, "iptables -t nat -S", &damages, "iptables -t nat -N OTHER").await;
}

#[tokio::test]
async fn iptables_goes_on_beside_foreign_rules() {
    if !alone("iptables_goes_on_beside_foreign_rules", &[]) {
        return;
    }
    install(&["iptables", "iptables-save", "iptables-restore"]);
    let mut rig = Rig::new("iptables");
    // A chain of ours that has a foreign rule already.
    foreign("iptables -t nat -N KUBE-SERVICES");
    foreign("iptables -t nat -A KUBE-SERVICES -j RETURN");
    rig.usual();
    assert_eq!(rig.sync().await, None);
    let rules = foreign("iptables -t nat -S");
    assert!(!rules.contains("-A KUBE-SERVICES -j RETURN"), "{rules}");
    // A foreign rule that leads to a chain which is to go.
    let chain = word_with(&rules, "KUBE-SEP-").to_string();
    foreign(&format!("iptables -t nat -A PREROUTING -j {chain}"));
    rig.endpoints("a", &["10.0.0.3"]);
    assert_eq!(rig.sync().await, None);
    let rules = foreign("iptables -t nat -S");
    assert!(rules.contains("10.0.0.3") && rules.contains(&format!("-N {chain}")), "{rules}");
    assert!(!rules.contains(&format!("-A {chain}")), "{rules}");
    foreign(&format!("iptables -t nat -D PREROUTING -j {chain}"));
    rig.due = Due::Full;
    assert_eq!(rig.sync().await, None);
    assert!(!foreign("iptables -t nat -S").contains(&chain));
    // A rule that iptables cannot show hides the whole table.
    foreign("nft add chain ip nat foreign");
    foreign("nft add rule ip nat foreign jhash ip saddr mod 2 vmap { 0 : drop }");
    for _ in 0..2 {
        rig.endpoints("a", &["10.0.0.4"]);
        rig.due = Due::Full;
        assert_eq!(rig.sync().await, None);
        assert!(!rig.period().await, "nothing can be told");
    }
    foreign("nft delete chain ip nat foreign");
    let rules = foreign("iptables -t nat -S");
    assert!(rules.contains("10.0.0.4"), "{rules}");
    assert_eq!(rules.matches("-A OUTPUT").count(), 1, "{rules}");
    rig.period().await;
    assert!(!rig.period().await);
}

#[tokio::test]
async fn a_large_load_takes_iptables_restore_once() {
    if !alone("a_large_load_takes_iptables_restore_once", &[]) {
        return;
    }
    install(&["iptables", "iptables-save"]);
    let path = PathBuf::from(std::env::var_os(INSIDE).expect("a path"));
    let restore = program("iptables-restore").expect("the program");
    let script = format!("#!/bin/sh\necho >> ${{0%/*}}/count\nexec {} \"$@\"\n", restore.display());
    std::fs::write(path.join("iptables-restore"), script).expect("a script");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path.join("iptables-restore"), executable).expect("permissions");
    let runs = || std::fs::read(path.join("count")).expect("a count").len();
    let mut rig = Rig::new("iptables");
    for i in 0..400 {
        let (name, ip) = (format!("s{i}"), format!("10.96.{}.{}", i / 256, i % 256));
        rig.service(&name, &json!({"clusterIP": ip, "ports": [{"port": 80}]}));
        rig.endpoints(&name, &["10.0.0.1", "10.0.0.2"]);
    }
    assert_eq!(rig.sync().await, None);
    assert_eq!(runs(), 1, "into an empty kernel");
    rig.due = Due::Full;
    assert_eq!(rig.sync().await, None);
    assert_eq!(runs(), 2, "again");
    assert_eq!(foreign("iptables -t nat -S").matches("-A OUTPUT").count(), 1);
    assert!(!rig.period().await);
}

#[tokio::test]
async fn nftables_needs_no_program_for_what_it_knows() {
    if !alone("nftables_needs_no_program_for_what_it_knows", &[]) {
        return;
    }
    let mut rig = Rig::new("nftables");
    rig.usual();
    assert_eq!(rig.sync().await, None);
    rig.service(
        "b",
        &json!({"clusterIP": "10.96.7.8", "ports": [{"port": 80}], "sessionAffinity": "ClientIP"}),
    );
    rig.endpoints("b", &["10.0.0.5", "10.0.0.6"]);
    assert_eq!(rig.sync().await, None);
    rig.endpoints("b", &["10.0.0.5"]);
    assert_eq!(rig.sync().await, None);
    let rules = foreign("nft list ruleset");
    assert!(
        rules.contains("10.96.7.7") && rules.contains("10.96.7.8") && rules.contains("10.0.0.5"),
        "{rules}"
    );
    assert!(!rules.contains("dnat to 10.0.0.6"), "{rules}");
}

#[tokio::test]
async fn nftables_mends_what_others_do() {
    if !alone("nftables_mends_what_others_do", &[]) {
        return;
    }
    install(&["nft"]);
    let mut rig = Rig::new("nftables");
    rig.usual();
    assert_eq!(rig.sync().await, None);
    let rules = foreign("nft list ruleset");
    let chain = word_with(&rules, "service-").to_string();
    let damages = [
        "nft flush ruleset".to_string(),
        "nft delete table ip kube-proxy".to_string(),
        "nft flush table ip kube-proxy".to_string(),
        format!("nft flush chain ip kube-proxy {chain}"),
        format!("nft insert rule ip kube-proxy {chain} drop"),
        "nft delete element ip kube-proxy service-ips { 10.96.7.7 . tcp . 80 }".to_string(),
        "nft add element ip kube-proxy cluster-ips { 10.96.7.9 }".to_string(),
        "nft flush chain ip kube-proxy nat-output".to_string(),
    ];
    mended(&mut rig, "nft list ruleset", &damages, "nft add table ip other").await;
}

#[tokio::test]
async fn nftables_goes_on_beside_foreign_objects() {
    if !alone("nftables_goes_on_beside_foreign_objects", &[]) {
        return;
    }
    install(&["nft"]);
    foreign("nft add table ip kube-proxy");
    foreign("nft add set ip kube-proxy cluster-ips { type inet_service ; }");
    foreign("nft add chain ip kube-proxy services { type filter hook input priority 5 ; }");
    let mut rig = Rig::new("nftables");
    rig.usual();
    assert_eq!(rig.sync().await, None);
    assert!(foreign("nft list ruleset").contains("10.96.7.7"));
    // A foreign rule leads to a chain that is to go.
    let chain = word_with(&foreign("nft list ruleset"), "service-").to_string();
    foreign("nft add chain ip kube-proxy foreign");
    foreign(&format!("nft add rule ip kube-proxy foreign jump {chain}"));
    rig.proxier.inbox.service("ns/a", None);
    assert_eq!(rig.sync().await, None);
    rig.proxier
        .backend
        .tidy(std::time::Instant::now() + Duration::from_secs(5))
        .await
        .expect_err("it is in use");
    rig.usual();
    assert_eq!(rig.sync().await, None);
    assert!(foreign("nft list ruleset").contains("10.96.7.7"));
}

#[tokio::test]
async fn without_permission_it_says_what_is_missing() {
    let drop = ["/usr/bin/setpriv", "--bounding-set=-net_admin"];
    if !alone("without_permission_it_says_what_is_missing", &drop) {
        return;
    }
    install(&["iptables", "iptables-save", "iptables-restore"]);
    for mode in ["iptables", "nftables"] {
        let mut rig = Rig::new(mode);
        rig.usual();
        for _ in 0..2 {
            let error = rig.sync().await.expect("an error");
            assert!(error.contains("is this process without CAP_NET_ADMIN"), "{error}");
        }
    }
}

#[tokio::test]
async fn invalid_objects_keep_nothing_else_from_the_kernel() {
    if !alone("invalid_objects_keep_nothing_else_from_the_kernel", &[]) {
        return;
    }
    install(&["iptables", "iptables-save", "iptables-restore", "nft"]);
    for mode in ["iptables", "nftables"] {
        foreign("nft flush ruleset");
        let mut rig = Rig::new(mode);
        let specs = [
            json!({"clusterIP": "300.1.1.1", "ports": [{"port": 80}]}),
            json!({"clusterIP": "10.96.0.1", "clusterIPs": ["fd00::1"], "ipFamilies": ["IPv4"], "ports": [{"port": 80}]}),
            json!({"clusterIP": "10.96.0.2", "ports": [{"port": 0}, {"port": 70000}, {"port": 81, "protocol": "ICMP"}]}),
            json!({"clusterIP": "10.96.0.3", "ports": [{"name": "x\" -j DROP\n-A INPUT -j DROP", "port": 80}]}),
            json!({"clusterIP": "10.96.0.4", "ports": [{"port": 80, "nodePort": 99999}], "type": "NodePort",
                "externalIPs": ["x", "203.0.113.1"], "loadBalancerSourceRanges": ["x"]}),
        ];
        for (at, spec) in specs.iter().enumerate() {
            rig.service(&format!("bad{at}"), spec);
            rig.endpoints(&format!("bad{at}"), &["10.0.0.1", "x", "fd00::1", ""]);
        }
        rig.usual();
        assert_eq!(rig.sync().await, None, "{mode}");
        let rules = foreign("nft list ruleset");
        assert!(rules.contains("10.96.7.7"), "{rules}");
        assert!(!rules.contains("10.96.0.3"), "{rules}");
        // Mended, it is routed.
        rig.service("bad3", &json!({"clusterIP": "10.96.0.3", "ports": [{"port": 80}]}));
        assert_eq!(rig.sync().await, None, "{mode}");
        assert!(foreign("nft list ruleset").contains("10.96.0.3"));
    }
}
