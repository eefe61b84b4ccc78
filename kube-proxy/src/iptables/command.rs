//! The iptables programs of one family.
//!
//! The programs wait for the lock of the legacy back end themselves; the nft back end has none.

use crate::model::Family;
use crate::program::{Program, Result};

/// The programs of one family.
#[derive(Clone, Copy, Debug)]
pub struct Iptables {
    pub family: Family,
}

/// Seconds to wait for the lock that other users of iptables may hold.
const LOCK_WAIT: &str = "5";

impl Iptables {
    fn program(self, v4: &'static str, v6: &'static str) -> Program {
        let name = match self.family {
            Family::V4 => v4,
            Family::V6 => v6,
        };
        Program { name, package: "iptables" }
    }

    /// All tables as text.
    pub async fn save(self) -> Result<String> {
        self.program("iptables-save", "ip6tables-save").run(&[], "").await
    }

    /// Applies a load; all of it or nothing per table.
    pub async fn restore(self, text: &str) -> Result<()> {
        let arguments = ["-w", LOCK_WAIT, "--noflush", "--counters"];
        self.program("iptables-restore", "ip6tables-restore").run(&arguments, text).await.map(drop)
    }

    /// One call of iptables itself.
    pub async fn call(self, arguments: &[&str]) -> Result<String> {
        let all: Vec<&str> = ["-w", LOCK_WAIT].iter().chain(arguments).copied().collect();
        self.program("iptables", "ip6tables").run(&all, "").await
    }

    /// Says whether the program and the kernel's table can be used at all.
    pub async fn present(self) -> Result<()> {
        self.call(&["-t", "nat", "-n", "-L", "POSTROUTING"]).await.map(drop)
    }

    /// The rules are still there: a chain that vanishes when tables are flushed, and rules that vanish when chains are.
    pub async fn intact(self) -> bool {
        use super::chain::{CANARY, FORWARD, POSTROUTING};
        for (table, chain, rule) in [
            ("mangle", CANARY, ""),
            ("nat", "PREROUTING", "-j KUBE-SERVICES"),
            ("nat", "OUTPUT", "-j KUBE-SERVICES"),
            ("nat", POSTROUTING, "-j MASQUERADE"),
            ("filter", FORWARD, "-j ACCEPT"),
        ] {
            let listed = self.call(&["-t", table, "-S", chain]).await;
            if !listed.is_ok_and(|text| text.contains(rule)) {
                return false;
            }
        }
        true
    }
}
