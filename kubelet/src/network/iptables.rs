//! A chain that tells other programs which iptables this node uses, and a rule that keeps packets for 127.0.0.0/8 out.
//!
//! Made again when somebody flushed them; a canary chain tells. Upstream: pkg/kubelet/kubelet_network_linux.go and
//! Monitor in pkg/util/iptables/iptables.go, v1.37.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio_util::sync::CancellationToken;

const CANARY: &str = "KUBE-KUBELET-CANARY";
const HINT: &str = "KUBE-IPTABLES-HINT";
const FIREWALL: &str = "KUBE-FIREWALL";
/// The canaries are looked at so often, as upstream; the kernel reports no flush.
const LOOK: Duration = Duration::from_secs(60);
/// kube-proxy makes an equal rule; both must stay equal.
const MARTIANS: [&str; 15] = [
    "-m",
    "comment",
    "--comment",
    "block incoming localnet connections",
    "--dst",
    "127.0.0.0/8",
    "!",
    "--src",
    "127.0.0.0/8",
    "-m",
    "conntrack",
    "!",
    "--ctstate",
    "RELATED,ESTABLISHED,DNAT",
    "-j",
];

/// Keeps chains and rule until `stop`; where there is no iptables, that is said once.
pub async fn run(program: &'static str, stop: CancellationToken) {
    if let Err(error) = call(program, &["-t", "mangle", "-S"]).await {
        tracing::info!(
            program,
            error,
            "No iptables support on this system; not creating the KUBE-IPTABLES-HINT chain"
        );
        return;
    }
    loop {
        if !canaries(program).await {
            match make(program).await {
                Ok(()) => tracing::info!(program, "Initialized iptables rules"),
                Err(error) => tracing::error!(
                    program,
                    error,
                    "Failed to initialize iptables rules; some functionality may be missing"
                ),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// True if all canaries are alive.
async fn canaries(program: &'static str) -> bool {
    for table in ["mangle", "nat", "filter"] {
        if call(program, &["-t", table, "-S", CANARY]).await.is_err() {
            return false;
        }
    }
    true
}

async fn make(program: &'static str) -> Result<(), String> {
    chain(program, "mangle", HINT).await?;
    if program == "iptables" {
        chain(program, "filter", FIREWALL).await?;
        for from in ["OUTPUT", "INPUT"] {
            rule(program, "-I", &[from, "-j", FIREWALL]).await?;
        }
        let martians: Vec<&str> = [FIREWALL].into_iter().chain(MARTIANS).chain(["DROP"]).collect();
        rule(program, "-A", &martians).await?;
    }
    for table in ["mangle", "nat", "filter"] {
        chain(program, table, CANARY).await?;
    }
    Ok(())
}

async fn chain(program: &'static str, table: &str, name: &str) -> Result<(), String> {
    if call(program, &["-t", table, "-S", name]).await.is_ok() {
        return Ok(());
    }
    call(program, &["-t", table, "-N", name]).await
}

/// Adds a rule of the filter table unless it is there.
async fn rule(program: &'static str, how: &str, rule: &[&str]) -> Result<(), String> {
    let with = |how| -> Vec<&str> { ["-t", "filter", how].into_iter().chain(rule.iter().copied()).collect() };
    if call(program, &with("-C")).await.is_ok() {
        return Ok(());
    }
    call(program, &with(how)).await
}

async fn call(program: &'static str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(["-w", "5"])
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|e| format!("running {program}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{program} {}: {text}", arguments.join(" ")))
}
