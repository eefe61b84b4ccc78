//! Addresses and networks in text, with the forms that only old objects may have.
//! Upstream: `apimachinery/pkg/util/validation/ip.go`, strict since v1.36.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use net::{parse_cidr, parse_ip};

use crate::validation::field::{Error, Path, quote};

const NOT_AN_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// An address of a field that took odd forms once; those in `old` stay valid.
pub fn validate_ip(text: &str, old: &[&str], path: &Path) -> Vec<Error> {
    if old.contains(&text) {
        return Vec::new();
    }
    let Some(ip) = parse_ip(text) else { return vec![Error::invalid(path, text, NOT_AN_IP)] };
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
    match parse_ip(text).map(|ip| ip.to_string()) {
        Some(canonical) if errors.is_empty() && canonical != text => {
            let detail = format!("must be in canonical form ({})", quote(&canonical));
            vec![Error::invalid(path, text, detail)]
        }
        _ => errors,
    }
}

/// An address at which an endpoint can be reached from everywhere (`ValidateEndpointIP`).
pub fn validate_endpoint_ip(text: &str, path: &Path) -> Vec<Error> {
    let Some(ip) = parse_ip(text) else {
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

/// The network's own address and length, whatever the address in it.
fn canonical_network(network: IpNetwork) -> String {
    format!("{}/{}", network.network(), network.prefix())
}

/// A network of a field that took odd forms once; those in `old` stay valid.
pub fn validate_cidr(text: &str, old: &[&str], path: &Path) -> Vec<Error> {
    if old.contains(&text) {
        return Vec::new();
    }
    let parts = parse_cidr(text).zip(text.split_once('/'));
    let Some((network, (address, bits))) = parts else { return vec![Error::invalid(path, text, NOT_A_CIDR)] };
    let odd = address.parse::<IpAddr>().is_err() || (bits.len() > 1 && bits.starts_with('0'));
    let detail = if odd {
        "must not have leading 0s in IP or prefix length"
    } else if is_mapped(network.ip()) {
        "must not have an IPv4-mapped IPv6 address"
    } else if network.ip() != network.network() {
        "must not have bits set beyond the prefix length"
    } else {
        return Vec::new();
    };
    vec![Error::invalid(path, text, detail)]
}

/// A network of a newer field: in canonical form only (`IsValidCIDR`).
pub fn validate_cidr_strict(text: &str, path: &Path) -> Vec<Error> {
    let errors = validate_cidr(text, &[], path);
    match parse_cidr(text).map(canonical_network) {
        Some(canonical) if errors.is_empty() && canonical != text => {
            let detail = format!("must be in canonical form ({})", quote(&canonical));
            vec![Error::invalid(path, text, detail)]
        }
        _ => errors,
    }
}

/// An address of an interface with the length of its network (`IsValidInterfaceAddress`).
pub fn validate_interface(text: &str, path: &Path) -> Vec<Error> {
    let Some(network) = parse_cidr(text) else {
        let detail = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
        return vec![Error::invalid(path, text, detail)];
    };
    let (address, length) = (network.ip(), network.prefix());
    let length = if is_mapped(address) && length > 32 { length.saturating_sub(96) } else { length };
    let canonical = format!("{}/{length}", address.to_canonical());
    if canonical == text {
        return Vec::new();
    }
    vec![Error::invalid(path, text, format!("must be in canonical form ({})", quote(&canonical)))]
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
