//! Whether anybody else changed rules: the kernel numbers all changes by iptables and nft in a network namespace.
//!
//! Shared by the families, as the number is. Tables of the legacy iptables have no number: whoever asks is told so.

use parking_lot::Mutex;

use crate::nftables::wire::dump;

/// What is known of the number.
#[derive(Default)]
pub struct Generation(Mutex<State>);

#[derive(Default)]
struct State {
    last: Option<u32>,
    /// How often others changed rules.
    foreign: u64,
    /// Our own changes do not move the number.
    legacy: bool,
}

impl State {
    fn look(&mut self, now: Option<u32>) -> Option<u64> {
        if now.is_none() || self.legacy {
            return None;
        }
        self.foreign += u64::from(now != self.last);
        self.last = now;
        Some(self.foreign)
    }

    /// Only a number that moved by just our changes is no sign of others.
    fn wrote(&mut self, now: Option<u32>, changes: u32) {
        self.legacy |= changes > 0 && now.is_some() && now == self.last;
        let own = self.last.map(|last| last.wrapping_add(changes));
        self.foreign += u64::from(now != own);
        self.last = now;
    }
}

impl Generation {
    /// A number that differs from the last one if others changed rules since; none if it cannot be told.
    pub fn look(&self) -> Option<u64> {
        self.0.lock().look(dump::generation().ok())
    }

    /// We made so many changes since the last look.
    pub fn wrote(&self, changes: u32) {
        self.0.lock().wrote(dump::generation().ok(), changes);
    }
}

#[cfg(test)]
mod tests {
    use super::State;

    #[test]
    fn own_changes_are_no_sign() {
        let mut state = State::default();
        let first = state.look(Some(7));
        state.wrote(Some(9), 2);
        assert_eq!(state.look(Some(9)), first);
        assert_ne!(state.look(Some(10)), first);
        let then = state.look(Some(10));
        // Somebody else came in between.
        state.wrote(Some(13), 2);
        assert_ne!(state.look(Some(13)), then);
    }

    #[test]
    fn legacy_tables_have_no_number() {
        let mut state = State::default();
        state.look(Some(1));
        state.wrote(Some(1), 2);
        assert_eq!(state.look(Some(1)), None);
    }
}
