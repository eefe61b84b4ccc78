//! Removes what this mode ever made in the kernel, besides iptables rules, which [`crate::iptables::cleanup`] removes
//! with those of mode iptables. Upstream: cleanup.go.

use std::io;

use super::netlink::Ipvs;
use super::{device, ipset};
use crate::model::Family;
use crate::program::{Error, Result};

/// The kernel has IPVS loaded; where it has not, there is nothing to remove, and no reason to load it.
fn loaded() -> bool {
    std::path::Path::new("/proc/net/ip_vs").exists()
}

/// All virtual servers, and our device. As upstream, this does not spare virtual servers of others.
///
/// # Errors
/// Something is left.
pub async fn servers() -> Result<()> {
    let work = || -> io::Result<()> {
        let flushed = if loaded() { Ipvs::open().and_then(Ipvs::flush) } else { Ok(()) };
        flushed.and(device::delete())
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|e| Error::Unusable(format!("removing virtual servers: {e}"))),
        Err(_) => Ok(()),
    }
}

/// Our sets. Rules that match them have to be gone. Upstream leaves those of IPv6.
///
/// # Errors
/// Something is left.
pub async fn sets(family: Family) -> Result<()> {
    ipset::destroy(family).await
}
