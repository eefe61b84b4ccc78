//! Many calls of the same kind, carefully: 1, 2, 4, 8, ... at a time, stopping after a batch with a failure, so that a
//! quota or a broken webhook is met once and not ten thousand times.
//! Upstream: pkg/controller/replicaset/replica_set.go slowStartBatch.

use futures::StreamExt;
use futures::stream::FuturesUnordered;

/// First batch of the workload controllers.
pub const INITIAL_BATCH: usize = 1;

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
        let mut running: FuturesUnordered<R> = (started..started + size).map(&f).collect();
        started += size;
        let mut failure = None;
        while let Some(result) = running.next().await {
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
