//! Thresholds as configured: `memory.available<100Mi`. Upstream: pkg/kubelet/eviction/helpers.go ParseThresholdConfig, v1.37.

use std::collections::BTreeMap;
use std::time::Duration;

use component::duration::GoDuration;
use machinery::quantity::{Format, Quantity};

use super::Level;

/// A resource that may run short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// Memory of the node. First, because it is what runs out fastest.
    Memory,
    /// Memory that all pods together may still have.
    AllocatableMemory,
    /// Space on the kubelet's file system.
    NodeSpace,
    /// Inodes on it.
    NodeInodes,
    /// Space on the runtime's file system.
    ImageSpace,
    /// Inodes on it.
    ImageInodes,
    /// Process ids.
    Pids,
}

impl Signal {
    /// All signals with their names.
    pub const ALL: [(Signal, &'static str); 7] = [
        (Signal::Memory, "memory.available"),
        (Signal::AllocatableMemory, "allocatableMemory.available"),
        (Signal::NodeSpace, "nodefs.available"),
        (Signal::NodeInodes, "nodefs.inodesFree"),
        (Signal::ImageSpace, "imagefs.available"),
        (Signal::ImageInodes, "imagefs.inodesFree"),
        (Signal::Pids, "pid.available"),
    ];

    fn named(name: &str) -> Result<Option<Self>, String> {
        // Upstream overrides these two by those of the other file systems and only warns.
        if matches!(name, "containerfs.available" | "containerfs.inodesFree") {
            tracing::warn!(
                signal = name,
                "Thresholds of the containers' file system follow the others; ignoring"
            );
            return Ok(None);
        }
        let found = Self::ALL.iter().find(|(_, own)| *own == name).map(|(signal, _)| *signal);
        found.map(Some).ok_or_else(|| format!("unsupported eviction signal {name}"))
    }

    /// The signal's name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(signal, _)| *signal == self).map_or("", |(_, name)| name)
    }

    /// How amounts of the resource are written. Upstream: makeSignalObservations.
    pub fn format(self) -> Format {
        match self {
            Signal::Memory | Signal::AllocatableMemory | Signal::NodeSpace | Signal::ImageSpace => {
                Format::BinarySI
            }
            Signal::NodeInodes | Signal::ImageInodes | Signal::Pids => Format::DecimalSI,
        }
    }

    /// The resource's name in messages.
    pub fn resource(self) -> &'static str {
        match self {
            Signal::Memory | Signal::AllocatableMemory => "memory",
            Signal::NodeSpace | Signal::ImageSpace => "ephemeral-storage",
            Signal::NodeInodes | Signal::ImageInodes => "inodes",
            Signal::Pids => "pids",
        }
    }
}

/// A number, or a share of what there is.
#[derive(Clone, Debug, PartialEq)]
pub enum Amount {
    /// In the resource's unit.
    Number(Quantity),
    /// From 0 to 1.
    Share(f64),
}

impl Amount {
    /// The number for a capacity.
    pub fn of(&self, capacity: i64) -> i64 {
        match self {
            Amount::Number(number) => number.value(),
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                reason = "a share of a capacity, rounded down as upstream"
            )]
            Amount::Share(share) => (capacity as f64 * share) as i64,
        }
    }

    /// The number for a capacity as people read it: as it was configured, a share in powers of 1024, whatever is counted.
    /// Upstream: GetThresholdQuantity in pkg/kubelet/eviction/api/types.go.
    pub fn shown(&self, capacity: i64) -> String {
        match self {
            Amount::Number(number) => number.to_string(),
            Amount::Share(_) => Quantity::new(self.of(capacity), Format::BinarySI).to_string(),
        }
    }
}

/// When pods are evicted.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// What is looked at.
    pub signal: Signal,
    /// Less than this is too little.
    pub value: Amount,
    /// How long it may be; zero for hard thresholds.
    pub grace: Duration,
    /// How much more than the value must be there before the threshold counts as left again.
    pub reclaim: Option<Amount>,
}

