//! A cluster's range, cut into equal ranges for nodes. Pure. Upstream: nodeipam/ipam/cidrset/cidr_set.go.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Bits by which a node's IPv6 range may be longer than the cluster's.
const MOST_BITS: u8 = 16;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("the node mask /{mask} is shorter than that of {cluster}: choose a larger --node-cidr-mask-size")]
    TooShort { cluster: IpNet, mask: u8 },
    #[error(
        "the node mask /{mask} is too much longer than that of {cluster}: the difference may be 16 at most"
    )]
    TooLong { cluster: IpNet, mask: u8 },
}

#[derive(Debug)]
pub struct Ranges {
    cluster: IpNet,
    mask: u8,
    count: u64,
    used: HashSet<u64>,
    /// Where to look next: freed ranges are used again late.
    from: u64,
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

impl Ranges {
    pub fn new(cluster: IpNet, mask: u8) -> Result<Self, Error> {
        let cluster = cluster.trunc();
        let bits = mask.checked_sub(cluster.prefix_len()).ok_or(Error::TooShort { cluster, mask })?;
        if mask > cluster.max_prefix_len() || (cluster.addr().is_ipv6() && bits > MOST_BITS) {
            return Err(Error::TooLong { cluster, mask });
        }
        Ok(Self { cluster, mask, count: 1 << bits, used: HashSet::new(), from: 0 })
    }

    /// log2 of the addresses of a node's range.
    fn shift(&self) -> u32 {
        u32::from(self.cluster.max_prefix_len() - self.mask)
    }

    fn at(&self, index: u64) -> Option<IpNet> {
        let address = number(self.cluster.addr()) + (u128::from(index) << self.shift());
        match self.cluster {
            IpNet::V4(_) => Ipv4Net::new(u32::try_from(address).ok()?.into(), self.mask).ok().map(IpNet::V4),
            IpNet::V6(_) => Ipv6Net::new(Ipv6Addr::from(address), self.mask).ok().map(IpNet::V6),
        }
    }

    /// The numbers of the ranges that an address range touches.
    fn touched(&self, cidr: &IpNet) -> std::ops::RangeInclusive<u64> {
        #[expect(clippy::reversed_empty_ranges, reason = "no range at all")]
        const NONE: std::ops::RangeInclusive<u64> = 1..=0;
        if cidr.addr().is_ipv4() != self.cluster.addr().is_ipv4() {
            return NONE;
        }
        let (start, end) = (number(self.cluster.network()), number(self.cluster.broadcast()));
        let (first, last) = (number(cidr.network()).max(start), number(cidr.broadcast()).min(end));
        if first > last {
            return NONE;
        }
        let index = |address: u128| u64::try_from((address - start) >> self.shift()).unwrap_or(u64::MAX);
        index(first)..=index(last)
    }

    /// Marks what a range touches as used.
    pub fn occupy(&mut self, cidr: &IpNet) {
        let touched = self.touched(cidr);
        self.used.extend(touched);
    }

    /// Frees what a range touches.
    pub fn release(&mut self, cidr: &IpNet) {
        for index in self.touched(cidr) {
            self.used.remove(&index);
        }
    }

    /// Takes a free range.
    pub fn next(&mut self) -> Option<IpNet> {
        let free = (0..self.count).map(|i| (self.from + i) % self.count).find(|i| !self.used.contains(i))?;
        self.used.insert(free);
        self.from = (free + 1) % self.count;
        self.at(free)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a range")
    }

    fn check(cluster: &str, mask: u8, occupied: &[&str], expected: &[&str]) {
        let mut ranges = Ranges::new(net(cluster), mask).expect("ranges");
        occupied.iter().for_each(|o| ranges.occupy(&net(o)));
        let all: Vec<String> = std::iter::from_fn(|| ranges.next()).take(9).map(|n| n.to_string()).collect();
        assert_eq!(all, expected, "{cluster} /{mask} without {occupied:?}");
    }

    #[test]
    fn ranges_are_given_in_order_and_once() {
        check("10.0.0.0/22", 24, &[], &["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24"]);
        check("10.0.0.0/24", 24, &[], &["10.0.0.0/24"]);
        check("fd00::/63", 64, &[], &["fd00::/64", "fd00:0:0:1::/64"]);
    }

    #[test]
    fn what_is_used_is_not_given() {
        check("10.0.0.0/22", 24, &["10.0.1.0/24", "10.0.3.128/25"], &["10.0.0.0/24", "10.0.2.0/24"]);
        check("10.0.0.0/23", 24, &["10.0.0.0/8"], &[]);
        check("10.0.0.0/23", 24, &["fd00::/64", "11.0.0.0/24"], &["10.0.0.0/24", "10.0.1.0/24"]);
    }

    #[test]
    fn freed_ranges_are_used_again_last() {
        let mut ranges = Ranges::new(net("10.0.0.0/23"), 24).expect("ranges");
        let first = ranges.next().expect("free");
        ranges.release(&first);
        assert_eq!(ranges.next(), Some(net("10.0.1.0/24")));
        assert_eq!(ranges.next(), Some(first));
        assert_eq!(ranges.next(), None);
    }

    #[test]
    fn masks_that_do_not_fit_are_refused() {
        let why = |cluster: &str, mask| Ranges::new(net(cluster), mask).map(|_| ()).expect_err("refused");
        assert!(matches!(why("10.0.0.0/16", 8), Error::TooShort { .. }));
        assert!(matches!(why("10.0.0.0/16", 33), Error::TooLong { .. }));
        assert!(matches!(why("fd00::/40", 64), Error::TooLong { .. }));
    }

    proptest! {
        /// No two nodes share an address, every range is given, and a full cluster stays as it is.
        #[test]
        fn every_range_once(bits in 0u8..7, taken in prop::collection::vec(any::<u8>(), 0..9)) {
            let mut ranges = Ranges::new(net("10.0.0.0/16"), 16 + bits).expect("ranges");
            let taken: Vec<IpNet> = taken.iter().map(|t| net(&format!("10.0.{t}.0/24"))).collect();
            taken.iter().for_each(|t| ranges.occupy(t));
            let used = ranges.used.len();
            let given: Vec<IpNet> = std::iter::from_fn(|| ranges.next()).collect();
            prop_assert_eq!(given.len() + used, 1 << bits);
            for (i, a) in given.iter().enumerate() {
                prop_assert!(!taken.iter().any(|t| a.contains(t) || t.contains(a)));
                prop_assert!(!given[..i].contains(a));
            }
            prop_assert_eq!(ranges.next(), None);
        }

        /// Giving back what was given leaves nothing used.
        #[test]
        fn release_undoes_next(bits in 0u8..7, count in 0usize..64) {
            let mut ranges = Ranges::new(net("10.0.0.0/16"), 16 + bits).expect("ranges");
            let given: Vec<IpNet> = (0..count).filter_map(|_| ranges.next()).collect();
            given.iter().for_each(|g| ranges.release(g));
            prop_assert!(ranges.used.is_empty());
        }
    }
}
