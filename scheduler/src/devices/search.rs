//! The search: claim by claim, request by request, device by device, each candidate tried in order, and taken back
//! where it leads nowhere. Upstream: allocator_incubating.go Allocate, allocateOne, allocateDevice.

use std::sync::Arc;

use hashbrown::HashMap;
use k8s_openapi::api::resource::v1::{
    CapacityRequirements, DeviceAttribute, DeviceTaint, DeviceToleration, ResourceClaim,
};
use smallvec::SmallVec;

use super::constraint::{Constraint, Values, values};
use super::counters::Counters;
use super::pools::{Pool, State, device_meant};
use super::request::{Alternative, Wanted, no_capacity};
use super::selector::Failed;
use super::slice::{Device, ResourceSlice};
use super::supply::{Amounts, Supply};
use super::{DeviceRef, MOST_DEVICES, Problem, Site, capacity, key};

/// A device that may be chosen.
pub struct Candidate<'a> {
    pub id: DeviceRef<'a>,
    pub pool: usize,
    pub slice: &'a ResourceSlice,
    pub device: &'a Device,
    /// Several claims may share it.
    multiple: bool,
    /// Claims that have it so far.
    by: SmallVec<[usize; 2]>,
    taken: bool,
    /// Used in part before.
    used: bool,
    /// What claims take of it so far, if any does.
    shares: Option<Amounts>,
}

/// A device chosen for a request.
pub struct Chosen {
    pub candidate: usize,
    /// (request, way).
    pub of: (usize, usize),
    pub amounts: Option<Amounts>,
}

/// Where the search is.
#[derive(Clone, Copy)]
struct At {
    claim: usize,
    request: usize,
    way: usize,
    /// How many devices the request has.
    device: usize,
}

enum Stop {
    /// The claim would have more devices than it can have.
    TooMany,
    Problem(Problem),
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Stop::Problem(problem)
    }
}

pub struct Search<'a> {
    pub supply: &'a Supply,
    pub site: Site<'a>,
    pub claims: &'a [Arc<ResourceClaim>],
    pub candidates: Vec<Candidate<'a>>,
    pub wanted: Vec<Vec<Wanted<'a>>>,
    pub chosen: Vec<Vec<Chosen>>,
    pools: &'a [Pool<'a>],
    constraints: Vec<Vec<Constraint<'a>>>,
    counters: Vec<Counters<'a>>,
    /// What selectors said, by candidate and request.
    matching: HashMap<(usize, usize, usize, usize), bool, foldhash::fast::RandomState>,
    /// Values of expressions, by candidate.
    derived: HashMap<(usize, &'a str), Values<'a>, foldhash::fast::RandomState>,
    stop: &'a dyn Fn() -> bool,
}

fn fatal<T>(text: String) -> Result<T, Problem> {
    Err(Problem::Fatal(text))
}

