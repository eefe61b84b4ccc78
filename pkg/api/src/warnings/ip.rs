//! Addresses and networks in forms that only old objects should have.
//! Upstream: `apimachinery/pkg/util/validation/ip.go` `GetWarningsForIP`, `GetWarningsForCIDR`.

use std::net::IpAddr;

use net::{parse_cidr, parse_ip};

use crate::validation::field::{Path, quote};

/// About an address that was found valid.
pub fn address(text: &str, path: &Path) -> Option<String> {
    let ip = parse_ip(text)?;
    let (value, canonical) = (quote(text), quote(&ip.to_canonical().to_string()));
    let strict = text.parse::<IpAddr>().ok();
    if strict.is_none() || is_mapped(ip) {
        return Some(format!("{path}: non-standard IP address {value} is invalid: use {canonical}"));
    }
    (ip.is_ipv6() && canonical != value)
        .then(|| format!("{path}: IPv6 address {value} should be in RFC 5952 canonical format ({canonical})"))
}

/// About a network that was found valid.
pub fn network(text: &str, path: &Path) -> Vec<String> {
    let Some((network, (address, bits))) = parse_cidr(text).zip(text.split_once('/')) else {
        return Vec::new();
    };
    let ip = network.ip();
    let (mut warnings, value) = (Vec::new(), quote(text));
    let canonical = quote(&as_go_prints(network.network(), network.prefix()));
    if ip != network.network() {
        let width = if ip.is_ipv4() { 32 } else { 128 };
        let single = quote(&format!("{}/{width}", ip.to_canonical()));
        warnings.push(format!(
            "{path}: CIDR value {value} is ambiguous in this context (should be {canonical} or {single}?)"
        ));
    }
    let strict = address.parse::<IpAddr>().is_ok() && !(bits.len() > 1 && bits.starts_with('0'));
    if !strict || is_mapped(ip) {
        warnings.push(format!("{path}: non-standard CIDR value {value} is invalid: use {canonical}"));
    }
    if warnings.is_empty() && ip.is_ipv6() && canonical != value {
        warnings.push(format!(
            "{path}: IPv6 CIDR value {value} should be in RFC 5952 canonical format ({canonical})"
        ));
    }
    warnings
}

fn is_mapped(ip: IpAddr) -> bool {
    ip.is_ipv6() && ip.to_canonical().is_ipv4()
}

/// Go prints a network of mapped addresses as one of IPv4.
fn as_go_prints(address: IpAddr, length: u8) -> String {
    let length = if is_mapped(address) { length.saturating_sub(96) } else { length };
    format!("{}/{length}", address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_forms() {
        let path = Path::new("a");
        assert_eq!(address("10.0.0.1", &path), None);
        assert_eq!(address("2001:db8::1", &path), None);
        let told = address("010.0.0.1", &path);
        assert_eq!(
            told.as_deref(),
            Some(r#"a: non-standard IP address "010.0.0.1" is invalid: use "10.0.0.1""#)
        );
        let told = address("::ffff:1.2.3.4", &path).unwrap();
        assert!(told.ends_with(r#"use "1.2.3.4""#), "{told}");
        let told = address("2001:DB8::1", &path).unwrap();
        assert!(told.ends_with(r#"canonical format ("2001:db8::1")"#), "{told}");
        assert!(network("10.0.0.0/8", &path).is_empty());
        let told = network("10.0.0.1/8", &path).join("\n");
        assert!(told.ends_with(r#"(should be "10.0.0.0/8" or "10.0.0.1/32"?)"#), "{told}");
        let told = network("::ffff:1.2.3.4/120", &path).join("\n");
        assert!(told.contains(r#""1.2.3.0/24" or "1.2.3.4/128""#), "{told}");
        assert!(network("2001:DB8::/32", &path).join("\n").contains(r#"("2001:db8::/32")"#));
    }
}
