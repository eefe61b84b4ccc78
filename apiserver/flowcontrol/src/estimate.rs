//! How many seats a request takes: lists by the memory their answers need, changes by the watches that see them.
//! Upstream: `k8s.io/apiserver/pkg/util/flowcontrol/request` (with SizeBasedListCostEstimate, on by default).

use std::time::Duration;

use crate::seats::{SeatSeconds, Work};

const BYTES_PER_SEAT: u64 = 100_000;
/// A list from the cache is streamed: not more than this is in memory at once.
const STREAMED: u64 = 1_000_000;
/// The size of objects of which nothing is known.
const LARGE_OBJECT: u64 = 1_500_000;
const MAX_LIST_SEATS: u64 = 100;
const MAX_CHANGE_SEATS: u64 = 10;
const WATCHES_PER_SEAT: f64 = 10.0;
/// What an event costs a seat after its request was answered.
const EVENT: Duration = Duration::from_millis(5);

/// What is stored of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Objects.
    pub count: u64,
    /// Their average size; 0 when unknown.
    pub average_bytes: u64,
}

/// What of a list or of the start of a watch decides.
#[derive(Debug, Clone, Copy, Default)]
pub struct ListQuery<'a> {
    /// It is a watch.
    pub watch: bool,
    /// It names one object.
    pub single: bool,
    /// `limit`
    pub limit: u64,
    /// `resourceVersion`
    pub resource_version: &'a str,
    /// `resourceVersionMatch`
    pub version_match: &'a str,
    /// Whether there is a `continue`.
    pub continues: bool,
    /// Whether there is a label or field selector.
    pub selects: bool,
    /// `sendInitialEvents`
    pub initial_events: Option<bool>,
}

impl ListQuery<'_> {
    /// Whether upstream's server reads the store for it. Upstream: `delegator.ShouldDelegateList`.
    fn reads_store(&self) -> bool {
        match self.version_match {
            "NotOlderThan" => false,
            "" => {
                let exact = self.limit > 0 && !matches!(self.resource_version, "" | "0");
                self.continues || exact
            }
            _ => true,
        }
    }
}

/// Seats of a list, or of a watch while its first events are sent. `stored` is `None` for what is not stored here.
#[must_use]
pub fn list(query: &ListQuery<'_>, stored: Option<Stored>, level_max: Option<u64>) -> Work {
    let max = level_max.unwrap_or(MAX_LIST_SEATS).min(MAX_LIST_SEATS);
    let plain_watch =
        query.initial_events != Some(true) && !matches!(query.resource_version, "" | "0") && query.watch;
    let Some(stored) = stored.filter(|_| !plain_watch) else { return Work::seats(1) };
    let bytes = match stored.average_bytes {
        0 => LARGE_OBJECT,
        bytes => bytes,
    };
    let limited = if query.limit > 0 { stored.count.min(query.limit) } else { stored.count };
    let cached = query.watch || !query.reads_store();
    let objects = match () {
        () if query.single => 1,
        () if !cached && query.selects => limited.max(stored.count / 2),
        () => limited,
    };
    let mut memory = objects.saturating_mul(bytes);
    if cached {
        memory = memory.min(STREAMED);
    }
    Work::seats(memory.div_ceil(BYTES_PER_SEAT).max(1).min(max))
}

/// Seats of a change that `watches` watches see.
#[must_use]
pub fn change(watches: usize, level_max: Option<u64>) -> Work {
    let watches = watches as f64;
    if watches < WATCHES_PER_SEAT {
        return Work::seats(1);
    }
    let max = level_max.unwrap_or(MAX_CHANGE_SEATS).min(MAX_CHANGE_SEATS);
    let seats = (watches / WATCHES_PER_SEAT).ceil();
    let work = SeatSeconds::during(seats, EVENT);
    // The same work, narrower and longer: a wide request keeps seats free that others could use.
    let last = (seats as u64).min(max);
    Work { initial: 1, last, linger: work.per_seat(last as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let stored = Some(Stored { count: 1000, average_bytes: 10_000 });
        let seats = |query: ListQuery<'_>, max| list(&query, stored, max).initial;
        let plain = ListQuery::default();
        assert_eq!(list(&plain, None, None), Work::seats(1));
        assert_eq!(seats(plain, None), 10);
        assert_eq!(seats(plain, Some(4)), 4);
        assert_eq!(seats(ListQuery { limit: 25, ..plain }, None), 3);
        assert_eq!(seats(ListQuery { single: true, ..plain }, None), 1);
        let from_store = ListQuery { continues: true, ..plain };
        assert_eq!(seats(from_store, None), 100);
        assert_eq!(seats(ListQuery { limit: 25, ..from_store }, None), 3);
        assert_eq!(seats(ListQuery { limit: 25, selects: true, ..from_store }, None), 50);
        let watch = ListQuery { watch: true, ..plain };
        assert_eq!(seats(watch, None), 10);
        assert_eq!(seats(ListQuery { resource_version: "7", ..watch }, None), 1);
        let initial = Some(true);
        assert_eq!(seats(ListQuery { resource_version: "7", initial_events: initial, ..watch }, None), 10);
    }

    #[test]
    fn changes() {
        assert_eq!(change(9, None), Work::seats(1));
        let ms = Duration::from_millis;
        assert_eq!(change(25, None), Work { initial: 1, last: 3, linger: ms(5) });
        assert_eq!(change(1000, None), Work { initial: 1, last: 10, linger: ms(50) });
        assert_eq!(change(25, Some(1)), Work { initial: 1, last: 1, linger: ms(15) });
    }
}
