//! What the command line and the configuration file mean, with every mistake in them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use component::features::Gates;
use component::flags::{Command, FlagSet, Layout};
use component::{logs, metrics};
use ipnet::IpNet;

use crate::config::{API_VERSION, KubeProxyConfiguration};
use crate::flags;

/// The command line.
pub static COMMAND: Command = Command {
    name: "kube-proxy",
    about: "Leads traffic for Services of the cluster to their endpoints, by rules in this node's kernel. Services and \
            endpoint slices come from the API server.",
    layout: Layout::Flat,
    sections: flags::SECTIONS,
    defaults: &[],
};

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Options {
    pub config: KubeProxyConfiguration,
    pub master: String,
    /// This node's name.
    pub node: String,
    pub cluster_cidrs: Vec<IpNet>,
    /// With keywords, which need the node's addresses.
    pub node_port_addresses: Vec<NodePorts>,
    /// None = not served.
    pub healthz: Option<SocketAddr>,
    pub metrics: Option<SocketAddr>,
    pub task: Task,
    /// Nobody chose the mode; another version may choose another one.
    pub mode_by_default: bool,
    pub logging: logs::Options,
    pub gates: Gates,
    pub shown_metrics: metrics::Options,
}

/// Addresses that node ports answer on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodePorts {
    Range(IpNet),
    /// The node's own.
    Primary,
    Localhost,
    All,
}

/// What this run is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Task {
    Serve,
    /// Remove all rules and exit.
    CleanUp,
    /// Set up what needs privileges and exit.
    InitOnly,
    /// Write the configuration to a file and exit.
    Write(PathBuf),
}

/// Reads flags and the file they name.
pub fn read(flags: &FlagSet) -> Result<Options, Vec<String>> {
    let mut problems = Vec::new();
    let mut config = match flags.non_empty("config") {
        None => KubeProxyConfiguration::from_flags(flags),
        Some(path) => from_file(path).unwrap_or_else(|problem| {
            problems.push(problem);
            KubeProxyConfiguration::default()
        }),
    };
    config.default_missing();
    if flags.non_empty("config").is_none() {
        config.addresses_from_flags(flags);
    }
    let mode_by_default = config.mode.is_empty();
    config.apply_mode();
    let mut gates = Gates::default();
    let set =
        gates.set(&flags.gate_settings("feature-gates")).and_then(|_| gates.set_map(&config.feature_gates));
    problems.extend(set.err().map(|e| e.to_string()));
    let logging = logs::Options::from_flags(flags, &gates).unwrap_or_else(|errors| {
        problems.extend(errors);
        logs::Options::default()
    });
    let shown_metrics = metrics::Options::from_flags(flags).unwrap_or_else(|errors| {
        problems.extend(errors);
        metrics::Options::default()
    });
    let node =
        flags.non_empty("hostname-override").unwrap_or(&config.hostname_override).trim().to_lowercase();
    let node = if node.is_empty() { host_name(&mut problems) } else { node };
    let task = if flags.bool("cleanup") {
        Task::CleanUp
    } else if let Some(path) = flags.non_empty("write-config-to") {
        Task::Write(path.into())
    } else if flags.bool("init-only") {
        Task::InitOnly
    } else {
        Task::Serve
    };
    let options = Options {
        cluster_cidrs: cidrs(
            "clusterCIDR",
            config.cluster_cidr.split(',').filter(|c| !c.is_empty()),
            &mut problems,
        ),
        node_port_addresses: node_ports(&config, &mut problems),
        healthz: address("healthzBindAddress", &config.healthz_bind_address, &mut problems),
        metrics: address("metricsBindAddress", &config.metrics_bind_address, &mut problems),
        master: flags.string("master").to_string(),
        node,
        task,
        logging,
        gates,
        shown_metrics,
        mode_by_default,
        config,
    };
    validate(&options.config, &mut problems);
    if problems.is_empty() { Ok(options) } else { Err(problems) }
}

/// Unknown and repeated fields are said and left, as upstream does. Upstream: options.go loadConfig.
fn from_file(path: &str) -> Result<KubeProxyConfiguration, String> {
    component::config::read(std::path::Path::new(path), &[(API_VERSION, "KubeProxyConfiguration")])
        .map(component::config::Decoded::lenient)
        .map_err(|e| e.to_string())
}

