//! Has every thread give back what it has freed, and what its stack once needed. The allocator keeps what is freed at hand for
//! the thread that freed it and looks for too much of it only when that thread allocates more: after a start, or after much
//! work, a daemon at rest would hold it for good.

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Times that all threads were told to.
static TOLD: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// Times that this thread did.
    static DONE: Cell<u32> = const { Cell::new(0) };
}

/// How often threads are told.
const PERIOD: Duration = Duration::from_secs(60);

/// Tells all threads that call [`before_waiting`], again and again, and is one of them.
pub(super) async fn tell() -> Infallible {
    // The start leaves most.
    let mut wait = super::SETTLED;
    loop {
        tokio::time::sleep(wait).await;
        TOLD.fetch_add(1, Ordering::Relaxed);
        before_waiting();
        wait = PERIOD;
    }
}

/// Before a thread waits for work.
pub(super) fn before_waiting() {
    let told = TOLD.load(Ordering::Relaxed);
    if DONE.replace(told) != told {
        sys::collect_heap();
        // A kernel that tells nothing of mappings has nothing given back.
        let _ = sys::trim_stack();
    }
}
