//! Gives back the program's text and constants that are no longer used: most of a daemon's resident memory is text.
//!
//! A start executes much that is never executed again, and so does work that comes and goes. What is executed at rest stands
//! together (hack/profile) and is soon read again. The kernel cannot be asked for the unused part alone, so all goes; what
//! this costs is bounded by [`Patience`].

use std::time::Duration;

use sys::ProgramUse;
use tokio_util::sync::CancellationToken;

use super::SETTLED;

/// How often the daemon looks what it uses.
const LOOK: Duration = Duration::from_secs(SETTLED.as_secs() / 2);
/// Looks in a row that find half unused before it is given back: as long as a start has to settle.
const FIRST: u32 = 2;
/// The same where work comes and goes all the time: ten minutes.
const MOST: u32 = 40;
/// Looks after which nobody remembers that something was given back: an hour.
const FORGET: u32 = 240;
/// Not worth reading the rest again.
const LITTLE: u64 = 1 << 20;

/// When text is given back beside the times that the daemon's age gives.
struct Patience {
    /// Looks in a row that found half unused.
    unused: u32,
    /// How many there must be. Doubles each time, so that work which comes back often finds its text.
    needed: u32,
    /// Looks since something was given back.
    since: u32,
}

impl Patience {
    const fn new() -> Self {
        Self { unused: 0, needed: FIRST, since: 0 }
    }

    /// Whether to give back after a look that found this.
    fn ends(&mut self, seen: ProgramUse) -> bool {
        self.since += 1;
        if self.since > FORGET {
            self.needed = FIRST;
        }
        let unused = seen.resident.saturating_sub(seen.referenced);
        let much = unused >= seen.referenced && unused >= LITTLE;
        self.unused = if much { self.unused + 1 } else { 0 };
        if self.unused < self.needed {
            return false;
        }
        *self = Self { unused: 0, needed: (2 * self.needed).min(MOST), since: 0 };
        true
    }
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
pub(super) async fn release(shutdown: CancellationToken) {
    let (mut patience, mut ages, mut looking) = (Patience::new(), Ages::new(), true);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        // A look is quick: the kernel walks through a few thousand pages.
        let unused = looking
            && match sys::look_at_program() {
                Ok(seen) => patience.ends(seen),
                Err(error) => {
                    tracing::debug!(%error, "Which text is used cannot be told");
                    looking = false;
                    false
                }
            };
        if !(ages.come() || unused) {
            continue;
        }
        match tokio::task::spawn_blocking(sys::page_out_program).await {
            Ok(Ok(bytes)) => tracing::debug!(bytes, "Gave back the program's text"),
            Ok(Err(error)) => {
                tracing::debug!(%error, "The program's text stays in memory");
                return;
            }
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(resident: u64, referenced: u64) -> ProgramUse {
        ProgramUse { resident: resident << 20, referenced: referenced << 20 }
    }

    /// How often text is given back in an hour in which work comes for a look, and then not for `pause` looks.
    fn given_back(hours: usize, pause: usize) -> usize {
        let (mut patience, mut resident, mut times) = (Patience::new(), 15, 0);
        for look in 0..hours * 240 {
            let works = look % (pause + 1) == 0;
            resident = if works { 15 } else { resident };
            if patience.ends(seen(resident, if works { 14 } else { 5 })) {
                (resident, times) = (6, times + 1);
            }
        }
        times
    }

    #[test]
    fn what_work_used_goes_when_it_has_ended() {
        let ends = |looks: &[ProgramUse]| -> Vec<bool> {
            let mut patience = Patience::new();
            looks.iter().map(|seen| patience.ends(*seen)).collect()
        };
        let (busy, after, rest) = (seen(15, 14), seen(15, 5), seen(6, 5));
        assert_eq!(ends(&[busy, busy, after, after, rest, rest]), [false, false, false, true, false, false]);
        // Work that comes back in between is not over; nor is there anything to do for little.
        assert!(!ends(&[busy, after, busy, after, busy, after]).contains(&true));
        assert!(!ends(&[seen(1, 1), seen(1, 1), seen(0, 0), seen(0, 0)]).contains(&true));
    }

    #[test]
    fn work_that_comes_back_often_finds_its_text() {
        for (hours, pause, want, what) in [
            (24, 1, 0, "every half minute"),
            (1, 4, 2, "every minute and a quarter"),
            (24, 20, 76, "every five minutes"),
            (24, 240, 24, "every hour"),
        ] {
            assert_eq!(given_back(hours, pause), want, "work {what}, {hours} hours");
        }
    }

    #[test]
    fn a_daemon_gives_back_ever_more_rarely() {
        let mut ages = Ages::new();
        let come: Vec<u32> = (1..100).filter(|_| ages.come()).collect();
        assert_eq!(come, [2, 4, 8, 16, 32, 64]);
    }
}