fn node_ports(config: &KubeProxyConfiguration, problems: &mut Vec<String>) -> Vec<NodePorts> {
    let mut read = Vec::new();
    for (i, text) in config.node_port_addresses.iter().flatten().enumerate() {
        let path = format!("KubeProxyConfiguration.NodePortAddresses[{i}]");
        let keyword = match text.as_str() {
            "primary" => NodePorts::Primary,
            "localhost" => NodePorts::Localhost,
            "all" => NodePorts::All,
            _ => match net::parse_network(text.trim()) {
                Some(range) => {
                    read.push(NodePorts::Range(range));
                    continue;
                }
                None => {
                    problems.push(format!("{path}: Invalid value: {text:?}: must be a valid CIDR or one of the keywords 'primary', 'localhost', 'all'"));
                    continue;
                }
            },
        };
        if read.contains(&keyword) {
            problems.push(format!("{path}: Duplicate value: {text:?}"));
        }
        read.push(keyword);
    }
    read
}

/// Upstream: pkg/proxy/apis/config/validation/validation.go.
fn validate(config: &KubeProxyConfiguration, problems: &mut Vec<String>) {
    let path = "KubeProxyConfiguration";
    if !["iptables", "ipvs", "nftables"].contains(&config.mode.as_str()) {
        problems.push(format!(
            "{path}.ProxyMode: Invalid value: {:?}: must be iptables, ipvs, nftables or blank (blank means the best-available proxy [currently iptables])",
            config.mode
        ));
    }
    let detect = ["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"];
    if !detect.contains(&config.detect_local_mode.as_str()) {
        problems.push(format!(
            "{path}.DetectLocalMode: Unsupported value: {:?}: supported values: \"\", \"BridgeInterface\", \"ClusterCIDR\", \"InterfaceNamePrefix\", \"NodeCIDR\"",
            config.detect_local_mode
        ));
    }
    for (mode, field, value) in [
        ("BridgeInterface", "InterfaceName", &config.detect_local.bridge_interface),
        ("InterfaceNamePrefix", "InterfacePrefix", &config.detect_local.interface_name_prefix),
    ] {
        if config.detect_local_mode == mode && value.is_empty() {
            problems.push(format!(
                "{path}.DetectLocalConfiguration.{field}: Invalid value: \"\": must not be empty"
            ));
        }
    }
    if net::parse_ip(&config.bind_address).is_none() {
        problems.push(format!(
            "{path}.BindAddress: Invalid value: {:?}: not a valid textual representation of an IP address",
            config.bind_address
        ));
    }
    if config.client_connection.burst < 0 {
        problems.push(format!(
            "{path}.ClientConnection.Burst: Invalid value: {}: must be greater than or equal to 0",
            config.client_connection.burst
        ));
    }
    validate_numbers(config, problems);
}

fn validate_numbers(config: &KubeProxyConfiguration, problems: &mut Vec<String>) {
    let path = "KubeProxyConfiguration";
    let bits = [
        ("KubeProxyIPTablesConfiguration", config.iptables.masquerade_bit, true),
        ("KubeProxyNFTablesConfiguration", config.nftables.masquerade_bit, config.mode == "nftables"),
    ];
    for (field, bit, _) in bits.into_iter().filter(|(_, _, used)| *used) {
        if let Some(bit) = bit.filter(|b| !(0..=31).contains(b)) {
            problems.push(format!(
                "{path}.{field}.MasqueradeBit: Invalid value: {bit}: must be within the range [0, 31]"
            ));
        }
    }
    if let Some(score) = config.oom_score_adj.filter(|a| !(-1000..=1000).contains(a)) {
        problems.push(format!("{path}.KubeProxyLinuxConfiguration.OOMScoreAdj: Invalid value: {score}: must be within the range [-1000, 1000]"));
    }
    let conntrack = &config.conntrack;
    let numbers = [("MaxPerCore", conntrack.max_per_core), ("Min", conntrack.min)];
    let negative =
        numbers.into_iter().filter_map(|(field, value)| Some((field, value.filter(|v| *v < 0)?.to_string())));
    let spans = [
        ("TCPEstablishedTimeout", conntrack.tcp_established_timeout.unwrap_or_default()),
        ("TCPCloseWaitTimeout", conntrack.tcp_close_wait_timeout.unwrap_or_default()),
        ("UDPTimeout", conntrack.udp_timeout),
        ("UDPStreamTimeout", conntrack.udp_stream_timeout),
    ];
    let negative =
        negative.chain(spans.into_iter().filter(|(_, s)| s.0 < 0).map(|(field, s)| (field, s.to_string())));
    for (field, value) in negative {
        problems.push(format!("{path}.KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration.{field}: Invalid value: {value}: must be greater than or equal to 0"));
    }
    if config.mode == "ipvs" {
        validate_ipvs(&config.ipvs, problems);
    }
    let (sync, min) = config.periods();
    for (field, value) in [("ConfigSyncPeriod", config.config_sync_period), ("SyncPeriod", sync)] {
        if value.0 <= 0 {
            problems.push(format!("{path}.{field}: Invalid value: {value}: must be greater than 0"));
        }
    }
    if min.0 < 0 {
        problems
            .push(format!("{path}.MinSyncPeriod: Invalid value: {min}: must be greater than or equal to 0"));
    }
    if min > sync {
        problems.push(format!(
            "{path}.SyncPeriod: Invalid value: {min}: must be greater than or equal to {path}.MinSyncPeriod"
        ));
    }
}

