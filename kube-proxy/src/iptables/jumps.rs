//! Rules in the kernel's own chains that lead to ours.

use super::chain;

/// A jump from a built-in chain.
pub struct Jump {
    pub table: &'static str,
    pub from: &'static str,
    pub to: &'static str,
    pub comment: &'static str,
    /// Only the first packet of a connection.
    pub new_only: bool,
}

/// A jump.
pub const fn jump(
    table: &'static str,
    from: &'static str,
    to: &'static str,
    comment: &'static str,
    new_only: bool,
) -> Jump {
    Jump { table, from, to, comment, new_only }
}

const PORTALS: &str = "kubernetes service portals";
const EXTERNAL: &str = "kubernetes externally-visible service portals";
const BALANCER: &str = "kubernetes load balancer firewall";

/// Upstream: proxier.go iptablesJumpChains and iptablesKubeletJumpChains.
pub const JUMPS: &[Jump] = &[
    jump("filter", "INPUT", chain::EXTERNAL_SERVICES, EXTERNAL, true),
    jump("filter", "FORWARD", chain::EXTERNAL_SERVICES, EXTERNAL, true),
    jump("filter", "INPUT", chain::NODEPORTS, "kubernetes health check service ports", false),
    jump("filter", "FORWARD", chain::SERVICES, PORTALS, true),
    jump("filter", "OUTPUT", chain::SERVICES, PORTALS, true),
    jump("filter", "FORWARD", chain::FORWARD, "kubernetes forwarding rules", false),
    jump("filter", "INPUT", chain::PROXY_FIREWALL, BALANCER, true),
    jump("filter", "OUTPUT", chain::PROXY_FIREWALL, BALANCER, true),
    jump("filter", "FORWARD", chain::PROXY_FIREWALL, BALANCER, true),
    jump("filter", "INPUT", chain::KUBELET_FIREWALL, "", false),
    jump("filter", "OUTPUT", chain::KUBELET_FIREWALL, "", false),
    jump("nat", "OUTPUT", chain::SERVICES, PORTALS, false),
    jump("nat", "PREROUTING", chain::SERVICES, PORTALS, false),
    jump("nat", "POSTROUTING", chain::POSTROUTING, "kubernetes postrouting rules", false),
];

impl Jump {
    /// The rule without its verb: `CHAIN matches -j TARGET`.
    pub fn rule(&self) -> String {
        let new = if self.new_only { "-m conntrack --ctstate NEW " } else { "" };
        let comment = if self.comment.is_empty() {
            String::new()
        } else {
            format!("-m comment --comment \"{}\" ", self.comment)
        };
        format!("{} {new}{comment}-j {}", self.from, self.to)
    }

    /// A line of iptables-save is this jump. It may print matches in another order.
    pub fn is(&self, line: &str) -> bool {
        line.strip_prefix("-A ").and_then(|l| l.strip_prefix(self.from)).is_some_and(|l| {
            l.starts_with(' ')
                && l.ends_with(&format!("-j {}", self.to))
                && l.contains("--ctstate NEW") == self.new_only
                && !l.contains(" -s ")
                && !l.contains(" -d ")
        })
    }
}
