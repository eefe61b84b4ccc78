//! What drivers say of their devices' health, and how the pods' statuses show it.
//!
//! It is kept in the file `dra_health_state` as upstream keeps it. Upstream: healthinfo.go, and in manager.go
//! HandleWatchResourcesStream and UpdateAllocatedResourcesStatus.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, Pod, PodStatus, ResourceHealth, ResourceStatus,
};
use k8s_openapi::jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use pluginapi::health::v1;
use serde::{Deserialize, Serialize};

use super::claims::{Claims, Device};
use super::resolve;
use crate::cpumanager::checkpoint::replace;
use crate::devicemanager::checkpoint::escaped;
use crate::pod::view::PodView;

/// Name of the file in the kubelet's folder.
pub const FILE: &str = "dra_health_state";
/// What a driver said counts this long, unless it said how long.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Most devices of a driver that are kept: nothing else bounds how many it may invent.
const MOST: usize = 16384;
/// Longest message, and what ends one that was longer.
const MESSAGE: usize = 1024;
const CUT: &str = "...";

const HEALTHY: &str = "Healthy";
const UNHEALTHY: &str = "Unhealthy";
const UNKNOWN: &str = "Unknown";

/// A device, as its driver sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    pool_name: String,
    device_name: String,
    health: String,
    last_updated: Timestamp,
    /// Nanoseconds.
    health_check_timeout: i64,
    message: String,
}

impl Health {
    /// What a driver reports.
    pub fn new(report: v1::DeviceHealth, now: Timestamp) -> Self {
        let health = match report.health() {
            v1::HealthStatus::Healthy => HEALTHY,
            v1::HealthStatus::Unhealthy => UNHEALTHY,
            v1::HealthStatus::Unknown => UNKNOWN,
        };
        let device = report.device.unwrap_or_default();
        let default = i64::try_from(TIMEOUT.as_nanos()).unwrap_or_default();
        let seconds = report.health_check_timeout_seconds;
        Self {
            pool_name: device.pool_name,
            device_name: device.device_name,
            health: health.to_owned(),
            last_updated: now,
            health_check_timeout: if seconds > 0 { seconds.saturating_mul(1_000_000_000) } else { default },
            message: cut(report.message),
        }
    }

    fn key(&self) -> String {
        key(&self.pool_name, &self.device_name)
    }

    fn is_over(&self, now: Timestamp) -> bool {
        let default = i128::try_from(TIMEOUT.as_nanos()).unwrap_or_default();
        let timeout = if self.health_check_timeout == 0 { default } else { self.health_check_timeout.into() };
        now.as_nanosecond() - self.last_updated.as_nanosecond() > timeout
    }

    fn says_the_same(&self, other: &Self) -> bool {
        (&self.health, &self.message, self.health_check_timeout)
            == (&other.health, &other.message, other.health_check_timeout)
    }
}

fn key(pool: &str, device: &str) -> String {
    format!("{pool}/{device}")
}