impl Threshold {
    /// What has to be available; `with_reclaim` if the threshold counts as crossed until more than its value is.
    pub fn least(&self, level: &Level, with_reclaim: bool) -> i64 {
        let more = self.reclaim.as_ref().filter(|_| with_reclaim).map_or(0, |more| more.of(level.capacity));
        self.value.of(level.capacity).saturating_add(more)
    }

    /// True for thresholds that evict at once.
    pub fn is_hard(&self) -> bool {
        self.grace.is_zero()
    }
}

/// The configured maps.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// `evictionHard`; absent means the defaults.
    pub hard: Option<&'a BTreeMap<String, String>>,
    /// `evictionSoft`.
    pub soft: &'a BTreeMap<String, String>,
    /// `evictionSoftGracePeriod`.
    pub grace: &'a BTreeMap<String, String>,
    /// `evictionMinimumReclaim`.
    pub reclaim: &'a BTreeMap<String, String>,
    /// `mergeDefaultEvictionSettings`.
    pub merge_defaults: bool,
}

const DEFAULTS: [(&str, &str); 5] = [
    ("memory.available", "100Mi"),
    ("nodefs.available", "10%"),
    ("nodefs.inodesFree", "5%"),
    ("imagefs.available", "15%"),
    ("imagefs.inodesFree", "5%"),
];

/// Reads all thresholds.
///
/// # Errors
/// Upstream's text of the first one that makes no sense.
pub fn parse(source: &Source<'_>) -> Result<Vec<Threshold>, String> {
    let defaults = || DEFAULTS.map(|(k, v)| (k.to_owned(), v.to_owned()));
    let mut hard = source.hard.cloned().unwrap_or_default();
    if source.hard.is_none() {
        hard.extend(defaults());
    } else if source.merge_defaults {
        for (key, value) in defaults() {
            hard.entry(key).or_insert(value);
        }
    }
    let mut out = Vec::new();
    for (name, text) in &hard {
        out.extend(statement(name, text, Duration::ZERO)?);
    }
    for (name, text) in source.soft {
        let Some(grace) = source.grace.get(name) else {
            return Err(format!("grace period must be specified for the soft eviction threshold {name}"));
        };
        out.extend(statement(name, text, grace_period(grace)?)?);
    }
    for name in source.grace.keys().chain(source.reclaim.keys()) {
        Signal::named(name)?;
    }
    for threshold in &mut out {
        let name = Signal::ALL.iter().find(|(signal, _)| *signal == threshold.signal).map(|(_, name)| *name);
        if let Some((name, text)) = name.and_then(|name| source.reclaim.get_key_value(name)) {
            threshold.reclaim = Some(minimum(name, text)?);
        }
    }
    out.sort_by_key(|threshold| threshold.signal);
    Ok(out)
}

/// The thresholds, and for the pods' group the same hard ones as for the node's memory. Its limit is what pods may have
/// together, so evictions come before the kernel ends processes. Upstream: addAllocatableThresholds.
pub fn with_allocatable(thresholds: &[Threshold]) -> Vec<Threshold> {
    let of_memory = thresholds.iter().filter(|t| t.signal == Signal::Memory && t.is_hard());
    let copies = of_memory.map(|t| Threshold { signal: Signal::AllocatableMemory, ..t.clone() });
    let mut out: Vec<Threshold> = thresholds.iter().cloned().chain(copies).collect();
    out.sort_by_key(|threshold| threshold.signal);
    out
}

fn statement(name: &str, text: &str, grace: Duration) -> Result<Option<Threshold>, String> {
    let Some(signal) = Signal::named(name)? else { return Ok(None) };
    if matches!(text, "0%" | "100%") {
        return Ok(None);
    }
    let value = amount(text)?;
    match value {
        Amount::Share(share) if share < 0.0 => {
            Err(format!("eviction percentage threshold {name} must be >= 0%: {text}"))
        }
        Amount::Share(share) if share > 1.0 => {
            Err(format!("eviction percentage threshold {name} must be <= 100%: {text}"))
        }
        Amount::Number(number) if number.sign() <= 0 => {
            Err(format!("eviction threshold {name} must be positive: {text}"))
        }
        value => Ok(Some(Threshold { signal, value, grace, reclaim: None })),
    }
}

