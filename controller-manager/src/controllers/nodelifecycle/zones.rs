//! How fast unhealthy nodes may be tainted, zone by zone: when most of a zone fails at once, the fault may be ours.
//! Pure. Upstream: node_lifecycle_controller.go handleDisruption, ComputeZoneState; scheduler/rate_limited_queue.go.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use client::limiter::Bucket;
use k8s_openapi::api::core::v1::Node;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Initial,
    Normal,
    Partial,
    Full,
}

/// `--node-eviction-rate` and its companions.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub rate: f64,
    pub secondary_rate: f64,
    pub large: usize,
    pub unhealthy: f64,
}

/// What changed for the whole cluster.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    Steady,
    /// No node is ready any more: nothing is tainted, taints come off.
    AllLost,
    /// Some node is ready again: the silence of the others counts from now.
    SomeBack,
}

struct Zone {
    state: State,
    rate: f64,
    bucket: Bucket,
    queue: VecDeque<String>,
}

pub struct Zones {
    settings: Settings,
    zones: BTreeMap<String, Zone>,
}

/// The zone of a node. Upstream: component-helpers/node/topology GetZoneKey.
pub fn of(node: &Node) -> String {
    let labels = node.metadata.labels.as_ref();
    let label = |old: &str, new: &str| {
        labels.and_then(|l| l.get(old).or_else(|| l.get(new))).map_or("", String::as_str)
    };
    let zone = label("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone");
    let region = label("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region");
    if zone.is_empty() && region.is_empty() { String::new() } else { format!("{region}:\0:{zone}") }
}

/// The state of a zone with these nodes (ready or not).
#[expect(clippy::cast_precision_loss, reason = "a ratio of node counts")]
pub fn state(ready: &[bool], unhealthy: f64) -> State {
    let lost = ready.iter().filter(|r| !**r).count();
    if lost > 0 && lost == ready.len() {
        State::Full
    } else if lost > 2 && lost as f64 / ready.len() as f64 >= unhealthy {
        State::Partial
    } else {
        State::Normal
    }
}

impl Zones {
    pub fn new(settings: Settings) -> Self {
        Self { settings, zones: BTreeMap::new() }
    }

    /// Makes a zone known.
    pub fn add(&mut self, zone: &str) {
        let rate = self.settings.rate;
        self.zones.entry(zone.to_string()).or_insert_with(|| Zone {
            state: State::Initial,
            rate,
            bucket: Bucket::new(rate, 1),
            queue: VecDeque::new(),
        });
    }

    /// Queues a node to be tainted.
    pub fn queue(&mut self, zone: &str, node: &str) {
        self.add(zone);
        if let Some(zone) = self.zones.get_mut(zone)
            && !zone.queue.iter().any(|n| n == node)
        {
            zone.queue.push_back(node.to_string());
        }
    }

    /// A node is healthy, or gone.
    pub fn forget(&mut self, node: &str) {
        self.zones.values_mut().for_each(|z| z.queue.retain(|n| n != node));
    }

    pub fn is_idle(&self) -> bool {
        self.zones.values().all(|z| z.queue.is_empty())
    }

    /// The nodes whose turn it is, at a time since some start.
    pub fn due(&mut self, now: Duration) -> Vec<String> {
        let mut due = Vec::new();
        for zone in self.zones.values_mut() {
            while !zone.queue.is_empty() && zone.rate > 0.0 && zone.bucket.try_take(now) {
                due.extend(zone.queue.pop_front());
            }
        }
        due
    }

    fn set(zone: &mut Zone, state: State, rate: f64) {
        zone.state = state;
        if (zone.rate - rate).abs() > f64::EPSILON {
            zone.rate = rate;
            zone.bucket = Bucket::new(rate, 1);
        }
    }

    /// Takes in the readiness of all nodes by zone.
    pub fn turn(&mut self, ready: &BTreeMap<String, Vec<bool>>) -> Turn {
        ready.keys().for_each(|zone| self.add(zone));
        let was_lost = self.zones.iter().all(|(n, z)| !ready.contains_key(n) || z.state == State::Full);
        self.zones.retain(|name, zone| ready.contains_key(name) || !zone.queue.is_empty());
        let settings = self.settings;
        let now: BTreeMap<&String, State> =
            ready.iter().map(|(zone, nodes)| (zone, state(nodes, settings.unhealthy))).collect();
        let is_lost = now.values().all(|s| *s == State::Full);
        if is_lost && was_lost {
            return Turn::Steady;
        }
        if is_lost {
            self.zones.values_mut().for_each(|z| Self::set(z, State::Full, 0.0));
            return Turn::AllLost;
        }
        for (name, zone) in &mut self.zones {
            let Some(new) = now.get(name).copied() else { continue };
            if was_lost || new != zone.state {
                let size = ready.get(name).map_or(0, Vec::len);
                let rate = match new {
                    State::Partial if size > settings.large => settings.secondary_rate,
                    State::Partial => 0.0,
                    _ => settings.rate,
                };
                Self::set(zone, new, rate);
            }
        }
        if was_lost { Turn::SomeBack } else { Turn::Steady }
    }
}
