//! KubeProxyConfiguration `kubeproxy.config.k8s.io/v1alpha1`: its fields, defaults, and how flags become one.
//!
//! With `--config` the file decides and all flags but `--hostname-override`, `--config` itself and the
//! logging ones are ignored, as upstream does. Upstream: pkg/proxy/apis/config, cmd/kube-proxy/app/options.go.

use std::collections::BTreeMap;

use component::duration::GoDuration;
use component::flags::FlagSet;
use serde::{Deserialize, Serialize};

/// `apiVersion` of the file.
pub const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";

/// The configuration.
#[derive(Deserialize, Serialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeProxyConfiguration {
    pub kind: String,
    pub api_version: String,
    pub feature_gates: BTreeMap<String, bool>,
    pub client_connection: ClientConnection,
    pub logging: serde_json::Value,
    pub hostname_override: String,
    pub bind_address: String,
    pub healthz_bind_address: String,
    pub metrics_bind_address: String,
    pub bind_address_hard_fail: bool,
    pub enable_profiling: bool,
    pub show_hidden_metrics_for_version: String,
    pub mode: String,
    pub iptables: Iptables,
    pub ipvs: Ipvs,
    pub nftables: Nftables,
    pub winkernel: Winkernel,
    pub detect_local_mode: String,
    pub detect_local: DetectLocal,
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    pub node_port_addresses: Option<Vec<String>>,
    pub oom_score_adj: Option<i32>,
    pub conntrack: Conntrack,
    pub config_sync_period: GoDuration,
    pub port_range: String,
    pub windows_run_as_service: bool,
}

/// How to reach the API server.
#[derive(Deserialize, Serialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConnection {
    pub kubeconfig: String,
    pub accept_content_types: String,
    pub content_type: String,
    pub qps: f32,
    pub burst: i32,
}

/// Mode iptables.
#[derive(Deserialize, Serialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Iptables {
    pub masquerade_bit: Option<i32>,
    pub masquerade_all: bool,
    pub localhost_node_ports: Option<bool>,
    pub sync_period: GoDuration,
    pub min_sync_period: GoDuration,
}

/// Mode ipvs.
#[derive(Deserialize, Serialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Ipvs {
    pub sync_period: GoDuration,
    pub min_sync_period: GoDuration,
    pub scheduler: String,
    #[serde(rename = "excludeCIDRs")]
    pub exclude_cidrs: Option<Vec<String>>,
    #[serde(rename = "strictARP")]
    pub strict_arp: bool,
    pub tcp_timeout: GoDuration,
    pub tcp_fin_timeout: GoDuration,
    pub udp_timeout: GoDuration,
}

/// Mode nftables.
#[derive(Deserialize, Serialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Nftables {
    pub masquerade_bit: Option<i32>,
    pub masquerade_all: bool,
    pub sync_period: GoDuration,
    pub min_sync_period: GoDuration,
}

/// Windows; read so that a shared file is accepted.
#[derive(Deserialize, Serialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Winkernel {
    pub network_name: String,
    pub source_vip: String,
    #[serde(rename = "enableDSR")]
    pub enable_dsr: bool,
    pub root_hns_endpoint_name: String,
    pub forward_health_check_vip: bool,
}

/// How local traffic is told.
#[derive(Deserialize, Serialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct DetectLocal {
    pub bridge_interface: String,
    pub interface_name_prefix: String,
}

/// Connection tracking.
#[derive(Deserialize, Serialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Conntrack {
    pub max_per_core: Option<i32>,
    pub min: Option<i32>,
    pub tcp_established_timeout: Option<GoDuration>,
    pub tcp_close_wait_timeout: Option<GoDuration>,
    pub tcp_be_liberal: bool,
    pub udp_timeout: GoDuration,
    pub udp_stream_timeout: GoDuration,
}

