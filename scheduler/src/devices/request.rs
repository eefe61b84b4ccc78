//! What a claim asks for, checked and counted before the search. Upstream: validateDeviceRequest, requestAccessor.

use std::sync::Arc;

use k8s_openapi::api::resource::v1::{
    CapacityRequirements, DeviceClass, DeviceDerivedAttribute, DeviceRequest, DeviceSelector,
    DeviceSubRequest, DeviceToleration, ExactDeviceRequest, ResourceClaim,
};

use super::Problem;

/// One way to satisfy a request.
#[derive(Clone)]
pub struct Alternative<'a> {
    pub name: &'a str,
    /// The request it is an alternative of; absent where there is only one way.
    pub parent: Option<&'a str>,
    pub class_name: &'a str,
    pub class: Option<Arc<DeviceClass>>,
    pub mode: &'a str,
    pub count: i64,
    pub admin: bool,
    pub selectors: &'a [DeviceSelector],
    pub tolerations: Option<&'a Vec<DeviceToleration>>,
    pub capacity: Option<&'a CapacityRequirements>,
    pub derived: &'a [DeviceDerivedAttribute],
    /// How many devices it takes.
    pub devices: usize,
    /// The candidates it takes, if it takes all there are.
    pub all: Option<Vec<usize>>,
}

/// A request with its ways, the preferred one first.
pub struct Wanted<'a> {
    pub name: &'a str,
    pub wire: &'a DeviceRequest,
    pub ways: Vec<Alternative<'a>>,
    /// Whether the ways are alternatives, and the one chosen last.
    pub prioritized: bool,
    pub chosen: usize,
}

impl<'a> Alternative<'a> {
    fn exact(name: &'a str, e: &'a ExactDeviceRequest) -> Self {
        Self {
            name,
            parent: None,
            class_name: &e.device_class_name,
            class: None,
            mode: e.allocation_mode.as_deref().unwrap_or_default(),
            count: e.count.unwrap_or(0),
            admin: e.admin_access == Some(true),
            selectors: e.selectors.as_deref().unwrap_or_default(),
            tolerations: e.tolerations.as_ref(),
            capacity: e.capacity.as_ref(),
            derived: e.derived_attributes.as_deref().unwrap_or_default(),
            devices: 0,
            all: None,
        }
    }

    fn sub(parent: &'a str, s: &'a DeviceSubRequest) -> Self {
        Self {
            name: &s.name,
            parent: Some(parent),
            class_name: &s.device_class_name,
            class: None,
            mode: s.allocation_mode.as_deref().unwrap_or_default(),
            count: s.count.unwrap_or(0),
            admin: false,
            selectors: s.selectors.as_deref().unwrap_or_default(),
            tolerations: s.tolerations.as_ref(),
            capacity: s.capacity.as_ref(),
            derived: s.derived_attributes.as_deref().unwrap_or_default(),
            devices: 0,
            all: None,
        }
    }

    /// `request` or `request/alternative`.
    pub fn full_name(&self) -> String {
        match self.parent {
            Some(parent) => format!("{parent}/{}", self.name),
            None => self.name.into(),
        }
    }

    /// (request, alternative), as constraints name them.
    pub fn names(&self) -> (&'a str, Option<&'a str>) {
        match self.parent {
            Some(parent) => (parent, Some(self.name)),
            None => (self.name, None),
        }
    }

    /// What can be said without looking at devices.
    pub fn check(&self, claim: &str, derives: bool) -> Result<(), Problem> {
        let name = self.name;
        let problem = |text: String| Err(Problem::Fatal(format!("claim {claim}, request {name}{text}")));
        if !derives && !self.derived.is_empty() {
            return problem(
                ": cannot handle request with derived attributes, the feature is disabled".into(),
            );
        }
        if let Some(i) = self.selectors.iter().position(|s| s.cel.is_none()) {
            return problem(format!(", selector #{i}: CEL expression empty (unsupported selector type?)"));
        }
        if self.class_name.is_empty() {
            return problem(": missing device class name (unsupported request type?)".into());
        }
        Ok(())
    }
}

/// What a request must not ask for where capacity is not shared. Upstream: Allocate.
pub fn no_capacity(request: &DeviceRequest, claim: &str) -> Result<(), Problem> {
    let problem = |kind: &str, name: &str| {
        Err(Problem::Fatal(format!(
            "claim {claim}, {kind} {name}: has capacity requests, but the DRAConsumableCapacity feature is disabled"
        )))
    };
    if request.exactly.as_ref().is_some_and(|e| e.capacity.is_some()) {
        return problem("request", &request.name);
    }
    match request.first_available.iter().flatten().find(|s| s.capacity.is_some()) {
        Some(sub) => problem("subrequest", &sub.name),
        None => Ok(()),
    }
}

impl<'a> Wanted<'a> {
    fn new(request: &'a DeviceRequest) -> Self {
        let subs = request.first_available.as_deref().unwrap_or_default();
        let ways = match &request.exactly {
            _ if !subs.is_empty() => subs.iter().map(|s| Alternative::sub(&request.name, s)).collect(),
            Some(exactly) => vec![Alternative::exact(&request.name, exactly)],
            None => Vec::new(),
        };
        Self { name: &request.name, wire: request, ways, prioritized: !subs.is_empty(), chosen: 0 }
    }

    pub fn of(claim: &'a ResourceClaim) -> Vec<Self> {
        let devices = claim.spec.as_ref().and_then(|s| s.devices.as_ref());
        devices.into_iter().flat_map(|d| d.requests.iter().flatten()).map(Self::new).collect()
    }

    /// The way that was taken.
    pub fn taken(&self) -> Option<&Alternative<'a>> {
        self.ways.get(self.chosen)
    }

    /// Whether a name means the request, or the way that was taken.
    pub fn is_named(&self, name: &str) -> bool {
        name == self.name || self.prioritized && self.taken().is_some_and(|w| w.full_name() == name)
    }
}
