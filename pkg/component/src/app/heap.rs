//! Has every thread give back what it has freed. The allocator keeps it at hand for the thread that freed it and looks for
//! too much of it only when that thread allocates more: after a start, or after much work, a daemon at rest would hold it for
//! good.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Times that all threads were told to.
static TOLD: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// Times that this thread did.
    static DONE: Cell<u32> = const { Cell::new(0) };
}

/// How often threads are told.
const PERIOD: Duration = Duration::from_secs(60);

/// Tells all threads that call [`before_waiting`], again and again.
pub(super) async fn tell(shutdown: CancellationToken) {
    // The start leaves most.
    let mut wait = super::SETTLED;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        TOLD.fetch_add(1, Ordering::Relaxed);
        wait = PERIOD;
    }
}

/// Before a thread waits for work.
pub(super) fn before_waiting() {
    let told = TOLD.load(Ordering::Relaxed);
    if DONE.replace(told) != told {
        sys::collect_heap();
    }
}