fn cut(message: String) -> String {
    if message.len() <= MESSAGE {
        return message;
    }
    format!("{}{CUT}", &message[..message.floor_char_boundary(MESSAGE - CUT.len())])
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfDriver {
    devices: BTreeMap<String, Health>,
}

/// All devices, by driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Healths(BTreeMap<String, OfDriver>);

impl Healths {
    /// Takes a driver's report of all its devices. Gives those that changed, and whether anything is to be saved. What is
    /// reported no longer is unknown once it is too old.
    pub fn report(&mut self, driver: &str, all: Vec<Health>, now: Timestamp) -> (BTreeSet<String>, bool) {
        let known = &mut self.0.entry(driver.to_owned()).or_default().devices;
        let (mut changed, mut reported, mut ignored) = (BTreeSet::new(), BTreeSet::new(), 0usize);
        for new in all {
            let key = new.key();
            reported.insert(key.clone());
            let old = known.get(&key);
            if old.is_none() && known.len() >= MOST {
                ignored += 1;
                continue;
            }
            if old.is_none_or(|old| !old.says_the_same(&new)) {
                changed.insert(key.clone());
            }
            known.insert(key, new);
        }
        if ignored > 0 {
            tracing::error!(
                driver,
                limit = MOST,
                ignored,
                "Health report contains more devices than are kept per driver"
            );
        }
        let before = known.len();
        known.retain(|key, health| {
            let stays = reported.contains(key) || !health.is_over(now);
            if !stays && health.health != UNKNOWN {
                changed.insert(key.clone());
            }
            stays
        });
        let dirty = !changed.is_empty() || known.len() != before;
        (changed, dirty)
    }

    /// A driver tells no more; true if it had told something.
    pub fn clear(&mut self, driver: &str) -> bool {
        self.0.remove(driver).is_some()
    }

    /// How a device is now, and what its driver says about it.
    fn get(&self, driver: &str, device: &Device, now: Timestamp) -> (&str, &str) {
        let known = self.0.get(driver).and_then(|all| all.devices.get(&key(&device.pool, &device.name)));
        let known = known.filter(|health| !health.is_over(now));
        known.map_or((UNKNOWN, ""), |health| (&health.health, &health.message))
    }
}

/// Pods that use one of these devices of a driver.
pub fn users(claims: &Claims, driver: &str, devices: &BTreeSet<String>) -> BTreeSet<String> {
    let uses = |state: &super::claims::DriverState| {
        state.devices.iter().any(|device| devices.contains(&key(&device.pool, &device.name)))
    };
    let infos = claims.all().filter(|info| info.drivers.get(driver).is_some_and(uses));
    infos.flat_map(|info| info.pods.iter().cloned()).collect()
}

/// Says of each container's claims how their devices are; with what drivers say about it if `messages`.
pub fn show(
    pod: &Pod,
    status: &mut PodStatus,
    claims: &Claims,
    healths: &Healths,
    messages: bool,
    now: Timestamp,
) {
    for container in status.container_statuses.iter_mut().flatten() {
        let spec = pod.spec().containers.iter().find(|c| c.name == container.name);
        let Some(spec) = spec.filter(|c| resolve::references(c).next().is_some()) else { continue };
        for (resource, devices) in of_container(pod, spec, claims) {
            let mut list: Vec<ResourceHealth> = Vec::new();
            for (driver, device) in devices {
                let health = resource_health(driver, device, healths.get(driver, device, now), messages);
                if !list.iter().any(|known| known.resource_id == health.resource_id) {
                    list.push(health);
                }
            }
            set(container, resource, list);
        }
        let all = container.allocated_resources_status.take().unwrap_or_default();
        let some: Vec<_> =
            all.into_iter().filter(|r| r.resources.iter().flatten().next().is_some()).collect();
        container.allocated_resources_status = (!some.is_empty()).then_some(some);
    }
}

/// Devices of each claim, or request of one, of a container.
fn of_container<'a>(
    pod: &Pod,
    container: &Container,
    claims: &'a Claims,
) -> Vec<(String, Vec<(&'a str, &'a Device)>)> {
    let mut out = Vec::new();
    for (name, request) in resolve::references(container) {
        let mut entries = pod.spec().resource_claims.iter().flatten();
        let entry = entries.find(|claim| claim.name == name);
        let found = entry.and_then(|claim| resolve::name(pod, claim).ok().flatten());
        let Some(info) = found.and_then(|found| claims.get(pod.namespace(), &found.name)) else { continue };
        let of_request = |device: &&Device| {
            // Drivers name the whole request where a container may name a part.
            let whole = request.split('/').next().unwrap_or_default();
            request.is_empty() || device.requests.is_empty() || device.requests.iter().any(|r| r == whole)
        };
        let drivers = info.drivers.iter();
        let devices = drivers.flat_map(|(driver, state)| {
            state.devices.iter().filter(of_request).map(move |device| (driver.as_str(), device))
        });
        let resource =
            if request.is_empty() { format!("claim:{name}") } else { format!("claim:{name}/{request}") };
        out.push((resource, devices.collect()));
    }
    out
}

fn resource_health(
    driver: &str,
    device: &Device,
    (health, message): (&str, &str),
    messages: bool,
) -> ResourceHealth {
    let full = || format!("{driver}/{}/{}", device.pool, device.name);
    ResourceHealth {
        resource_id: device.cdi.first().cloned().unwrap_or_else(full),
        health: Some(health.to_owned()),
        message: (messages && !message.is_empty()).then(|| message.to_owned()),
    }
}

