//! The hosts file that the kubelet writes for a pod. Upstream: pkg/kubelet/kubelet_pods.go ensureHostsFile, v1.37.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::HostAlias;

const BUILT_IN: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    fe00::0\tip6-mcastprefix\n\
    fe00::1\tip6-allnodes\n\
    fe00::2\tip6-allrouters\n";

/// The file of a pod with its own network.
pub fn pod_hosts(ips: &[String], hostname: &str, domain: &str, aliases: &[HostAlias]) -> String {
    let mut out = String::from("# Kubernetes-managed hosts file.\n");
    out.push_str(BUILT_IN);
    for ip in ips {
        if domain.is_empty() {
            _ = writeln!(out, "{ip}\t{hostname}");
        } else {
            _ = writeln!(out, "{ip}\t{hostname}.{domain}\t{hostname}");
        }
    }
    push_aliases(aliases, &mut out);
    out
}

/// The file of a pod with the node's network: the node's own, plus aliases.
pub fn node_hosts(own: &str, aliases: &[HostAlias]) -> String {
    let mut out = String::from("# Kubernetes-managed hosts file (host network).\n");
    out.push_str(own);
    push_aliases(aliases, &mut out);
    out
}

fn push_aliases(aliases: &[HostAlias], out: &mut String) {
    if aliases.is_empty() {
        return;
    }
    out.push_str("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        _ = writeln!(out, "{}\t{names}", alias.ip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file() {
        let aliases = [HostAlias { ip: "1.2.3.4".into(), hostnames: Some(vec!["a".into(), "b".into()]) }];
        let text = pod_hosts(&["10.0.0.1".into()], "h", "s.n.svc.c", &aliases);
        assert!(text.ends_with("fe00::2\tip6-allrouters\n10.0.0.1\th.s.n.svc.c\th\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"));
        assert_eq!(node_hosts("x\n", &[]), "# Kubernetes-managed hosts file (host network).\nx\n");
    }
}
