//! Kernel settings that proxying needs. Upstream: pkg/proxy/conntrack/sysctls.go.

use std::fs;
use std::time::Duration;

use tracing::{error, info};

use crate::config::Conntrack;

const CONNTRACK_MAX: &str = "net/netfilter/nf_conntrack_max";
/// Machines with many cores need no more; the table is memory.
const MOST_FLOWS: u64 = 1_048_576;
const HASH_SIZE: &str = "/sys/module/nf_conntrack/parameters/hashsize";

/// What to set: file below /proc/sys and value. Pure, apart from nothing being written here.
pub fn conntrack(config: &Conntrack, cores: usize) -> Vec<(&'static str, String)> {
    let mut settings = Vec::new();
    let per_core = u64::try_from(config.max_per_core.unwrap_or(0)).unwrap_or(0);
    if per_core > 0 {
        let least = u64::try_from(config.min.unwrap_or(0)).unwrap_or(0);
        let scaled = per_core * cores as u64;
        let max = if scaled > MOST_FLOWS { MOST_FLOWS } else { scaled.max(least) };
        settings.push((CONNTRACK_MAX, max.to_string()));
    }
    let timeouts = [
        (
            "net/netfilter/nf_conntrack_tcp_timeout_established",
            config.tcp_established_timeout.unwrap_or_default(),
        ),
        (
            "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
            config.tcp_close_wait_timeout.unwrap_or_default(),
        ),
        ("net/netfilter/nf_conntrack_udp_timeout", config.udp_timeout),
        ("net/netfilter/nf_conntrack_udp_timeout_stream", config.udp_stream_timeout),
    ];
    settings.extend(
        timeouts
            .into_iter()
            .map(|(file, span)| (file, span.to_std()))
            .filter(|(_, span)| *span > Duration::ZERO)
            .map(|(file, span)| (file, span.as_secs().to_string())),
    );
    if config.tcp_be_liberal {
        settings.push(("net/netfilter/nf_conntrack_tcp_be_liberal", "1".to_string()));
    }
    settings
}

/// Writes settings that differ. What cannot be written is said and left: traffic works without, only less well.
pub fn apply(settings: &[(&'static str, String)]) {
    for (file, value) in settings {
        let path = format!("/proc/sys/{file}");
        let current = fs::read_to_string(&path).unwrap_or_default();
        if current.trim() == value {
            continue;
        }
        match fs::write(&path, value) {
            Ok(()) => info!(sysctl = file, value, "Set sysctl"),
            Err(error) => {
                error!(sysctl = file, value, %error, "Setting a kernel parameter failed; it stays as it is")
            }
        }
    }
}

/// Writes a setting that differs.
///
/// # Errors
/// It stays as it is.
pub fn ensure(file: &'static str, value: &str) -> std::io::Result<()> {
    let path = format!("/proc/sys/{file}");
    let before = fs::read_to_string(&path).unwrap_or_default();
    if before.trim() != value {
        fs::write(&path, value)?;
        info!(name = file, before = before.trim(), after = value, "Changed sysctl");
    }
    Ok(())
}

/// The limit of tracked connections may only be raised: others on the node may need more.
pub fn never_lower(settings: Vec<(&'static str, String)>) -> Vec<(&'static str, String)> {
    settings
        .into_iter()
        .filter(|(file, value)| {
            let current = fs::read_to_string(format!("/proc/sys/{file}")).unwrap_or_default();
            !file.ends_with("nf_conntrack_max")
                || current.trim().parse::<u64>().ok() < value.parse::<u64>().ok()
        })
        .collect()
}

/// Gives the table of connections a bucket per four of them, if it has fewer.
pub fn hash_size(config: &Conntrack, cores: usize) {
    let max = conntrack(config, cores).into_iter().find(|(file, _)| *file == CONNTRACK_MAX);
    let Some(wanted) = max.and_then(|(_, value)| value.parse::<u64>().ok()).map(|max| max / 4) else {
        return;
    };
    let current = fs::read_to_string(HASH_SIZE).ok().and_then(|text| text.trim().parse::<u64>().ok());
    // Absent: the module is built into the kernel, or this is another network namespace.
    if current.is_none_or(|size| size >= wanted) {
        return;
    }
    match fs::write(HASH_SIZE, wanted.to_string()) {
        Ok(()) => info!(conntrackHashsize = wanted, "Setting conntrack hashsize"),
        Err(error) => {
            error!(file = HASH_SIZE, value = wanted, %error, "Setting a kernel parameter failed; it stays as it is")
        }
    }
}

/// The kernel tolerates out-of-window packets.
pub fn tcp_liberal() -> bool {
    fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal").is_ok_and(|v| v.trim() != "0")
}