fn set(container: &mut ContainerStatus, name: String, list: Vec<ResourceHealth>) {
    let all = container.allocated_resources_status.get_or_insert_default();
    match all.iter_mut().find(|known| known.name == name) {
        Some(known) => known.resources = Some(list),
        None => all.push(ResourceStatus { name, resources: Some(list) }),
    }
}

/// What is known of all devices, with its file.
pub struct HealthStore {
    file: PathBuf,
    all: Mutex<Healths>,
}

impl HealthStore {
    /// Reads the file in `root`; nothing is known if it cannot be read.
    pub fn new(root: &Path) -> Self {
        let file = root.join(FILE);
        let all = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::error!(%error, "Failed to load health checkpoint, proceeding with empty cache");
                Healths::default()
            }),
            Err(_) => Healths::default(),
        };
        Self { file, all: Mutex::new(all) }
    }

    /// What is known now; it stays as it is while it is held.
    pub fn get(&self) -> MutexGuard<'_, Healths> {
        self.all.lock()
    }

    /// Takes a report; gives the devices that changed.
    pub fn report(&self, driver: &str, report: v1::NodeWatchResourcesResponse) -> BTreeSet<String> {
        let now = Timestamp::now();
        let mut all = self.all.lock();
        let devices = report.devices.into_iter().map(|device| Health::new(device, now)).collect();
        let (changed, dirty) = all.report(driver, devices, now);
        if dirty {
            self.save(&all);
        }
        changed
    }

    /// A driver tells no more.
    pub fn clear(&self, driver: &str) {
        let mut all = self.all.lock();
        if all.clear(driver) {
            self.save(&all);
        }
    }

    fn save(&self, all: &Healths) {
        let text = escaped(&serde_json::to_string(all).unwrap_or_default());
        if let Err(error) = replace(&self.file, &text) {
            tracing::error!(%error, "Failed to save health checkpoint after update");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::SignedDuration;

    fn health(device: &str, health: v1::HealthStatus, seconds: i64, now: Timestamp) -> Health {
        let device = v1::DeviceIdentifier { pool_name: "p".to_owned(), device_name: device.to_owned() };
        let report = v1::DeviceHealth {
            device: Some(device),
            health: health.into(),
            health_check_timeout_seconds: seconds,
            ..v1::DeviceHealth::default()
        };
        Health::new(report, now)
    }

    /// A file that upstream's code wrote, recorded by `e2e/oracle/dra`.
    #[test]
    fn reads_upstreams_file() {
        let text = include_str!("testdata/health.json").trim();
        let all: Healths = serde_json::from_str(text).unwrap();
        assert_eq!(escaped(&serde_json::to_string(&all).unwrap()), text);
    }

    #[test]
    fn what_is_old_is_unknown_and_goes() {
        let (mut all, start) = (Healths::default(), Timestamp::UNIX_EPOCH);
        let after = |seconds| start + SignedDuration::from_secs(seconds);
        let good = v1::HealthStatus::Healthy;
        all.report("d", vec![health("a", good, 60, start), health("b", good, 0, start)], start);
        let device = |name: &str| Device { pool: "p".to_owned(), name: name.to_owned(), ..Device::default() };
        assert_eq!(all.get("d", &device("b"), after(30)).0, HEALTHY);
        assert_eq!(all.get("d", &device("b"), after(31)).0, UNKNOWN);
        assert_eq!(
            all.report("d", vec![health("a", good, 60, after(30))], after(30)),
            (BTreeSet::new(), false)
        );
        let (changed, dirty) = all.report("d", vec![health("a", good, 60, after(31))], after(31));
        assert_eq!((changed, dirty), (BTreeSet::from(["p/b".to_owned()]), true));
        assert_eq!(all.0["d"].devices.len(), 1);
    }

    #[test]
    fn a_driver_cannot_fill_the_memory() {
        let (mut all, now) = (Healths::default(), Timestamp::UNIX_EPOCH);
        let good = v1::HealthStatus::Healthy;
        let many = (0..=MOST).map(|i| health(&i.to_string(), good, 0, now)).collect();
        assert_eq!(all.report("d", many, now).0.len(), MOST);
    }
}