fn validate_ipvs(config: &crate::config::Ipvs, problems: &mut Vec<String>) {
    let path = "KubeProxyConfiguration.KubeProxyIPVSConfiguration";
    for (field, value) in [
        ("TCPTimeout", config.tcp_timeout),
        ("TCPFinTimeout", config.tcp_fin_timeout),
        ("UDPTimeout", config.udp_timeout),
    ] {
        if value.0 < 0 {
            problems
                .push(format!("{path}.{field}: Invalid value: {value}: must be greater than or equal to 0"));
        }
    }
    for (i, text) in config.exclude_cidrs.iter().flatten().enumerate() {
        if net::parse_network(text).is_none() {
            problems.push(format!("{path}.ExcludeCidrs[{i}]: Invalid value: {text:?}: must be a valid CIDR"));
        }
    }
}

fn cidrs<'a>(field: &str, texts: impl Iterator<Item = &'a str>, problems: &mut Vec<String>) -> Vec<IpNet> {
    let parsed: Vec<(usize, &str, Option<IpNet>)> =
        texts.enumerate().map(|(i, text)| (i, text, net::parse_network(text.trim()))).collect();
    for (i, text, _) in parsed.iter().filter(|(_, _, net)| net.is_none()) {
        problems.push(format!("KubeProxyConfiguration.{field}[{i}]: Invalid value: {text:?}: must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)"));
    }
    parsed.into_iter().filter_map(|(_, _, net)| net).collect()
}

fn address(field: &str, text: &str, problems: &mut Vec<String>) -> Option<SocketAddr> {
    if text.is_empty() {
        return None;
    }
    match text.parse::<SocketAddr>() {
        Ok(address) => Some(address).filter(|a| a.port() != 0),
        Err(_) => {
            problems
                .push(format!("KubeProxyConfiguration.{field}: Invalid value: {text:?}: must be IP:port"));
            None
        }
    }
}

fn host_name(problems: &mut Vec<String>) -> String {
    match nix::unistd::gethostname() {
        Ok(name) => name.to_string_lossy().trim().to_lowercase(),
        Err(error) => {
            problems.push(format!("reading this machine's name: {error}; give --hostname-override"));
            String::new()
        }
    }
}

impl Options {
    /// Ranges whose virtual servers are left alone, of any family.
    pub fn excluded_cidrs(&self) -> Vec<IpNet> {
        self.config.ipvs.exclude_cidrs.iter().flatten().filter_map(|text| text.parse().ok()).collect()
    }

    /// Longest wait of a change before the proxy counts as unhealthy. Upstream: twice the sync period.
    pub fn health_timeout(&self) -> Duration {
        self.config.periods().0.to_std() * 2
    }
}

#[cfg(test)]
mod tests {
    use component::app::OWN_FLAGS;
    use component::flags::golden;

    use super::*;

    #[test]
    fn flags_are_upstreams() {
        let upstream = include_str!("../../hack/data/flags/kube-proxy.txt");
        assert_eq!(golden::differences(&COMMAND, upstream, OWN_FLAGS), Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_told() {
        let mut flags = COMMAND.flag_set();
        let words = [
            "--proxy-mode=ebpf",
            "--cluster-cidr=10.0.0.0",
            "--detect-local-mode=x",
            "--oom-score-adj=-2000",
        ];
        flags.parse(words.map(str::to_string)).expect("known flags");
        let problems = read(&flags).expect_err("four mistakes");
        assert_eq!(problems.len(), 4, "{problems:?}");
    }
}
