//! Whether this machine can do ipvs at all, and what it has to be told at start.
//! Upstream: supported.go CanUseIPVSProxier, proxier.go NewProxier.

use std::io;
use std::net::SocketAddr;

use tracing::{debug, error, info};

use super::ipset;
use super::netlink::{Change, Ipvs};
use super::server::{DEFAULT_SCHEDULER, Key, Manner};
use crate::config;
use crate::model::Protocol;
use crate::program::{Error, Program, Result};
use crate::sysctl;

const MODPROBE: Program = Program { name: "modprobe", package: "kmod" };
/// An address for documentation, which no Service has.
const PROBE: [u8; 4] = [198, 51, 100, 0];
const PROBE_PORT: u16 = 20_000;

/// Kernels before this do not have the setting, those from the next on have it right.
const CONN_REUSE: ([u32; 2], [u32; 2]) = ([4, 1], [5, 9]);

/// Tries. A virtual server with the scheduler is made and deleted, unless there is one.
///
/// # Errors
/// In upstream's words.
pub async fn usable(scheduler: &str) -> Result<Ipvs> {
    let unusable = |text: String| Error::Unusable(format!("can't use the IPVS proxier: {text}"));
    // Its absence is no error: IPVS may be built in, or this is a container whose host has loaded it.
    if let Err(error) = MODPROBE.run(&["-va", "ip_vs"], "").await {
        debug!(%error, "Loading the kernel module ip_vs failed");
    }
    ipset::usable().await.map_err(|e| unusable(e.to_string()))?;
    let scheduler = if scheduler.is_empty() { DEFAULT_SCHEDULER } else { scheduler }.to_string();
    let probed = tokio::task::spawn_blocking(move || probe(&scheduler)).await;
    match probed {
        Ok(Ok(ipvs)) => Ok(ipvs),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound && error.raw_os_error().is_none() => {
            Err(unusable("ipvs not supported".to_string()))
        }
        Ok(Err(error)) => Err(unusable(plain(&error))),
        Err(_) => Err(unusable("interrupted".to_string())),
    }
}

fn probe(scheduler: &str) -> io::Result<Ipvs> {
    let ipvs = Ipvs::open().map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
    if ipvs.servers()?.values().any(|manner| *manner.scheduler == *scheduler) {
        return Ok(ipvs);
    }
    let key = Key { address: SocketAddr::from((PROBE, PROBE_PORT)), protocol: Protocol::Tcp };
    let manner = Manner { scheduler: scheduler.into(), flags: 0, timeout: 0 };
    ipvs.apply([Change::Add(&key, &manner)].into_iter())
        .inspect_err(|error| error!(scheduler, err = plain(error), "Could not create dummy VS"))?;
    ipvs.apply([Change::Delete(&key)].into_iter())?;
    Ok(ipvs)
}

/// As Go prints it: without the number, and not with a capital.
fn plain(error: &io::Error) -> String {
    let text = match error.raw_os_error() {
        Some(code) => nix::errno::Errno::from_raw(code).desc().to_string(),
        None => error.to_string(),
    };
    text.chars().next().map(|c| c.to_lowercase().chain(text.chars().skip(1)).collect()).unwrap_or(text)
}

/// Kernel settings that IPVS needs, by `release` as of uname.
pub fn settings(config: &config::Ipvs, release: &str) -> Vec<(&'static str, &'static str)> {
    let version: Vec<u32> =
        release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok()).collect();
    let mut settings = vec![("net/ipv4/vs/conntrack", "1")];
    let (since, fixed) = CONN_REUSE;
    if version.as_slice() >= since.as_slice() && version.as_slice() < fixed.as_slice() {
        settings.push(("net/ipv4/vs/conn_reuse_mode", "0"));
    }
    settings.extend([
        ("net/ipv4/vs/expire_nodest_conn", "1"),
        ("net/ipv4/vs/expire_quiescent_template", "1"),
        ("net/ipv4/ip_forward", "1"),
    ]);
    if config.strict_arp {
        settings.extend([("net/ipv4/conf/all/arp_ignore", "1"), ("net/ipv4/conf/all/arp_announce", "2")]);
    }
    settings
}

/// Sets them, and the timeouts of connections.
///
/// # Errors
/// A setting that cannot be written: Services would not work.
pub fn prepare(ipvs: Ipvs, config: &config::Ipvs) -> Result<()> {
    let release = nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned());
    for (name, value) in settings(config, &release.unwrap_or_default()) {
        sysctl::ensure(name, value)
            .map_err(|e| Error::Unusable(format!("can't set sysctl {name} to {value}: {}", plain(&e))))?;
    }
    let timeouts = [config.tcp_timeout, config.tcp_fin_timeout, config.udp_timeout].map(|t| t.to_std());
    if timeouts.iter().any(|t| !t.is_zero()) {
        let [tcp, tcp_fin, udp] = timeouts;
        match ipvs.set_timeouts(tcp, tcp_fin, udp) {
            Ok(()) => info!(?tcp, ?tcp_fin, ?udp, "Set IPVS timeouts"),
            Err(error) => error!(err = plain(&error), "Failed to configure IPVS timeouts"),
        }
    }
    Ok(())
}
