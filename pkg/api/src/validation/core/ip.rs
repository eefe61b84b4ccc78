//! Addresses and networks in text, with the forms that only old objects may have.
//! Upstream: `apimachinery/pkg/util/validation/ip.go`, strict since v1.36.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::validation::field::{Error, Path, quote};

const NOT_AN_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An address as old versions of Go read it: zeros may lead its decimal parts.
pub fn sloppy_ip(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip);
    }
    let (head, tail) = match text.rsplit_once(':') {
        Some((head, tail)) => (Some(head), tail),
        None => (None, text),
    };
    let v4 = sloppy_v4(tail)?;
    match head {
        None => Some(IpAddr::V4(v4)),
        Some(head) => format!("{head}:{v4}").parse::<Ipv6Addr>().ok().map(IpAddr::V6),
    }
}

fn sloppy_v4(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<&str> = text.split('.').collect();
    let [a, b, c, d] = parts[..] else { return None };
    let part = |p: &str| {
        let digits = !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit());
        digits
            .then(|| p.trim_start_matches('0'))
            .and_then(|p| if p.is_empty() { Some(0) } else { p.parse::<u8>().ok() })
    };
    Some(Ipv4Addr::new(part(a)?, part(b)?, part(c)?, part(d)?))
}

fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// An address of a field that took odd forms once; those in `old` stay valid.
pub fn validate_ip(text: &str, old: &[&str], path: &Path) -> Vec<Error> {
    if old.contains(&text) {
        return Vec::new();
    }
    let Some(ip) = sloppy_ip(text) else { return vec![Error::invalid(path, text, NOT_AN_IP)] };
    let mut errors = Vec::new();
    if text.parse::<IpAddr>().is_err() {
        errors.push(Error::invalid(path, text, "must not have leading 0s"));
    } else if is_mapped(ip) {
        errors.push(Error::invalid(path, text, "must not be an IPv4-mapped IPv6 address"));
    }
    errors
}

/// An address of a newer field: in canonical form only (`IsValidIP`).
pub fn validate_ip_strict(text: &str, path: &Path) -> Vec<Error> {
    let errors = validate_ip(text, &[], path);
    match sloppy_ip(text).map(|ip| ip.to_string()) {
        Some(canonical) if errors.is_empty() && canonical != text => {
            let detail = format!("must be in canonical form ({})", quote(&canonical));
            vec![Error::invalid(path, text, detail)]
        }
        _ => errors,
    }
}

/// An address at which an endpoint can be reached from everywhere (`ValidateEndpointIP`).
pub fn validate_endpoint_ip(text: &str, path: &Path) -> Vec<Error> {
    let Some(ip) = sloppy_ip(text) else {
        return vec![Error::invalid(path, text, "must be a valid IP address")];
    };
    // Go does not tell a mapped IPv4 address from the address itself.
    let ip = ip.to_canonical();
    let v6 = |test: fn(u16) -> bool| matches!(ip, IpAddr::V6(v6) if test(v6.segments()[0]));
    let v4 = |test: fn(Ipv4Addr) -> bool| matches!(ip, IpAddr::V4(v4) if test(v4));
    let link_multicast = v4(|a| matches!(a.octets(), [224, 0, 0, _])) || v6(|s| s & 0xff0f == 0xff02);
    let ranges = [
        (ip.is_unspecified(), format!("may not be unspecified ({text})")),
        (ip.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)".into()),
        (
            v4(|a| a.is_link_local()) || v6(|s| s & 0xffc0 == 0xfe80),
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)".into(),
        ),
        (link_multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".into()),
    ];
    ranges.into_iter().filter(|(within, _)| *within).map(|(_, m)| Error::invalid(path, text, m)).collect()
}

/// A network: an address and how many of its bits are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    length: u32,
}

impl Network {
    /// As old versions of Go read it: zeros may lead numbers, and bits may be set beyond the length, which do not count.
    pub fn parse_sloppy(text: &str) -> Option<Network> {
        let (address, bits) = text.split_once('/')?;
        let ip = sloppy_ip(address)?;
        let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
        let length = bits.parse::<u32>().ok().filter(|n| digits && *n <= width(ip))?;
        Some(Network { address: masked(ip, length), length })
    }