impl<'a> Search<'a> {
    pub fn new(
        supply: &'a Supply,
        site: Site<'a>,
        claims: &'a [Arc<ResourceClaim>],
        pools: &'a [Pool<'a>],
        stop: &'a dyn Fn() -> bool,
    ) -> Result<Self, Problem> {
        let usable = pools.iter().enumerate().filter(|(_, p)| p.state == State::Usable);
        let candidates = usable.flat_map(|(at, pool)| {
            pool.devices().map(move |(slice, device)| {
                let id = pool.id(device);
                let shared = supply.taken.shared(id).is_some();
                // Nothing is shared where that is switched off: who has a part has all of it.
                let sharing = supply.features.consumable_capacity;
                let taken = supply.taken.is_whole(id) || shared && !sharing;
                let multiple = sharing && device.allow_multiple_allocations == Some(true);
                let used = shared && sharing;
                let by = SmallVec::new();
                Candidate { id, pool: at, slice, device, multiple, by, taken, used, shares: None }
            })
        });
        let mut search = Self {
            supply,
            site,
            claims,
            candidates: candidates.collect(),
            wanted: claims.iter().map(|c| Wanted::of(c)).collect(),
            chosen: claims.iter().map(|_| Vec::new()).collect(),
            pools,
            constraints: Vec::new(),
            counters: pools.iter().map(|_| Counters::default()).collect(),
            matching: HashMap::default(),
            derived: HashMap::default(),
            stop,
        };
        for (at, claim) in claims.iter().enumerate() {
            search.count(at)?;
            search.constraints.push(constraints(claim, supply.features.list_attributes)?);
        }
        Ok(search)
    }

    /// Checks the requests of a claim, and how many devices they need at least.
    fn count(&mut self, claim: usize) -> Result<(), Problem> {
        let name = key(&self.claims[claim]);
        let mut total = 0_usize;
        for request in 0..self.wanted[claim].len() {
            let features = self.supply.features;
            if !features.consumable_capacity && !features.oldest() {
                no_capacity(self.wanted[claim][request].wire, &name)?;
            }
            let mut least = usize::MAX;
            for way in 0..self.wanted[claim][request].ways.len() {
                let at = At { claim, request, way, device: 0 };
                let (devices, class, all) = self.needs(at, &name)?;
                let way = &mut self.wanted[claim][request].ways[way];
                (way.devices, way.class, way.all) = (devices, Some(class), all);
                least = least.min(devices);
            }
            let request = self.wanted[claim][request].name;
            if least > MOST_DEVICES - total {
                return fatal(format!(
                    "claim {name}, request {request}: adding {least} devices exceeds the claim limit of {MOST_DEVICES}, with {total} already accounted for"
                ));
            }
            total += least;
        }
        Ok(())
    }

    /// (how many devices, of which class, and which ones if it is all).
    #[expect(clippy::type_complexity, reason = "three parts of one answer")]
    fn needs(
        &mut self,
        at: At,
        claim: &str,
    ) -> Result<(usize, Arc<k8s_openapi::api::resource::v1::DeviceClass>, Option<Vec<usize>>), Problem> {
        let way = &self.wanted[at.claim][at.request].ways[at.way];
        way.check(claim, self.supply.features.derived_attributes)?;
        let (name, class_name, mode, count) = (way.name, way.class_name, way.mode, way.count);
        let Some(class) = self.supply.inventory.class(class_name).cloned() else {
            return fatal(format!(
                "claim {claim}, request {name}: could not retrieve device class {class_name}: deviceclass.resource.k8s.io {class_name:?} not found"
            ));
        };
        self.wanted[at.claim][at.request].ways[at.way].class = Some(class.clone());
        match mode {
            "ExactCount" => Ok((usize::try_from(count).unwrap_or(0), class, None)),
            "All" => {
                let all = self.all(at, claim)?;
                Ok((all.len(), class, Some(all)))
            }
            other => fatal(format!("claim {claim}, request {name}: unsupported count mode {other}")),
        }
    }

    /// Every device that satisfies a request.
    fn all(&mut self, at: At, claim: &str) -> Result<Vec<usize>, Problem> {
        let name = self.wanted[at.claim][at.request].ways[at.way].name;
        for pool in self.pools {
            let why = match pool.state {
                State::Usable => continue,
                State::Incomplete => "being updated",
                State::Invalid => "invalid",
            };
            return fatal(format!(
                "claim {claim}, request {name}: asks for all devices, but resource pool {}/{} is currently {why}",
                pool.driver, pool.name
            ));
        }
        let mut all = Vec::new();
        for candidate in 0..self.candidates.len() {
            if !self.selectable(at, candidate)? {
                continue;
            }
            let wanted = self.wanted[at.claim][at.request].ways[at.way].capacity;
            let device = self.candidates[candidate].device;
            match self.fits(wanted, device, None, None) {
                Ok(true) => all.push(candidate),
                Ok(false) => {}
                Err(e) => {
                    let device = &device.name;
                    return fatal(format!(
                        "claim {claim}, request {name}: checking capacity for device {device}: {e}"
                    ));
                }
            }
        }
        Ok(all)
    }

    /// Whether a device has the capacity, which is not asked where capacity is not shared.
    fn fits(
        &self,
        wanted: Option<&CapacityRequirements>,
        device: &Device,
        taken: Option<&Amounts>,
        under_way: Option<&Amounts>,
    ) -> Result<bool, String> {
        let features = self.supply.features;
        if !features.consumable_capacity {
            return Ok(true);
        }
        capacity::fits(wanted, device, taken, under_way, features.fractional_capacity)
    }

    /// Whether class, request and node allow a device. Upstream: isSelectable.
    fn selectable(&mut self, at: At, candidate: usize) -> Result<bool, Problem> {
        let waits = |d: &Device| d.binding_conditions.as_ref().is_some_and(|c| !c.is_empty());
        if !self.supply.features.binding && waits(self.candidates[candidate].device) {
            return Ok(false);
        }
        let key = (candidate, at.claim, at.request, at.way);
        if let Some(known) = self.matching.get(&key) {
            return Ok(*known);
        }
        let way = &self.wanted[at.claim][at.request].ways[at.way];
        let c = &self.candidates[candidate];
        let class = way.class.as_deref();
        let of_class = class.and_then(|c| c.spec.as_ref()).and_then(|s| s.selectors.as_deref());
        let named = || format!("class {}", way.class_name);
        let claimed = || format!("claim {}", self::key(&self.claims[at.claim]));
        let matches = self.match_all(of_class.unwrap_or_default(), c, named)?
            && self.match_all(way.selectors, c, claimed)?
            && (c.slice.spec.per_device_node_selection != Some(true) || device_meant(self.site, c.device));
        self.matching.insert(key, matches);
        Ok(matches)
    }

    fn match_all(
        &self,
        selectors: &[k8s_openapi::api::resource::v1::DeviceSelector],
        c: &Candidate<'_>,
        whose: impl Fn() -> String,
    ) -> Result<bool, Problem> {
        for (i, selector) in selectors.iter().enumerate() {
            let Some(cel) = &selector.cel else { continue };
            match self.supply.programs.matches(&cel.expression, c.id.driver, c.device) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(Failed::Compile(e)) => {
                    return fatal(format!("{}: selector #{i}: CEL compile error: {e}", whose()));
                }
                Err(Failed::Run(e)) => {
                    let device = c.id;
                    return fatal(format!(
                        "{}: selector #{i} on device {device}: CEL runtime error: {e}",
                        whose()
                    ));
                }
            }
        }
        Ok(true)
    }

    /// Whether there is a solution; it is in `chosen` then.
    pub fn run(&mut self) -> Result<bool, Problem> {
        match self.step(At { claim: 0, request: 0, way: 0, device: 0 }, false, 0) {
            Ok(done) => Ok(done),
            Err(Stop::TooMany) => fatal("allocation max size exceeded".into()),
            Err(Stop::Problem(problem)) => Err(problem),
        }
    }

    /// Chooses the next device and all after it. `inside`: one of a request's ways is being tried. Devices before
    /// `start` were tried for this request: their combinations are not tried again in another order.
    fn step(&mut self, at: At, inside: bool, start: usize) -> Result<bool, Stop> {
        if (self.stop)() {
            return Err(Problem::Interrupted.into());
        }
        if at.claim >= self.claims.len() {
            return Ok(true);
        }
        if at.request >= self.wanted[at.claim].len() {
            let next = At { claim: at.claim + 1, request: 0, way: 0, device: 0 };
            return match self.step(next, false, 0) {
                // Other choices for this claim may leave the next one a way that needs fewer.
                Err(Stop::TooMany) => Ok(false),
                other => other,
            };
        }
        if !inside && self.wanted[at.claim][at.request].prioritized {
            return self.ways(at);
        }
        let Some(way) = self.wanted[at.claim][at.request].ways.get(at.way) else { return Ok(false) };
        let (devices, all) = (way.devices, way.all.as_ref());
        if all.is_some_and(Vec::is_empty) {
            return Ok(false);
        }
        if at.device >= devices {
            let next = At { request: at.request + 1, way: 0, device: 0, ..at };
            return self.step(next, false, 0);
        }
        if devices - at.device > MOST_DEVICES - self.chosen[at.claim].len() {
            return Err(Stop::TooMany);
        }
        if let Some(candidate) = all.and_then(|a| a.get(at.device)).copied() {
            return self.try_one(at, candidate, true, inside, 0);
        }
        for candidate in start..self.candidates.len() {
            if self.free(at, candidate)
                && self.selectable(at, candidate)?
                && self.has_capacity(at, candidate)?
                && self.try_one(at, candidate, false, inside, candidate + 1)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One way after the other.
    fn ways(&mut self, at: At) -> Result<bool, Stop> {
        let mut always_too_many = true;
        for way in 0..self.wanted[at.claim][at.request].ways.len() {
            match self.step(At { way, ..at }, true, 0) {
                Err(Stop::TooMany) => continue,
                Err(other) => return Err(other),
                Ok(true) => {
                    self.wanted[at.claim][at.request].chosen = way;
                    return Ok(true);
                }
                Ok(false) => always_too_many = false,
            }
        }
        if always_too_many { Err(Stop::TooMany) } else { Ok(false) }
    }

    fn try_one(
        &mut self,
        at: At,
        candidate: usize,
        must: bool,
        inside: bool,
        next: usize,
    ) -> Result<bool, Stop> {
        if !self.take(at, candidate, must)? {
            return Ok(false);
        }
        let done = self.step(At { device: at.device + 1, ..at }, inside, next);
        if !matches!(done, Ok(true)) {
            self.give_back(at, candidate);
        }
        done
    }

    fn way(&self, at: At) -> &Alternative<'a> {
        &self.wanted[at.claim][at.request].ways[at.way]
    }

    /// Whether nobody else has the device.
    fn free(&self, at: At, candidate: usize) -> bool {
        let c = &self.candidates[candidate];
        if self.way(at).admin { !c.by.contains(&at.claim) } else { !c.taken && c.by.is_empty() }
    }

    fn has_capacity(&self, at: At, candidate: usize) -> Result<bool, Problem> {
        let c = &self.candidates[candidate];
        let taken = self.supply.taken.shared(c.id);
        let fits = self.fits(self.way(at).capacity, c.device, taken, c.shares.as_ref());
        fits.or_else(|e| {
            let (claim, request) = (key(&self.claims[at.claim]), self.way(at).name);
            fatal(format!("claim {claim}, request {request}: checking capacity for device {}: {e}", c.id))
        })
    }

    /// Takes a device if counters, taints and constraints let it.
    fn take(&mut self, at: At, candidate: usize, must: bool) -> Result<bool, Problem> {
        let c = &self.candidates[candidate];
        let (admin, multiple) = (self.way(at).admin, c.multiple);
        let held = if admin { !multiple && c.by.contains(&at.claim) } else { c.taken || !c.by.is_empty() };
        if held {
            return Ok(false);
        }
        let (pool, device) = (c.pool, c.device);
        let features = self.supply.features;
        if !self.operable(c) || !features.partitionable && uses_counters(device) {
            return Ok(false);
        }
        let (counts, grouped) = (self.counts(candidate), features.compatibility_groups);
        if counts && !self.counters[pool].take(&self.pools[pool], &self.supply.taken, device, grouped) {
            return Ok(false);
        }
        let ok = self.enter(at, candidate, must);
        if counts && !matches!(ok, Ok(true)) {
            self.counters[pool].give_back(device);
        }
        ok
    }

    /// Whether the node can use a device for which it has less to do than usual.
    fn operable(&self, c: &Candidate<'_>) -> bool {
        let (spec, features) = (&c.slice.spec, self.supply.features);
        let skips = spec.skip_node_operations.as_ref().is_some_and(|l| !l.is_empty());
        let knows = features.optional_node_operations && self.site.has_optional_operations();
        !skips || !features.newest() || knows
    }

    /// Whether a device's counters are to be counted: not again for another share of it.
    fn counts(&self, candidate: usize) -> bool {
        let c = &self.candidates[candidate];
        uses_counters(c.device) && !(c.multiple && (c.used || c.shares.is_some()))
    }

    fn enter(&mut self, at: At, candidate: usize, must: bool) -> Result<bool, Problem> {
        let c = &self.candidates[candidate];
        let (id, device, multiple) = (c.id, c.device, c.multiple);
        let taints = device.taints.iter().flatten().chain(self.supply.inventory.ruled_taints(id));
        if self.supply.features.taints && { taints }.any(|t| prevents(t, self.way(at).tolerations)) {
            return Ok(false);
        }
        let (request, alternative) = self.way(at).names();
        if !self.constrained(at, candidate)? {
            if must {
                let (claim, name) = (key(&self.claims[at.claim]), self.way(at).name);
                return fatal(format!(
                    "claim {claim}, request {name}: cannot add device {id} because a claim constraint would not be satisfied"
                ));
            }
            return Ok(false);
        }
        let amounts = match self.has_capacity(at, candidate) {
            Ok(true) if multiple => {
                let fractional = self.supply.features.fractional_capacity;
                let amounts = capacity::consumed(self.way(at).capacity, device, fractional);
                amounts.map_err(Problem::Fatal).map(Some)
            }
            Ok(true) => Ok(None),
            Ok(false) | Err(_) => {
                self.constraints[at.claim].iter_mut().for_each(|c| c.remove(request, alternative));
                return Ok(false);
            }
        }?;
        let c = &mut self.candidates[candidate];
        match &amounts {
            Some(amounts) => capacity::add(c.shares.get_or_insert_default(), amounts),
            None => c.by.push(at.claim),
        }
        self.chosen[at.claim].push(Chosen { candidate, of: (at.request, at.way), amounts });
        Ok(true)
    }

    /// Lets a device in everywhere if all constraints let it in, and nowhere if not.
    fn constrained(&mut self, at: At, candidate: usize) -> Result<bool, Problem> {
        let (request, alternative) = self.way(at).names();
        let mut list = std::mem::take(&mut self.constraints[at.claim]);
        let mut entered = Ok(true);
        for i in 0..list.len() {
            entered = list[i].add(request, alternative, |name| self.attribute(at, candidate, name));
            if !matches!(entered, Ok(true)) {
                list[..i].iter_mut().for_each(|c| c.remove(request, alternative));
                break;
            }
        }
        self.constraints[at.claim] = list;
        entered
    }

    /// The values of an attribute: those that the request computes, or the device's own. Upstream: lookupAttribute.
    fn attribute(&mut self, at: At, candidate: usize, name: &str) -> Result<Option<Values<'a>>, Problem> {
        let lists = self.supply.features.list_attributes;
        let Candidate { id, device, .. } = self.candidates[candidate];
        let Some(derived) = self.way(at).derived.iter().find(|d| d.name == name) else {
            return Ok(own_attribute(id.driver, device, name).map(|a| values(a, lists)));
        };
        let key = (candidate, derived.expression.as_str());
        if let Some(known) = self.derived.get(&key) {
            return Ok(Some(known.clone()));
        }
        let found = self.supply.programs.derive(&derived.expression, id.driver, device, lists);
        let found = found.map_err(|e| {
            Problem::Fatal(match e {
                Failed::Compile(e) => format!("compile derived attribute {name} failed: {e}"),
                Failed::Run(e) => format!("evaluate derived attribute {name} on device {id} failed: {e}"),
            })
        })?;
        self.derived.insert(key, found.clone());
        Ok(Some(found))
    }

    fn give_back(&mut self, at: At, candidate: usize) {
        let Some(last) = self.chosen[at.claim].pop() else { return };
        let shared_before =
            self.chosen.iter().flatten().any(|c| c.candidate == candidate && c.amounts.is_some());
        let c = &mut self.candidates[candidate];
        match &last.amounts {
            None => {
                c.by.pop();
            }
            Some(amounts) if shared_before => {
                if let Some(shares) = &mut c.shares {
                    capacity::sub(shares, amounts);
                }
            }
            Some(_) => c.shares = None,
        }
        let (request, alternative) = self.way(at).names();
        self.constraints[at.claim].iter_mut().for_each(|c| c.remove(request, alternative));
        if self.counts(candidate) {
            let c = &self.candidates[candidate];
            self.counters[c.pool].give_back(c.device);
        }
    }
}

