//! Many calls of the same kind, carefully: 1, 2, 4, 8, ... at a time, stopping after a batch with a failure, so that a
//! quota or a broken webhook is met once and not ten thousand times.
//! Upstream: pkg/controller/replicaset/replica_set.go slowStartBatch.

use futures::StreamExt;
use futures::stream::FuturesUnordered;

/// First batch of the workload controllers.
pub const INITIAL_BATCH: usize = 1;
/// Calls of one batch under way at a time: enough for the server, and no more connections than the rest needs.
const AT_ONCE: usize = 64;

/// Calls `f` for 0..count. Returns how many calls succeeded and the first failure; calls not made are those that are
/// neither.
pub async fn slow_start<F, R, E>(count: usize, initial: usize, f: F) -> (usize, Option<E>)
where
    F: Fn(usize) -> R,
    R: Future<Output = Result<(), E>>,
{
    let (mut started, mut succeeded) = (0, 0);
    let mut size = initial.max(1).min(count);
    while size > 0 {
        let mut waiting = started..started + size;
        let mut running: FuturesUnordered<R> = waiting.by_ref().take(AT_ONCE).map(&f).collect();
        started += size;
        let mut failure = None;
        while let Some(result) = running.next().await {
            if let Some(next) = waiting.next() {
                running.push(f(next));
            }
            match result {
                Ok(()) => succeeded += 1,
                Err(e) => failure = failure.or(Some(e)),
            }
        }
        if failure.is_some() {
            return (succeeded, failure);
        }
        size = (2 * size).min(count - started);
    }
    (succeeded, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_batch_does_not_run_all_at_once() {
        let (running, most) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        let (done, failure) = slow_start(500, 500, |_| async {
            running.set(running.get() + 1);
            most.set(most.get().max(running.get()));
            tokio::task::yield_now().await;
            running.set(running.get() - 1);
            Ok::<(), ()>(())
        })
        .await;
        assert_eq!((done, failure, most.get()), (500, None, AT_ONCE));
    }

    #[tokio::test]
    async fn stops_after_the_batch_that_fails() {
        for (count, fails_from, want) in
            [(0, 9, (0, false)), (10, 99, (10, false)), (10, 0, (0, true)), (10, 5, (5, true))]
        {
            let called = std::cell::RefCell::new(0);
            let (ok, e) = slow_start(count, 1, |i| {
                *called.borrow_mut() += 1;
                async move { if i >= fails_from { Err(()) } else { Ok(()) } }
            })
            .await;
            assert_eq!((ok, e.is_some()), want, "{count} {fails_from}");
        }
    }
}
