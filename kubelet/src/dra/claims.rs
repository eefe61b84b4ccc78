//! What is known of claims that pods on this node use. Upstream: claiminfo.go and the locked parts of manager.go.

use std::collections::{BTreeMap, BTreeSet};

use pluginapi::dra::v1;

/// Operation that a device may not need.
const PREPARE: &str = "NodePrepareResources";
/// The other one.
const UNPREPARE: &str = "NodeUnprepareResources";
/// All operations.
const EVERY: &str = "*";

/// A device that a driver prepared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its pool.
    pub pool: String,
    /// Its name.
    pub name: String,
    /// The share of it, if it is shared.
    pub share: Option<String>,
    /// Requests of the claim that it is for; none means all.
    pub requests: Vec<String>,
    /// How the runtime knows it.
    pub cdi: Vec<String>,
}

/// What one driver does for a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriverState {
    /// What it prepared.
    pub devices: Vec<Device>,
    /// Operations that it need not be asked for.
    pub skips: Vec<String>,
}

impl DriverState {
    fn needs(&self, operation: &str) -> bool {
        !self.skips.iter().any(|skip| skip == operation || skip == EVERY)
    }

    /// True if it must be asked to prepare the claim.
    pub fn prepares(&self) -> bool {
        self.needs(PREPARE)
    }
}

/// One claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimInfo {
    /// Its id.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Pods that use it, by uid.
    pub pods: BTreeSet<String>,
    /// Drivers of its devices.
    pub drivers: BTreeMap<String, DriverState>,
    /// Everything is prepared.
    pub prepared: bool,
    /// It is being taken back: no pod may use it until that is done.
    pub unpreparing: bool,
}

impl ClaimInfo {
    fn message(&self) -> v1::Claim {
        v1::Claim { namespace: self.namespace.clone(), uid: self.uid.clone(), name: self.name.clone() }
    }

    /// How the runtime knows its devices; those of one request only, unless that is empty.
    pub fn cdi<'a>(&'a self, request: &'a str) -> impl Iterator<Item = &'a String> {
        let devices = self.drivers.values().flat_map(|driver| &driver.devices);
        let wanted = move |d: &&Device| {
            request.is_empty() || d.requests.is_empty() || d.requests.iter().any(|r| r == request)
        };
        devices.filter(wanted).flat_map(|device| &device.cdi)
    }
}

/// What to ask drivers.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Claims by driver.
    pub asks: BTreeMap<String, Vec<v1::Claim>>,
    /// Drivers that need not be asked, once per claim.
    pub skipped: Vec<String>,
    /// Names of the claims, once each, which are done when all drivers have answered.
    pub claims: BTreeSet<String>,
}

/// All claims, by namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims(BTreeMap<(String, String), ClaimInfo>);

