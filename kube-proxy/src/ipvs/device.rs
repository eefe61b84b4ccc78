//! The device that holds Services' addresses: a dummy, never up, so that the kernel takes packets for them in.
//! Upstream: netlink_linux.go.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::libc;

use crate::model::Family;
use crate::netlink::{Request, send};

/// Upstream: proxier.go defaultDummyDevice.
pub const NAME: &str = "kube-ipvs0";

/// This machine's addresses: those of our device, if there is one, and those of others.
pub fn addresses(family: Family) -> io::Result<(Option<BTreeSet<IpAddr>>, Vec<IpAddr>)> {
    let (mut bound, mut others) = (BTreeSet::new(), Vec::new());
    for interface in nix::ifaddrs::getifaddrs()? {
        let Some(address) = interface.address else { continue };
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())));
        let Some(ip) = ip else { continue };
        if interface.interface_name != NAME {
            others.push(ip);
        } else if Family::of(&ip) == family && !is_link_local(&ip) {
            bound.insert(ip);
        }
    }
    Ok((index().is_some().then_some(bound), others))
}

/// The kernel gives devices such addresses by itself.
fn is_link_local(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn index() -> Option<u32> {
    nix::net::if_::if_nametoindex(NAME).ok()
}

/// Makes the device, unless it is there. Blocks, as the next ones.
pub fn create() -> io::Result<()> {
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(NAME.to_string()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Dummy)]),
    ];
    let request = Request::new(RouteNetlinkMessage::NewLink(link))
        .flags(NLM_F_CREATE | NLM_F_EXCL)
        .forgive(libc::EEXIST);
    send(NETLINK_ROUTE, vec![request])
}

/// Removes the device with its addresses.
pub fn delete() -> io::Result<()> {
    let Some(index) = index() else { return Ok(()) };
    let mut link = LinkMessage::default();
    link.header.index = index;
    send(NETLINK_ROUTE, vec![Request::new(RouteNetlinkMessage::DelLink(link)).forgive(libc::ENODEV)])
}

/// Adds addresses.
pub fn bind(addresses: &[IpAddr]) -> io::Result<()> {
    change(addresses, |message| {
        Request::new(RouteNetlinkMessage::NewAddress(message))
            .flags(NLM_F_CREATE | NLM_F_EXCL)
            .forgive(libc::EEXIST)
    })
}

/// Removes addresses.
pub fn unbind(addresses: &[IpAddr]) -> io::Result<()> {
    change(addresses, |message| {
        Request::new(RouteNetlinkMessage::DelAddress(message)).forgive(libc::EADDRNOTAVAIL)
    })
}

fn change(
    addresses: &[IpAddr],
    request: impl Fn(AddressMessage) -> Request<RouteNetlinkMessage>,
) -> io::Result<()> {
    if addresses.is_empty() {
        return Ok(());
    }
    let index = index().ok_or_else(|| io::Error::other(format!("the device {NAME} is gone")))?;
    let requests = addresses.iter().map(|ip| {
        let mut message = AddressMessage::default();
        message.header.index = index;
        (message.header.family, message.header.prefix_len) = match ip {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        message.attributes = vec![AddressAttribute::Local(*ip), AddressAttribute::Address(*ip)];
        request(message)
    });
    send(NETLINK_ROUTE, requests.collect())
}
