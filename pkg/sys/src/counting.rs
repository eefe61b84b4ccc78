//! An allocator that counts what it hands out, per thread: benchmarks report it beside their times.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Counts the allocations of another allocator.
#[derive(Debug)]
pub struct Counting<A>(pub A);

/// Allocations of this thread so far; growing one counts too.
pub fn allocations() -> u64 {
    COUNT.try_with(Cell::get).unwrap_or(0)
}

fn count() {
    // A thread that ends allocates after its locals are gone.
    let _ = COUNT.try_with(|c| c.set(c.get() + 1));
}

// SAFETY: every call goes to the inner allocator unchanged; counting allocates nothing, as the local is a plain cell.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise holds for the inner allocator.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { self.0.dealloc(place, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { self.0.realloc(place, layout, size) }
    }
}