impl KubeProxyConfiguration {
    /// From flags alone.
    pub fn from_flags(flags: &FlagSet) -> Self {
        let number = |name: &str| i32::try_from(flags.int(name)).unwrap_or_default();
        let text = |name: &str| flags.string(name).to_string();
        Self {
            kind: "KubeProxyConfiguration".to_string(),
            api_version: API_VERSION.to_string(),
            client_connection: ClientConnection {
                kubeconfig: text("kubeconfig"),
                content_type: text("kube-api-content-type"),
                #[expect(clippy::cast_possible_truncation, reason = "the flag is a 32-bit float")]
                qps: flags.float("kube-api-qps") as f32,
                burst: number("kube-api-burst"),
                ..ClientConnection::default()
            },
            bind_address: flags.ip("bind-address").map(|a| a.to_string()).unwrap_or_default(),
            healthz_bind_address: text("healthz-bind-address"),
            metrics_bind_address: text("metrics-bind-address"),
            bind_address_hard_fail: flags.bool("bind-address-hard-fail"),
            enable_profiling: flags.bool("profiling"),
            show_hidden_metrics_for_version: text("show-hidden-metrics-for-version"),
            mode: text("proxy-mode"),
            iptables: Iptables {
                masquerade_bit: Some(number("iptables-masquerade-bit")),
                masquerade_all: flags.bool("masquerade-all"),
                localhost_node_ports: Some(flags.bool("iptables-localhost-nodeports")),
                sync_period: flags.go_duration("iptables-sync-period"),
                min_sync_period: flags.go_duration("iptables-min-sync-period"),
            },
            // The flags that say iptables set the periods of nftables too; the bit stays the default.
            nftables: Nftables {
                masquerade_bit: None,
                masquerade_all: flags.bool("masquerade-all"),
                sync_period: flags.go_duration("iptables-sync-period"),
                min_sync_period: flags.go_duration("iptables-min-sync-period"),
            },
            ipvs: Ipvs {
                sync_period: flags.go_duration("ipvs-sync-period"),
                min_sync_period: flags.go_duration("ipvs-min-sync-period"),
                scheduler: text("ipvs-scheduler"),
                exclude_cidrs: Some(flags.list("ipvs-exclude-cidrs").to_vec()),
                strict_arp: flags.bool("ipvs-strict-arp"),
                tcp_timeout: flags.go_duration("ipvs-tcp-timeout"),
                tcp_fin_timeout: flags.go_duration("ipvs-tcpfin-timeout"),
                udp_timeout: flags.go_duration("ipvs-udp-timeout"),
            },
            detect_local_mode: text("detect-local-mode"),
            detect_local: DetectLocal {
                bridge_interface: text("pod-bridge-interface"),
                interface_name_prefix: text("pod-interface-name-prefix"),
            },
            cluster_cidr: text("cluster-cidr"),
            node_port_addresses: Some(flags.list("nodeport-addresses").to_vec()),
            oom_score_adj: Some(number("oom-score-adj")),
            conntrack: Conntrack {
                max_per_core: Some(number("conntrack-max-per-core")),
                min: Some(number("conntrack-min")),
                tcp_established_timeout: Some(flags.go_duration("conntrack-tcp-timeout-established")),
                tcp_close_wait_timeout: Some(flags.go_duration("conntrack-tcp-timeout-close-wait")),
                tcp_be_liberal: flags.bool("conntrack-tcp-be-liberal"),
                udp_timeout: flags.go_duration("conntrack-udp-timeout"),
                udp_stream_timeout: flags.go_duration("conntrack-udp-timeout-stream"),
            },
            config_sync_period: flags.go_duration("config-sync-period"),
            ..Self::default()
        }
    }

