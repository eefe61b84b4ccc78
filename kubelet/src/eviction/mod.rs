//! Making room before the kernel has to: which resources are short, and which pod goes first.
//!
//! [`step`], [`rank`], [`layout`] and [`message`] are pure; [`manager`] makes room and stops pods. Memory that is available is
//! what the kernel estimates (`MemAvailable`); upstream subtracts the root group's working set, which comes to nearly the same.
//! What pods take of disks is in [`disk`], limits of local storage in [`local`]; [`notifier`] lets the
//! kernel say when memory gets short. Upstream: pkg/kubelet/eviction, v1.37.

pub mod admit;
pub mod disk;
pub mod layout;
mod levels;
pub mod local;
pub mod manager;
pub mod message;
mod notifier;
#[cfg(test)]
mod oracle;
pub mod rank;
pub mod threshold;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::node::status::Pressure;
pub use threshold::{Signal, Threshold};

/// What there is of a resource, and what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// What is left.
    pub available: i64,
    /// What there is.
    pub capacity: i64,
}

/// Levels by signal; what cannot be measured is absent.
pub type Levels = BTreeMap<Signal, Level>;

/// What was seen before.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// When each threshold (by its place in the list) was first crossed.
    first: BTreeMap<usize, Timestamp>,
    /// Thresholds that were acted upon and are not left yet.
    met: BTreeSet<usize>,
    memory: Option<Timestamp>,
    disk: Option<Timestamp>,
    pid: Option<Timestamp>,
}

/// Takes note of the levels: what the node is short of, and the thresholds to act upon, most urgent first. A resource
/// counts as short until it has not been for `settle`, so that it does not flicker.
pub fn step(
    history: &mut History,
    thresholds: &[Threshold],
    levels: &Levels,
    settle: Duration,
    now: Timestamp,
) -> (Pressure, Vec<usize>) {
    let crossed = |index: usize, threshold: &Threshold| {
        let Some(level) = levels.get(&threshold.signal) else { return false };
        level.available < threshold.least(level, history.met.contains(&index))
    };
    let now_crossed: Vec<usize> =
        thresholds.iter().enumerate().filter(|(i, t)| crossed(*i, t)).map(|(i, _)| i).collect();
    let first = now_crossed.iter().map(|i| (*i, history.first.get(i).copied().unwrap_or(now))).collect();
    history.first = first;
    let since = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
    for threshold in now_crossed.iter().filter_map(|i| thresholds.get(*i)) {
        let entry = match threshold.signal {
            Signal::Memory | Signal::AllocatableMemory => &mut history.memory,
            Signal::Pids => &mut history.pid,
            _ => &mut history.disk,
        };
        *entry = Some(now);
    }
    let due: Vec<usize> = (history.first.iter())
        .filter(|(i, at)| thresholds.get(**i).is_some_and(|t| since(**at) >= t.grace))
        .map(|(i, _)| *i)
        .collect();
    history.met = due.iter().copied().collect();
    let recent = |at: Option<Timestamp>| at.is_some_and(|at| since(at) < settle);
    let pressure =
        Pressure { memory: recent(history.memory), disk: recent(history.disk), pid: recent(history.pid) };
    (pressure, due)
}

/// True if no threshold is crossed, even with what has to be free beyond it. Asked after room was made: pods may stay.
pub fn is_relieved(thresholds: &[Threshold], levels: &Levels) -> bool {
    let crossed =
        |t: &Threshold| levels.get(&t.signal).is_some_and(|level| level.available < t.least(level, true));
    !thresholds.iter().any(crossed)
}

#[cfg(test)]
mod tests {
    use super::threshold::Amount;
    use super::*;
    use machinery::quantity::{Format, Quantity};

    #[test]
    fn grace_and_reclaim() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let mut history = History::default();
        let mib = |n: i64| n << 20;
        let number = |n: i64| Amount::Number(Quantity::new(mib(n), Format::BinarySI));
        let thresholds;
        let level = |available| Levels::from([(Signal::Memory, Level { available, capacity: mib(1000) })]);
        let soft = Threshold {
            signal: Signal::Memory,
            value: Amount::Share(0.2),
            grace: Duration::from_secs(30),
            reclaim: Some(number(50)),
        };
        let hard = Threshold { value: number(100), grace: Duration::ZERO, reclaim: None, ..soft.clone() };
        let settle = Duration::from_secs(300);
        thresholds = [hard, soft];
        let mut look = |available, second| {
            let (pressure, due) = step(&mut history, &thresholds, &level(mib(available)), settle, at(second));
            (pressure.memory, due)
        };
        assert_eq!(look(300, 0), (false, vec![]));
        // The soft threshold counts as pressure at once, but acts after its grace period.
        assert_eq!(look(150, 10), (true, vec![]));
        assert_eq!(look(50, 20), (true, vec![0]));
        assert_eq!(look(150, 40), (true, vec![1]));
        // Once acted upon, the soft one is left only with 50 MiB more.
        assert_eq!(look(220, 50), (true, vec![1]));
        assert_eq!(look(260, 60), (true, vec![]));
        assert_eq!(look(260, 349), (true, vec![]));
        assert_eq!(look(260, 351), (false, vec![]));
    }
}
