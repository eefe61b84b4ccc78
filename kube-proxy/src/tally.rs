//! How many rules each chain has and how many elements each set, as one number: tells whether somebody else removed or
//! added any, without a copy of what is in the kernel. What was exchanged for another of the same kind goes unnoticed.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

/// The sum of all places' hashes, once for each thing there.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    sum: u64,
    pub count: usize,
}

impl Tally {
    /// One more thing in a place: a chain of a table, a set.
    pub fn add(&mut self, table: &str, place: &str) {
        self.add_many(table, place, 1);
    }

    /// More of them.
    pub fn add_many(&mut self, table: &str, place: &str, count: usize) {
        let hash = FixedState::default().hash_one((table, place));
        self.sum = self.sum.wrapping_add(hash.wrapping_mul(count as u64));
        self.count += count;
    }
}

/// What a text for iptables-restore, or one of iptables-save, puts into chains that are `ours`.
pub fn of_iptables(text: &str, ours: impl Fn(&str, &str) -> bool) -> Tally {
    let (mut tally, mut table) = (Tally::default(), "");
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let chain = rule.split(' ').next().unwrap_or_default();
            if ours(table, chain) {
                tally.add(table, chain);
            }
        }
    }
    tally
}

/// What a full transaction puts into chains and sets.
pub fn of_nftables(text: &str) -> Tally {
    let mut tally = Tally::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        if let (Some("add"), Some(kind @ ("rule" | "element")), Some(place)) =
            (words.next(), words.next(), words.nth(2))
        {
            tally.add(kind, place);
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_places_do() {
        let of = |text: &str| of_iptables(text, |_, chain| chain.starts_with("KUBE-"));
        let both = of("*nat\n-A KUBE-A -j X\n-A KUBE-B -j X\nCOMMIT\n");
        assert_eq!(
            both,
            of("*nat\n:KUBE-A - [0:0]\n-A OUTPUT -j KUBE-A\n-A KUBE-B -j X\n-A KUBE-A -j Y\nCOMMIT\n")
        );
        assert_eq!(both.count, 2);
        for other in [
            "*nat\n-A KUBE-A -j X\n",
            "*nat\n-A KUBE-A -j X\n-A KUBE-A -j X\n",
            "*filter\n-A KUBE-A -j X\n-A KUBE-B -j X\n",
        ] {
            assert_ne!(both, of(other), "{other}");
        }
    }

    #[test]
    fn rules_and_elements_count() {
        let tally = of_nftables(
            "add chain ip kube-proxy a\nadd rule ip kube-proxy a drop\nadd element ip kube-proxy s { 10.0.0.1 }\n",
        );
        let mut wanted = Tally::default();
        wanted.add("rule", "a");
        wanted.add("element", "s");
        assert_eq!(tally, wanted);
    }
}