    /// Fills what is absent. Upstream: pkg/proxy/apis/config/v1alpha1/defaults.go.
    pub fn default_missing(&mut self) {
        let text = |field: &mut String, value: &str| {
            if field.is_empty() {
                *field = value.to_string();
            }
        };
        text(&mut self.bind_address, "0.0.0.0");
        let v4 = !self.bind_address.contains(':');
        text(&mut self.healthz_bind_address, if v4 { "0.0.0.0:10256" } else { "[::]:10256" });
        text(&mut self.metrics_bind_address, if v4 { "127.0.0.1:10249" } else { "[::1]:10249" });
        with_port(&mut self.healthz_bind_address, 10256);
        with_port(&mut self.metrics_bind_address, 10249);
        self.oom_score_adj.get_or_insert(-999);
        span(&mut self.iptables.sync_period, 30);
        span(&mut self.iptables.min_sync_period, 1);
        span(&mut self.ipvs.sync_period, 30);
        span(&mut self.nftables.sync_period, 30);
        span(&mut self.nftables.min_sync_period, 1);
        self.nftables.masquerade_bit.get_or_insert(14);
        span(&mut self.config_sync_period, 15 * 60);
        self.iptables.localhost_node_ports.get_or_insert(true);
        self.iptables.masquerade_bit.get_or_insert(14);
        self.conntrack.max_per_core.get_or_insert(32 * 1024);
        self.conntrack.min.get_or_insert(128 * 1024);
        self.conntrack.tcp_established_timeout.get_or_insert(GoDuration::from_secs(24 * 3600));
        self.conntrack.tcp_close_wait_timeout.get_or_insert(GoDuration::from_secs(3600));
        text(&mut self.client_connection.content_type, "application/vnd.kubernetes.protobuf");
        if self.client_connection.qps == 0.0 {
            self.client_connection.qps = 5.0;
        }
        if self.client_connection.burst == 0 {
            self.client_connection.burst = 10;
        }
    }

    /// Flags can turn a server off, by an empty address or port 0. Upstream: options.go addressFromDeprecatedFlags.
    pub fn addresses_from_flags(&mut self, flags: &FlagSet) {
        let address = |name: &str, port: &str| {
            let mut address = flags.string(&format!("{name}-bind-address")).to_string();
            match u16::try_from(flags.int(port)) {
                Ok(0) | Err(_) => String::new(),
                Ok(port) => {
                    with_port(&mut address, port);
                    address
                }
            }
        };
        self.healthz_bind_address = address("healthz", "healthz-port");
        self.metrics_bind_address = address("metrics", "metrics-port");
    }

    /// What depends on the mode, after everything else. Upstream: server_linux.go platformApplyDefaults.
    pub fn apply_mode(&mut self) {
        if self.mode.is_empty() {
            self.mode = "iptables".to_string();
        }
        let node_ports = self.node_port_addresses.get_or_insert_default();
        if self.mode == "nftables" && node_ports.is_empty() {
            node_ports.push("primary".to_string());
        }
        if self.detect_local_mode.is_empty() {
            self.detect_local_mode = "ClusterCIDR".to_string();
        }
    }

    /// Periods of the mode: sync, at least between two.
    pub fn periods(&self) -> (GoDuration, GoDuration) {
        match self.mode.as_str() {
            "nftables" => (self.nftables.sync_period, self.nftables.min_sync_period),
            "ipvs" => (self.ipvs.sync_period, self.ipvs.min_sync_period),
            _ => (self.iptables.sync_period, self.iptables.min_sync_period),
        }
    }

    /// All traffic to Services is masqueraded.
    pub fn masquerade_all(&self) -> bool {
        if self.mode == "nftables" { self.nftables.masquerade_all } else { self.iptables.masquerade_all }
    }

    /// The packet mark that asks for masquerading.
    pub fn masquerade_mark(&self) -> u32 {
        let bit =
            if self.mode == "nftables" { self.nftables.masquerade_bit } else { self.iptables.masquerade_bit };
        1 << bit.and_then(|b| u32::try_from(b).ok()).filter(|b| *b < 32).unwrap_or(14)
    }
}

fn span(field: &mut GoDuration, seconds: i64) {
    if *field == GoDuration::default() {
        *field = GoDuration::from_secs(seconds);
    }
}

/// An address without a port gets the usual one.
fn with_port(address: &mut String, port: u16) {
    if let Ok(ip) = address.parse::<std::net::IpAddr>() {
        *address = std::net::SocketAddr::new(ip, port).to_string();
    }
}
