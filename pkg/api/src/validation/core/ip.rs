//! Addresses and networks in text, with the forms that only old objects may have.
//! Upstream: `apimachinery/pkg/util/validation/ip.go`, strict since v1.36.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::validation::field::{Error, Path};

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

/// A network of a field that took odd forms once; those in `old` stay valid.
pub fn validate_cidr(text: &str, old: &[&str], path: &Path) -> Vec<Error> {
    if old.contains(&text) {
        return Vec::new();
    }
    let refuse = || vec![Error::invalid(path, text, NOT_A_CIDR)];
    let Some((address, bits)) = text.split_once('/') else { return refuse() };
    let Some(ip) = sloppy_ip(address) else { return refuse() };
    let width = if ip.is_ipv4() { 32 } else { 128 };
    let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    let Some(length) = bits.parse::<u32>().ok().filter(|n| digits && *n <= width) else { return refuse() };
    let odd = address.parse::<IpAddr>().is_err() || (bits.len() > 1 && bits.starts_with('0'));
    let network = match ip {
        IpAddr::V4(v4) => {
            IpAddr::V4(Ipv4Addr::from_bits((u128::from(v4.to_bits()) & mask(length, 32)) as u32))
        }
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask(length, 128))),
    };
    let detail = if odd {
        "must not have leading 0s in IP or prefix length"
    } else if is_mapped(ip) {
        "must not have an IPv4-mapped IPv6 address"
    } else if network != ip {
        "must not have bits set beyond the prefix length"
    } else {
        return Vec::new();
    };
    vec![Error::invalid(path, text, detail)]
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
