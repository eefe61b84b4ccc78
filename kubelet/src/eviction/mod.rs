//! Making room before the kernel has to: which resources are short, and which pod goes first.
//!
//! [`observe`] and [`rank`] are pure; [`manager`] reads the machine and stops pods. Memory that is available is what the
//! kernel estimates (`MemAvailable`); upstream subtracts the root group's working set, which comes to nearly the same.
//! Only hard thresholds are acted upon; soft ones are refused at start. Upstream: pkg/kubelet/eviction, v1.37.

pub mod manager;

use std::cmp::Reverse;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::node::status::{Pressure, binary};

/// A resource that may run short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Memory of the node.
    Memory,
    /// Space on the kubelet's file system.
    DiskSpace,
    /// Inodes on it.
    Inodes,
    /// Process ids.
    Pids,
}

impl Signal {
    /// The resource's name in messages.
    fn resource(self) -> &'static str {
        match self {
            Signal::Memory => "memory",
            Signal::DiskSpace => "ephemeral-storage",
            Signal::Inodes => "inodes",
            Signal::Pids => "pids",
        }
    }
}

/// What is left of a resource, and how little of it is too little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Which resource.
    pub signal: Signal,
    /// What is left.
    pub available: i64,
    /// Below this, pods are evicted; zero for never.
    pub threshold: i64,
}

impl Level {
    /// True if too little is left.
    pub fn is_short(&self) -> bool {
        self.threshold > 0 && self.available < self.threshold
    }
}

/// When each resource was last short.
#[derive(Clone, Copy, Debug, Default)]
pub struct History {
    memory: Option<Timestamp>,
    disk: Option<Timestamp>,
    pid: Option<Timestamp>,
}

/// Takes note of the levels; a resource counts as short until it has not been for `settle`, so that it does not flicker.
pub fn observe(history: &mut History, levels: &[Level], settle: Duration, now: Timestamp) -> Pressure {
    for level in levels.iter().filter(|l| l.is_short()) {
        let entry = match level.signal {
            Signal::Memory => &mut history.memory,
            Signal::DiskSpace | Signal::Inodes => &mut history.disk,
            Signal::Pids => &mut history.pid,
        };
        *entry = Some(now);
    }
    let recent = |at: Option<Timestamp>| {
        at.is_some_and(|at| {
            Duration::try_from(now.duration_since(at)).unwrap_or_default()
                < settle.max(Duration::from_secs(1))
        })
    };
    Pressure { memory: recent(history.memory), disk: recent(history.disk), pid: recent(history.pid) }
}

/// A pod that could be evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The pod's id.
    pub uid: String,
    /// Its priority.
    pub priority: i32,
    /// What it uses of the resource.
    pub usage: i64,
    /// What it asked for.
    pub request: i64,
}

/// Orders candidates: those above their request first, then lower priority, then the largest excess.
pub fn rank(candidates: &mut [Candidate]) {
    candidates.sort_by_key(|c| {
        (c.usage <= c.request, c.priority, Reverse(c.usage.saturating_sub(c.request)), c.uid.clone())
    });
}

/// What the status of an evicted pod says.
pub fn message(level: &Level) -> String {
    let amount = |n: i64| match level.signal {
        Signal::Memory | Signal::DiskSpace => binary(n).0,
        Signal::Inodes | Signal::Pids => n.to_string(),
    };
    format!(
        "The node was low on resource: {}. Threshold quantity: {}, available: {}. ",
        level.signal.resource(),
        amount(level.threshold),
        amount(level.available)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_settles() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let mut history = History::default();
        let level = |available| Level { signal: Signal::Memory, available, threshold: 100 << 20 };
        let settle = Duration::from_secs(300);
        assert!(!observe(&mut history, &[level(200 << 20)], settle, at(0)).memory);
        assert!(observe(&mut history, &[level(50 << 20)], settle, at(10)).memory);
        assert!(observe(&mut history, &[level(200 << 20)], settle, at(300)).memory);
        assert!(!observe(&mut history, &[level(200 << 20)], settle, at(311)).memory);
        assert_eq!(
            message(&level(50 << 20)),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        );
    }

    #[test]
    fn order() {
        let c = |uid: &str, priority, usage, request| Candidate { uid: uid.into(), priority, usage, request };
        let mut list =
            vec![c("within", 0, 5, 10), c("high", 9, 90, 0), c("small", 0, 10, 0), c("large", 0, 20, 0)];
        rank(&mut list);
        assert_eq!(
            list.iter().map(|c| c.uid.as_str()).collect::<Vec<_>>(),
            ["large", "small", "high", "within"]
        );
    }
}
