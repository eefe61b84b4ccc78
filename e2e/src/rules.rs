//! The packet filter chains that a kubelet and a kube-proxy leave on a node they no longer run on.
//!
//! `kube-proxy --cleanup` keeps the canary of its mangle table, and the kubelet has no clean-up at all; both as upstream.
//! Foreign chains and rules are not touched.

use anyhow::{Context, Result, ensure};

use crate::process::Processes;

/// A chain and the chains whose first rules jump to it.
struct Left {
    table: &'static str,
    chain: &'static str,
    from: &'static [&'static str],
}

const LEFT: [Left; 6] = [
    Left { table: "mangle", chain: "KUBE-IPTABLES-HINT", from: &[] },
    Left { table: "mangle", chain: "KUBE-PROXY-CANARY", from: &[] },
    Left { table: "mangle", chain: "KUBE-KUBELET-CANARY", from: &[] },
    Left { table: "nat", chain: "KUBE-KUBELET-CANARY", from: &[] },
    Left { table: "filter", chain: "KUBE-KUBELET-CANARY", from: &[] },
    Left { table: "filter", chain: "KUBE-FIREWALL", from: &["INPUT", "OUTPUT"] },
];

/// Removes them, for both families; what is not there is passed over.
pub fn remove(processes: &Processes) -> Result<()> {
    for program in ["iptables", "ip6tables"] {
        for left in &LEFT {
            if !run(processes, program, left.table, &["-S", left.chain])?.0 {
                continue;
            }
            for from in left.from {
                while run(processes, program, left.table, &["-D", from, "-j", left.chain])?.0 {}
            }
            for action in ["-F", "-X"] {
                let (done, text) = run(processes, program, left.table, &[action, left.chain])?;
                ensure!(done, "{program} -t {} {action} {}: {text}", left.table, left.chain);
            }
        }
    }
    Ok(())
}

/// The lines of chains and rules of Kubernetes that the kernel still has.
pub fn left(processes: &Processes) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for program in ["iptables-save", "ip6tables-save"] {
        let output = processes.command(program).output().with_context(|| format!("running {program}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        lines.extend(text.lines().filter(|line| line.contains("KUBE-")).map(str::to_string));
    }
    Ok(lines)
}

/// True if the command succeeded, and what it said otherwise.
fn run(processes: &Processes, program: &str, table: &str, arguments: &[&str]) -> Result<(bool, String)> {
    let output = processes
        .command(program)
        .args(["-w", "5", "-t", table])
        .args(arguments)
        .output()
        .with_context(|| format!("running {program} (apt-get install iptables)"))?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).trim().to_string()))
}
