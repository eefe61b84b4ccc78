//! Gives back the program's text and constants that are no longer used: most of a daemon's resident memory is text.
//!
//! A start executes much that is never executed again, and so does work that comes and goes. What is executed at rest stands
//! together (hack/profile) and is soon mapped again. The kernel cannot be asked for the unused part alone, so all goes: out of
//! this process when a look finds that much was not used, which costs a few hundred page faults, and out of the kernel's
//! cache, from where it must be read again, when the daemon is twice as old as the last time.

use std::time::Duration;

use sys::{MappedText, ProgramUse};
use tokio_util::sync::CancellationToken;

use super::SETTLED;

/// How often the daemon looks what it uses.
const LOOK: Duration = Duration::from_secs(SETTLED.as_secs() / 2);
/// Looks until text is first given back by age: as long as a start has to settle.
const FIRST: u32 = 2;
/// Not worth mapping the rest again.
const LITTLE: u64 = 1 << 20;

/// Whether so much is mapped that is not used. The kernel maps what lies around a page that is used and counts it as used
/// until the next look, so this is never true twice in a row.
const fn much_is_unused(seen: ProgramUse) -> bool {
    seen.resident.saturating_sub(seen.referenced) >= LITTLE
}

/// When text is given back because the daemon is twice as old as the last time, in looks. What it gathers little by little
/// goes so.
struct Ages {
    age: u32,
    next: u32,
}

impl Ages {
    const fn new() -> Self {
        Self { age: 0, next: FIRST }
    }

    fn come(&mut self) -> bool {
        self.age = self.age.saturating_add(1);
        let come = self.age >= self.next;
        if come {
            self.next = self.next.saturating_mul(2);
        }
        come
    }
}

/// Looks and gives back until the daemon ends, or the kernel refuses.
pub(super) async fn release(mapped: Option<MappedText>, shutdown: CancellationToken) {
    let (mut ages, mut drops, mut mapped) = (Ages::new(), true, mapped);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        if drops && ages.come() {
            drops = page_out().await;
        }
        // A look is quick: the kernel walks through a few thousand pages.
        if let Some(Err(error)) = mapped.as_ref().map(look) {
            tracing::debug!(%error, "Which text is used cannot be told");
            mapped = None;
        }
    }
}

/// Has the kernel drop the text; whether it does so.
async fn page_out() -> bool {
    match tokio::task::spawn_blocking(sys::page_out_program).await {
        Ok(Ok(bytes)) => {
            tracing::debug!(bytes, "Gave back the program's text");
            true
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "The program's text stays in memory");
            false
        }
        Err(_) => false,
    }
}

/// Unmaps the text if much of it is not used.
fn look(mapped: &MappedText) -> std::io::Result<()> {
    if much_is_unused(sys::look_at_program()?) {
        let bytes = mapped.unmap()?;
        tracing::debug!(bytes, "Unmapped the program's text");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_work_used_goes_when_it_has_ended() {
        let unused = |resident: u64, referenced: u64| {
            much_is_unused(ProgramUse { resident: resident << 18, referenced: referenced << 18 })
        };
        assert!(unused(60, 20));
        // Work goes on, and there is nothing to do for little.
        assert!(!unused(60, 58) && !unused(3, 0) && !unused(0, 0));
    }

    #[test]
    fn a_daemon_gives_back_ever_more_rarely() {
        let mut ages = Ages::new();
        let come: Vec<u32> = (1..100).filter(|_| ages.come()).collect();
        assert_eq!(come, [2, 4, 8, 16, 32, 64]);
    }
}