fn uses_counters(device: &Device) -> bool {
    device.consumes_counters.as_ref().is_some_and(|u| !u.is_empty())
}

/// Upstream: lookupStaticAttribute.
fn own_attribute<'a>(driver: &str, device: &'a Device, name: &str) -> Option<&'a DeviceAttribute> {
    let attributes = device.attributes.as_ref()?;
    attributes.get(name).or_else(|| {
        let (domain, id) = name.split_once('/')?;
        attributes.get(id).filter(|_| domain == driver)
    })
}

fn constraints(claim: &ResourceClaim, lists: bool) -> Result<Vec<Constraint<'_>>, Problem> {
    let devices = claim.spec.as_ref().and_then(|s| s.devices.as_ref());
    let list = devices.and_then(|d| d.constraints.as_deref()).unwrap_or_default();
    let one = |(i, wire)| {
        let unknown = || {
            let claim = key(claim);
            Problem::Fatal(format!(
                "claim {claim}, constraint #{i}: empty constraint (unsupported constraint type?)"
            ))
        };
        Constraint::new(wire, lists).ok_or_else(unknown)
    };
    list.iter().enumerate().map(one).collect()
}

/// Upstream: taintPreventsAllocation, resourceclaim.ToleratesTaint.
fn prevents(taint: &DeviceTaint, tolerations: Option<&Vec<DeviceToleration>>) -> bool {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let tolerates = |t: &DeviceToleration| {
        let same =
            |own: &Option<String>, other: &str| own.as_deref().is_none_or(|o| o.is_empty() || o == other);
        same(&t.effect, &taint.effect)
            && same(&t.key, &taint.key)
            && match t.operator.as_deref().unwrap_or_default() {
                "" | "Equal" => text(&t.value) == text(&taint.value),
                "Exists" => true,
                _ => false,
            }
    };
    matches!(taint.effect.as_str(), "NoExecute" | "NoSchedule")
        && !tolerations.into_iter().flatten().any(tolerates)
}
