//! What the allocator holds without need.

/// Gives memory back to the kernel that the calling thread has freed, and what ended threads left; where the allocator is
/// another one, nothing happens. Takes a moment that grows with what was freed.
pub fn collect_heap() {
    // SAFETY: the call has no preconditions: it looks at the calling thread's own heap and at abandoned ones.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
