//! Resolver configuration of a pod. Upstream: pkg/kubelet/network/dns/dns.go, v1.37.

use cri::v1::DnsConfig;
use k8s_openapi::api::core::v1::Pod;

use crate::pod::view::PodView;

/// Most search domains that are passed on.
const MAX_SEARCHES: usize = 32;
/// Longest search line that is passed on.
const MAX_SEARCH_CHARS: usize = 2048;
/// Longest single domain; some resolvers abort on longer ones.
const MAX_DOMAIN: usize = 253;
/// Most name servers; the C library ignores further ones.
const MAX_SERVERS: usize = 3;

/// The node's own resolver configuration and what the cluster adds.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The node's configuration; `None` if the kubelet was told to use none.
    pub host: Option<DnsConfig>,
    /// Addresses of the cluster's name service.
    pub cluster_dns: Vec<String>,
    /// Domain of the cluster, may be empty.
    pub cluster_domain: String,
    /// The node's addresses.
    pub node_ips: Vec<String>,
}

/// A pod's configuration, and what is to be said about it in events.
pub fn pod_dns(pod: &Pod, settings: &Settings) -> (DnsConfig, Vec<Warning>) {
    let mut warnings = Vec::new();
    let host = settings.host.clone().unwrap_or_default();
    let policy = pod.spec().dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster = match policy {
        "ClusterFirst" => !pod.is_host_network(),
        "ClusterFirstWithHostNet" => true,
        "Default" | "None" => false,
        _ => true,
    };
    let mut dns = if policy == "None" {
        DnsConfig::default()
    } else if cluster && !settings.cluster_dns.is_empty() {
        DnsConfig {
            servers: settings.cluster_dns.clone(),
            searches: cluster_searches(pod.namespace(), &settings.cluster_domain, host.searches),
            options: vec!["ndots:5".to_owned()],
        }
    } else {
        if cluster {
            warnings.push(Warning::MissingClusterDns);
        }
        if settings.host.is_some() { host } else { loopback(&settings.node_ips) }
    };
    if let Some(extra) = &pod.spec().dns_config {
        dns.servers.extend(extra.nameservers.iter().flatten().cloned());
        dns.servers = without_duplicates(dns.servers);
        dns.searches.extend(extra.searches.iter().flatten().cloned());
        dns.searches = without_duplicates(dns.searches);
        let options = extra.options.iter().flatten().map(|option| match &option.value {
            Some(value) => format!("{}:{value}", option.name.as_deref().unwrap_or_default()),
            None => option.name.clone().unwrap_or_default(),
        });
        dns.options = merge_options(dns.options, options.collect());
    }
    fit_limits(&mut dns, &mut warnings);
    (dns, warnings)
}

/// Something the user should know about the resolver configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum Warning {
    /// The kubelet knows no cluster name service.
    MissingClusterDns,
    /// Some entries were left out; the text says which remain.
    Limits(String),
}

fn loopback(node_ips: &[String]) -> DnsConfig {
    let local = |ip: &String| if ip.contains(':') { "::1".to_owned() } else { "127.0.0.1".to_owned() };
    let mut servers: Vec<String> = node_ips.iter().map(local).collect();
    if servers.is_empty() {
        servers.push("127.0.0.1".to_owned());
    }
    DnsConfig { servers, searches: vec![".".to_owned()], options: Vec::new() }
}

fn cluster_searches(namespace: &str, domain: &str, host: Vec<String>) -> Vec<String> {
    if domain.is_empty() {
        return host;
    }
    let own = [format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
    without_duplicates(own.into_iter().chain(host).collect())
}

fn without_duplicates(list: Vec<String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(list.len());
    for item in list {
        if !out.contains(&item) {
            out.push(item);
        }
    }
    out
}

/// The pod's options override those of the same name.
fn merge_options(base: Vec<String>, extra: Vec<String>) -> Vec<String> {
    let name = |option: &str| option.split_once(':').map_or(option, |(name, _)| name).to_owned();
    let mut merged = std::collections::BTreeMap::new();
    for option in base.into_iter().chain(extra) {
        merged.insert(name(&option), option);
    }
    merged.into_values().collect()
}

fn fit_limits(dns: &mut DnsConfig, warnings: &mut Vec<Warning>) {
    if dns.servers.len() > MAX_SERVERS {
        dns.servers.truncate(MAX_SERVERS);
        warnings.push(Warning::Limits(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            dns.servers.join(" ")
        )));
    }
    let before = dns.searches.len();
    dns.searches.truncate(MAX_SEARCHES);
    dns.searches.retain(|domain| domain.len() <= MAX_DOMAIN);
    while dns.searches.join(" ").len() > MAX_SEARCH_CHARS {
        dns.searches.pop();
    }
    if dns.searches.len() < before {
        warnings.push(Warning::Limits(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            dns.searches.join(" ")
        )));
    }
}

/// Reads a resolver configuration file.
pub fn parse_resolv_conf(text: &str) -> DnsConfig {
    let mut out = DnsConfig::default();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with('#') || line.starts_with(';') {
            continue;
        }
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => out.servers.extend(words.next().map(str::to_owned)),
            // The last line counts, and a trailing dot says nothing here.
            Some("search") => {
                out.searches =
                    words.map(|w| if w == "." { w } else { w.trim_end_matches('.') }.to_owned()).collect();
            }
            Some("options") => out.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings() -> Settings {
        Settings {
            host: Some(parse_resolv_conf(
                "# x\nnameserver 9.9.9.9\nsearch corp. svc.cluster.local\noptions rotate\n",
            )),
            cluster_dns: vec!["10.96.0.10".into()],
            cluster_domain: "cluster.local".into(),
            node_ips: vec!["1.1.1.1".into()],
        }
    }

    fn dns(spec: serde_json::Value, settings: &Settings) -> (DnsConfig, Vec<Warning>) {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec}))
                .unwrap();
        pod_dns(&pod, settings)
    }

    #[test]
    fn policies() {
        let (got, _) = dns(json!({"containers": []}), &settings());
        assert_eq!(got.servers, ["10.96.0.10"]);
        assert_eq!(got.searches, ["n.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp"]);
        assert_eq!(got.options, ["ndots:5"]);
        let (got, _) = dns(json!({"containers": [], "dnsPolicy": "Default"}), &settings());
        assert_eq!((got.servers, got.options), (vec!["9.9.9.9".to_owned()], vec!["rotate".to_owned()]));
        let (got, _) = dns(json!({"containers": [], "hostNetwork": true}), &settings());
        assert_eq!(got.servers, ["9.9.9.9"]);
        let none = json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.2.3.4"], "options": [{"name": "ndots", "value": "2"}]}});
        let (got, _) = dns(none, &settings());
        assert_eq!(
            (got.servers, got.searches, got.options),
            (vec!["1.2.3.4".to_owned()], vec![], vec!["ndots:2".to_owned()])
        );
        let without = Settings { cluster_dns: vec![], ..settings() };
        assert_eq!(dns(json!({"containers": []}), &without).1, [Warning::MissingClusterDns]);
    }

    #[test]
    fn limits() {
        let many = json!({"containers": [], "dnsConfig": {"nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3"]}});
        let (got, warnings) = dns(many, &settings());
        assert_eq!(got.servers.len(), 3);
        assert_eq!(warnings.len(), 1);
    }
}