impl Claims {
    /// A claim.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&ClaimInfo> {
        self.0.get(&(namespace.to_owned(), name.to_owned()))
    }

    fn get_mut(&mut self, namespace: &str, name: &str) -> Result<&mut ClaimInfo, String> {
        let known = self.0.get_mut(&(namespace.to_owned(), name.to_owned()));
        known.ok_or_else(|| unknown(namespace, name))
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &ClaimInfo> {
        self.0.values()
    }

    /// Takes one in.
    pub fn add(&mut self, info: ClaimInfo) {
        self.0.insert((info.namespace.clone(), info.name.clone()), info);
    }

    /// Names of the claims that a pod uses.
    pub fn of_pod(&self, uid: &str) -> Vec<String> {
        self.0.values().filter(|info| info.pods.contains(uid)).map(|info| info.name.clone()).collect()
    }

    /// True if a pod uses some claim.
    pub fn has_pod(&self, uid: &str) -> bool {
        self.0.values().any(|info| info.pods.contains(uid))
    }

    /// Notes that a pod uses claims, and says who must prepare those that are not prepared. Those before one that cannot
    /// be used stay with the pod.
    ///
    /// # Errors
    /// If one cannot be used now.
    pub fn attach(&mut self, uid: &str, found: Vec<ClaimInfo>) -> Result<Plan, String> {
        let mut plan = Plan::default();
        for new in found {
            let (name, new_uid) = (new.name.clone(), new.uid.clone());
            let info = self.0.entry((new.namespace.clone(), new.name.clone())).or_insert(new);
            if info.uid != new_uid {
                return Err(format!(
                    "old ResourceClaim with same name {name} and different UID {} still exists (previous pod force-deleted?!)",
                    info.uid
                ));
            }
            if info.unpreparing {
                return Err(format!("ResourceClaim {name} is being unprepared"));
            }
            info.pods.insert(uid.to_owned());
            if info.prepared {
                continue;
            }
            plan.claims.insert(name);
            for (driver, state) in &info.drivers {
                match state.prepares() {
                    true => plan.asks.entry(driver.clone()).or_default().push(info.message()),
                    false => plan.skipped.push(driver.clone()),
                }
            }
        }
        Ok(plan)
    }

    /// Takes what a driver answered about the claims that it was asked to prepare. It replaces what it answered before:
    /// another driver may have failed meanwhile, so that both are asked again.
    ///
    /// # Errors
    /// If it did not prepare all of them.
    pub fn prepared_by(
        &mut self,
        driver: &str,
        asked: &[v1::Claim],
        answers: BTreeMap<String, v1::NodePrepareResourceResponse>,
    ) -> Result<(), String> {
        let count = answers.len();
        for (uid, answer) in answers {
            let claim = asked
                .iter()
                .find(|claim| claim.uid == uid)
                .ok_or_else(|| format!("NodePrepareResources returned result for unknown claim UID {uid}"))?;
            if !answer.error.is_empty() {
                return Err(format!(
                    "NodePrepareResources failed for ResourceClaim {}: {}",
                    claim.name, answer.error
                ));
            }
            let info = self.get_mut(&claim.namespace, &claim.name)?;
            let state = info.drivers.entry(driver.to_owned()).or_default();
            state.devices = answer.devices.into_iter().map(Device::from).collect();
        }
        complete("NodePrepareResources", asked.len(), count)
    }

    /// All drivers have prepared these claims.
    ///
    /// # Errors
    /// If one is not there any more.
    pub fn set_prepared(&mut self, namespace: &str, claims: &BTreeSet<String>) -> Result<(), String> {
        claims.iter().try_for_each(|name| {
            self.get_mut(namespace, name)?.prepared = true;
            Ok(())
        })
    }

    /// Notes that a pod uses these claims no longer, and says who must take back those that nobody else uses. They stay
    /// until [`Self::remove`], because everything may have to be done again.
    pub fn detach(&mut self, uid: &str, namespace: &str, names: &[String]) -> Plan {
        let mut plan = Plan::default();
        for name in names {
            let Ok(info) = self.get_mut(namespace, name) else { continue };
            // One that the pod never got may be in use by others.
            if !info.pods.contains(uid) {
                continue;
            }
            if info.pods.len() > 1 {
                info.pods.remove(uid);
                continue;
            }
            plan.claims.insert(name.clone());
            info.unpreparing = true;
            for (driver, state) in &info.drivers {
                match state.needs(UNPREPARE) {
                    true => plan.asks.entry(driver.clone()).or_default().push(info.message()),
                    false => plan.skipped.push(driver.clone()),
                }
            }
        }
        plan
    }

    /// Forgets claims that were taken back.
    pub fn remove(&mut self, namespace: &str, claims: &BTreeSet<String>) {
        self.0.retain(|(at, name), _| at != namespace || !claims.contains(name));
    }

    /// Pods that use claims although they are not among these: uid, namespace and names of the claims.
    pub fn left_behind(&self, active: &BTreeSet<String>) -> Vec<(String, String, Vec<String>)> {
        let mut out: BTreeMap<(&String, &String), Vec<String>> = BTreeMap::new();
        for info in self.0.values() {
            for uid in info.pods.iter().filter(|uid| !active.contains(*uid)) {
                out.entry((uid, &info.namespace)).or_default().push(info.name.clone());
            }
        }
        out.into_iter().map(|((uid, at), names)| (uid.clone(), at.clone(), names)).collect()
    }

    /// How many claims are prepared: all, and by driver.
    pub fn in_use(&self) -> (usize, BTreeMap<&str, usize>) {
        let mut by_driver = BTreeMap::new();
        let prepared = self.0.values().filter(|info| info.prepared);
        let count = prepared
            .inspect(|info| {
                info.drivers.keys().for_each(|name| *by_driver.entry(name.as_str()).or_default() += 1);
            })
            .count();
        (count, by_driver)
    }
}

/// The error about a claim that should be here.
pub fn unknown(namespace: &str, name: &str) -> String {
    format!("internal error: unable to get claim info for ResourceClaim {name} in namespace {namespace}")
}

/// Checks what a driver answered about the claims that it was asked to take back.
///
/// # Errors
/// If it did not take back all of them.
pub fn unprepared(
    asked: &[v1::Claim],
    answers: &BTreeMap<String, v1::NodeUnprepareResourceResponse>,
) -> Result<(), String> {
    for (uid, answer) in answers {
        let claim = asked
            .iter()
            .find(|claim| claim.uid == *uid)
            .ok_or_else(|| format!("NodeUnprepareResources returned result for unknown claim UID {uid}"))?;
        if !answer.error.is_empty() {
            let name = &claim.name;
            return Err(format!("NodeUnprepareResources failed for ResourceClaim {name}: {}", answer.error));
        }
    }
    complete("NodeUnprepareResources", asked.len(), answers.len())
}

fn complete(operation: &str, asked: usize, answered: usize) -> Result<(), String> {
    match asked.saturating_sub(answered) {
        0 => Ok(()),
        left => Err(format!("{operation} skipped {left} ResourceClaims")),
    }
}

impl From<v1::Device> for Device {
    fn from(device: v1::Device) -> Self {
        Self {
            pool: device.pool_name,
            name: device.device_name,
            share: device.share_id,
            requests: device.request_names,
            cdi: device.cdi_device_ids,
        }
    }
}