    /// Its first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits are fixed.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// Whether it is of IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// Whether the other is a part of it, and not all of it.
    pub fn strictly_contains(&self, other: &Network) -> bool {
        self.is_ipv4() == other.is_ipv4()
            && self.length < other.length
            && masked(other.address, self.length) == self.address
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

fn width(ip: IpAddr) -> u32 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn masked(ip: IpAddr, length: u32) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            IpAddr::V4(Ipv4Addr::from_bits((u128::from(v4.to_bits()) & mask(length, 32)) as u32))
        }
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask(length, 128))),
    }
}

/// A network of a field that took odd forms once; those in `old` stay valid.
pub fn validate_cidr(text: &str, old: &[&str], path: &Path) -> Vec<Error> {
    if old.contains(&text) {
        return Vec::new();
    }
    let parts = Network::parse_sloppy(text).zip(text.split_once('/'));
    let Some((network, (address, bits))) = parts else { return vec![Error::invalid(path, text, NOT_A_CIDR)] };
    let odd = address.parse::<IpAddr>().is_err() || (bits.len() > 1 && bits.starts_with('0'));
    let detail = if odd {
        "must not have leading 0s in IP or prefix length"
    } else if sloppy_ip(address).is_some_and(is_mapped) {
        "must not have an IPv4-mapped IPv6 address"
    } else if sloppy_ip(address) != Some(network.address) {
        "must not have bits set beyond the prefix length"
    } else {
        return Vec::new();
    };
    vec![Error::invalid(path, text, detail)]
}

/// A network of a newer field: in canonical form only (`IsValidCIDR`).
pub fn validate_cidr_strict(text: &str, path: &Path) -> Vec<Error> {
    let errors = validate_cidr(text, &[], path);
    match Network::parse_sloppy(text).map(|n| n.to_string()) {
        Some(canonical) if errors.is_empty() && canonical != text => {
            let detail = format!("must be in canonical form ({})", quote(&canonical));
            vec![Error::invalid(path, text, detail)]
        }
        _ => errors,
    }
}

/// An address of an interface with the length of its network (`IsValidInterfaceAddress`).
pub fn validate_interface(text: &str, path: &Path) -> Vec<Error> {
    let address = text.split_once('/').and_then(|(address, _)| sloppy_ip(address));
    let Some((network, address)) = Network::parse_sloppy(text).zip(address) else {
        let detail = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
        return vec![Error::invalid(path, text, detail)];
    };
    let mapped = address.is_ipv6() && address.to_canonical().is_ipv4();
    let length =
        if mapped && network.length > 32 { network.length.saturating_sub(96) } else { network.length };
    let canonical = format!("{}/{length}", address.to_canonical());
    if canonical == text {
        return Vec::new();
    }
    vec![Error::invalid(path, text, format!("must be in canonical form ({})", quote(&canonical)))]
}

/// The first `length` of `width` bits.
fn mask(length: u32, width: u32) -> u128 {
    let all = if width == 128 { u128::MAX } else { (1_u128 << width) - 1 };
    match width.checked_sub(length) {
        Some(128) => 0,
        Some(rest) => all >> rest << rest,
        None => all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks() {
        let ip =
            |t: &str| validate_ip(t, &[], &Path::new("a")).into_iter().map(|e| e.detail).collect::<Vec<_>>();
        assert!(ip("10.9.8.7").is_empty() && ip("2001:db8::1").is_empty());
        assert_eq!(ip("010.1.2.3"), ["must not have leading 0s"]);
        assert_eq!(ip("::ffff:1.2.3.4"), ["must not be an IPv4-mapped IPv6 address"]);
        assert_eq!(ip("1.2.3"), [NOT_AN_IP]);
        let cidr = |t: &str| validate_cidr(t, &[], &Path::new("a")).len();
        assert_eq!([cidr("10.0.0.0/8"), cidr("::/0"), cidr("10.0.0.1/8"), cidr("10.0.0.0/33")], [0, 0, 1, 1]);
        assert_eq!([cidr("10.0.0.0/08"), cidr("x"), cidr("10.0.0.1/32")], [1, 1, 0]);
        assert!(validate_cidr("x", &["x"], &Path::new("a")).is_empty());
    }
}
