//! Addresses and networks in text, as Kubernetes reads them: what old versions of Go took is taken for good.
//!
//! What is allocated, routed or validated is decided elsewhere. Start at [`parse_ip`].
//! Upstream: `k8s.io/utils/net` (ParseIPSloppy, ParseCIDRSloppy); `e2e/oracle/net` records its answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use ipnetwork::IpNetwork;

/// An address; zeros may lead its parts. An IPv4 address mapped into IPv6 stays one of IPv6.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip);
    }
    if !text.contains(':') {
        return parse_v4(text).map(IpAddr::V4);
    }
    let parts: Option<Vec<String>> = text.split(':').map(plain_part).collect();
    parts?.join(":").parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// A part of an IPv6 address without zeros too many.
fn plain_part(part: &str) -> Option<String> {
    if part.contains('.') {
        return parse_v4(part).map(|v4| v4.to_string());
    }
    let zeros = part.bytes().take_while(|b| *b == b'0').count();
    Some(part[zeros.min(part.len().saturating_sub(1))..].to_owned())
}

/// An address and the length of its network; bits beyond the length are kept.
pub fn parse_cidr(text: &str) -> Option<IpNetwork> {
    let (address, length) = text.split_once('/')?;
    IpNetwork::new(parse_ip(address)?, number(length)?).ok()
}

/// A network: as [`parse_cidr`], without the bits beyond the length.
pub fn parse_network(text: &str) -> Option<IpNet> {
    let read = parse_cidr(text)?;
    IpNet::new(read.network(), read.prefix()).ok()
}

fn parse_v4(text: &str) -> Option<Ipv4Addr> {
    let mut parts = [0; 4];
    let mut texts = text.split('.');
    for part in &mut parts {
        *part = number(texts.next()?)?;
    }
    texts.next().is_none().then_some(Ipv4Addr::from(parts))
}

/// Decimal digits, and as many zeros before them as one likes.
fn number(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // The standard library also takes leading zeros, but a sign as well.
    digits.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Go prints a mapped address as the IPv4 address that it holds.
    fn go(ip: IpAddr) -> String {
        ip.to_canonical().to_string()
    }

    #[test]
    fn reads_as_upstream_does() {
        for line in include_str!("testdata/recorded.tsv").lines() {
            let [text, ip, network] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
            assert_eq!(parse_ip(text).map_or("-".into(), go), ip, "{text}");
            let ours = parse_cidr(text).map_or("-".into(), |n| {
                let masked = parse_network(text).expect("the network of an address");
                assert_eq!((masked.addr(), masked.prefix_len()), (n.network(), n.prefix()), "{text}");
                format!("{} {} {}", go(n.ip()), go(n.network()), n.prefix())
            });
            assert_eq!(ours, network, "{text}");
        }
    }
}