fn minimum(name: &str, text: &str) -> Result<Amount, String> {
    match amount(text)? {
        Amount::Share(share) if share <= 0.0 => {
            Err(format!("eviction percentage minimum reclaim {name} must be positive: {text}"))
        }
        Amount::Number(number) if number.sign() < 0 => {
            Err(format!("negative eviction minimum reclaim specified for {name}"))
        }
        amount => Ok(amount),
    }
}

pub(super) fn amount(text: &str) -> Result<Amount, String> {
    if let Some(percent) = text.strip_suffix('%') {
        // As precise as upstream's, which shows in the bytes of large capacities.
        let percent: f32 = percent.parse().map_err(|_| format!("invalid percentage {text:?}"))?;
        return Ok(Amount::Share(f64::from(percent / 100.0)));
    }
    let quantity = Quantity::parse(text).map_err(|e| format!("quantity {text:?}: {e}"))?;
    Ok(Amount::Number(quantity))
}

fn grace_period(text: &str) -> Result<Duration, String> {
    let period = GoDuration::parse(text).map_err(|e| e.to_string())?;
    if period.0 < 0 {
        return Err(format!("invalid eviction grace period specified: {text}, must be a positive value"));
    }
    Ok(period.to_std())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn read(
        hard: &[(&str, &str)],
        soft: &[(&str, &str)],
        grace: &[(&str, &str)],
    ) -> Result<Vec<Threshold>, String> {
        let (hard, soft, grace) = (map(hard), map(soft), map(grace));
        let none = BTreeMap::new();
        parse(&Source {
            hard: Some(&hard),
            soft: &soft,
            grace: &grace,
            reclaim: &none,
            merge_defaults: false,
        })
    }

    #[test]
    fn reads() {
        assert_eq!(read(&[], &[], &[]).unwrap(), []);
        let none = BTreeMap::new();
        let defaults =
            Source { hard: None, soft: &none, grace: &none, reclaim: &none, merge_defaults: false };
        assert_eq!(parse(&defaults).unwrap().len(), 5);
        assert_eq!(read(&[("memory.available", "0%")], &[], &[]).unwrap(), []);
        let found = read(
            &[("nodefs.available", "5%")],
            &[("memory.available", "1Gi")],
            &[("memory.available", "90s")],
        );
        let found = found.unwrap();
        assert_eq!((found[0].signal, found[0].grace), (Signal::Memory, Duration::from_secs(90)));
        assert_eq!((found[1].value.of(1000), found[1].is_hard()), (50, true));
    }

    #[test]
    fn pods_have_thresholds_of_the_node() {
        let found = read(
            &[
                ("memory.available", "1Gi"),
                ("nodefs.available", "5%"),
                ("allocatableMemory.available", "2Gi"),
            ],
            &[("memory.available", "3Gi")],
            &[("memory.available", "90s")],
        );
        let all = with_allocatable(&found.unwrap());
        let shown: Vec<_> = all.iter().map(|t| (t.signal.name(), t.value.of(1000), t.is_hard())).collect();
        let expected = [
            ("memory.available", 1 << 30, true),
            ("memory.available", 3 << 30, false),
            ("allocatableMemory.available", 2 << 30, true),
            ("allocatableMemory.available", 1 << 30, true),
            ("nodefs.available", 50, true),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn refuses() {
        let texts = [
            read(&[("cpu.available", "1")], &[], &[]),
            read(&[("memory.available", "-1Gi")], &[], &[]),
            read(&[("memory.available", "101%")], &[], &[]),
            read(&[], &[("memory.available", "1Gi")], &[]),
            read(&[], &[("memory.available", "1Gi")], &[("memory.available", "-1s")]),
        ]
        .map(Result::unwrap_err);
        assert_eq!(
            texts,
            [
                "unsupported eviction signal cpu.available",
                "eviction threshold memory.available must be positive: -1Gi",
                "eviction percentage threshold memory.available must be <= 100%: 101%",
                "grace period must be specified for the soft eviction threshold memory.available",
                "invalid eviction grace period specified: -1s, must be a positive value",
            ]
        );
    }
}
