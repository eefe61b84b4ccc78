//! Which cgroup driver is used: the runtime's, if it tells; else the configured one.
//!
//! Upstream: getCgroupDriverFromCRI in cmd/kubelet/app/server.go, v1.37.

use std::time::Duration;

use cri::v1;

use super::manager::Driver;
use super::systemd::{self, Systemd};

/// A runtime that just starts is asked again after this pause, as upstream.
const PAUSE: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 3;

/// Asks the runtime, and prepares the driver that it uses.
///
/// # Errors
/// If the runtime does not answer or names a driver that nobody knows, or systemd is needed and does not run.
pub async fn driver(cri: &cri::Client, configured: &str) -> Result<Driver, String> {
    let mut attempt = 1;
    let answer = loop {
        match cri.runtime_config(v1::RuntimeConfigRequest::default()).await {
            Ok(answer) => break Some(answer),
            Err(error) if error.is_unimplemented() => {
                crate::metrics::runtime_loses_support("1.38.0");
                tracing::info!(
                    "CRI implementation should be updated to support RuntimeConfig. Falling back to using cgroupDriver from kubelet config."
                );
                break None;
            }
            Err(error) if attempt == ATTEMPTS => return Err(error.to_string()),
            Err(_) => attempt += 1,
        }
        tokio::time::sleep(PAUSE).await;
    };
    let name = choose(answer.as_ref(), configured)?;
    tracing::info!(cgroup_driver = name, from_runtime = answer.is_some(), "Using cgroup driver");
    match name {
        "systemd" => Systemd::new().map(Driver::Systemd).map_err(|e: systemd::Error| e.to_string()),
        _ => Ok(Driver::Cgroupfs),
    }
}

fn choose(answer: Option<&v1::RuntimeConfigResponse>, configured: &str) -> Result<&'static str, String> {
    match answer.and_then(|a| a.linux.as_ref()).map(|linux| linux.cgroup_driver) {
        Some(driver) => match v1::CgroupDriver::try_from(driver) {
            Ok(v1::CgroupDriver::Systemd) => Ok("systemd"),
            Ok(v1::CgroupDriver::Cgroupfs) => Ok("cgroupfs"),
            Err(_) => Err(format!("runtime returned an unknown cgroup driver {driver}")),
        },
        // Anything else is cgroupfs, upstream too: it only ever compares with "systemd".
        None if configured == "systemd" => Ok("systemd"),
        None => Ok("cgroupfs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_wins() {
        let says = |driver| v1::RuntimeConfigResponse {
            linux: Some(v1::LinuxRuntimeConfiguration { cgroup_driver: driver }),
        };
        assert_eq!(choose(Some(&says(0)), "cgroupfs"), Ok("systemd"));
        assert_eq!(choose(Some(&says(1)), "systemd"), Ok("cgroupfs"));
        assert_eq!(
            choose(Some(&says(7)), "systemd"),
            Err("runtime returned an unknown cgroup driver 7".to_owned())
        );
        assert_eq!(choose(Some(&v1::RuntimeConfigResponse::default()), "systemd"), Ok("systemd"));
        assert_eq!((choose(None, "systemd"), choose(None, "")), (Ok("systemd"), Ok("cgroupfs")));
    }
}
