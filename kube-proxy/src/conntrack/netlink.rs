//! Lists and deletes the kernel's UDP flows by netlink. Blocks: call it on a thread that may wait.

use std::io;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::Flow;
use crate::model::Family;
use crate::netlink;

/// Deletes the flows that a test picks; returns how many.
///
/// # Errors
/// What the system says.
pub fn delete(family: Family, picked: impl Fn(&Flow) -> bool) -> io::Result<usize> {
    let mut found = Vec::new();
    let get = message(family, ConntrackMessage::Get(Vec::new()));
    netlink::dump(NETLINK_NETFILTER, get, |answer: NetfilterMessage| {
        if let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = answer.inner {
            found.extend(read(&attributes).filter(|flow| picked(flow)));
        }
    })?;
    let mut deleted = 0;
    for flow in found {
        let delete = message(family, ConntrackMessage::Delete(vec![original(&flow)]));
        match netlink::send(NETLINK_NETFILTER, vec![netlink::Request::new(delete)]) {
            Ok(()) => deleted += 1,
            // It ended by itself meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(deleted)
}

/// A request about a family.
fn message(family: Family, inner: ConntrackMessage) -> NetfilterMessage {
    let of = match family {
        Family::V4 => NetfilterProtoFamily::IPv4,
        Family::V6 => NetfilterProtoFamily::IPv6,
    };
    NetfilterMessage::new(NetfilterHeader::new(of, 0, 0), inner)
}

/// One direction of a flow.
#[derive(Default)]
struct Direction {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    source_port: u16,
    destination_port: u16,
    udp: bool,
}

fn direction(tuples: &[Tuple]) -> Direction {
    let mut read = Direction::default();
    for tuple in tuples {
        match tuple {
            Tuple::Ip(parts) => parts.iter().for_each(|part| match part {
                IPTuple::SourceAddress(ip) => read.source = Some(*ip),
                IPTuple::DestinationAddress(ip) => read.destination = Some(*ip),
                _ => {}
            }),
            Tuple::Proto(parts) => parts.iter().for_each(|part| match part {
                ProtoTuple::Protocol(protocol) => read.udp = *protocol == Protocol::Udp,
                ProtoTuple::SourcePort(port) => read.source_port = *port,
                ProtoTuple::DestinationPort(port) => read.destination_port = *port,
                _ => {}
            }),
            _ => {}
        }
    }
    read
}

/// None for other protocols.
fn read(attributes: &[ConntrackAttribute]) -> impl Iterator<Item = Flow> {
    let (mut there, mut back) = (Direction::default(), Direction::default());
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuples) => there = direction(tuples),
            ConntrackAttribute::CtaTupleReply(tuples) => back = direction(tuples),
            _ => {}
        }
    }
    let flow = || {
        Some(Flow {
            source: SocketAddr::new(there.source?, there.source_port),
            destination: SocketAddr::new(there.destination?, there.destination_port),
            answers: SocketAddr::new(back.source?, back.source_port),
        })
    };
    flow().filter(|_| there.udp).into_iter()
}

/// What names a flow to the kernel.
fn original(flow: &Flow) -> ConntrackAttribute {
    ConntrackAttribute::CtaTupleOrig(vec![
        Tuple::Ip(vec![
            IPTuple::SourceAddress(flow.source.ip()),
            IPTuple::DestinationAddress(flow.destination.ip()),
        ]),
        Tuple::Proto(vec![
            ProtoTuple::Protocol(Protocol::Udp),
            ProtoTuple::SourcePort(flow.source.port()),
            ProtoTuple::DestinationPort(flow.destination.port()),
        ]),
    ])
}
