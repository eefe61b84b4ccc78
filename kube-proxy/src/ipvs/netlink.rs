//! The kernel's IPVS family of generic netlink. Blocks: call it on a thread that may wait.
//! Numbers: linux/ip_vs.h, linux/genetlink.h.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLA_F_NESTED, NetlinkDeserializable, NetlinkHeader,
    NetlinkSerializable, Nla, NlasIterator,
};
use netlink_sys::protocols::NETLINK_GENERIC;
use nix::libc;

use super::server::{HASHED, Key, Manner, Real};
use crate::model::{Family, Protocol};
use crate::netlink::{self, Request};

/// The family that knows the numbers of the others.
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Command {
    NewService = 1,
    SetService = 2,
    DelService = 3,
    GetService = 4,
    NewDest = 5,
    SetDest = 6,
    DelDest = 7,
    GetDest = 8,
    SetConfig = 12,
    Flush = 17,
}

const SERVICE: u16 = 1;
const DEST: u16 = 2;
const TIMEOUT_TCP: u16 = 4;
const TIMEOUT_TCP_FIN: u16 = 5;
const TIMEOUT_UDP: u16 = 6;

const SVC_FAMILY: u16 = 1;
const SVC_PROTOCOL: u16 = 2;
const SVC_ADDRESS: u16 = 3;
const SVC_PORT: u16 = 4;
const SVC_SCHEDULER: u16 = 6;
const SVC_FLAGS: u16 = 7;
const SVC_TIMEOUT: u16 = 8;
const SVC_NETMASK: u16 = 9;

const DEST_ADDRESS: u16 = 1;
const DEST_PORT: u16 = 2;
const DEST_METHOD: u16 = 3;
const DEST_WEIGHT: u16 = 4;
const DEST_UPPER: u16 = 5;
const DEST_LOWER: u16 = 6;
const DEST_ACTIVE: u16 = 7;
const DEST_INACTIVE: u16 = 8;
const DEST_FAMILY: u16 = 11;

/// A message of some family of generic netlink.
struct Message {
    kind: u16,
    command: u8,
    attributes: Vec<DefaultNla>,
}

/// Command, version and two bytes that mean nothing.
const HEADER: usize = 4;

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        HEADER + self.attributes.as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer[..HEADER].copy_from_slice(&[self.command, 1, 0, 0]);
        self.attributes.as_slice().emit(&mut buffer[HEADER..]);
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let command = *payload.first().ok_or("a message without a command")?;
        let attributes = attributes(payload.get(HEADER..).unwrap_or_default());
        Ok(Self { kind: header.message_type, command, attributes })
    }
}

fn attributes(bytes: &[u8]) -> Vec<DefaultNla> {
    let each = NlasIterator::new(bytes).map_while(Result::ok);
    each.map(|nla| DefaultNla::new(nla.kind(), nla.value().to_vec())).collect()
}

/// The attributes by kind.
fn fields(nla: &DefaultNla) -> BTreeMap<u16, Vec<u8>> {
    attributes(&value(nla)).iter().map(|nla| (nla.kind(), value(nla))).collect()
}

fn value(nla: &DefaultNla) -> Vec<u8> {
    let mut bytes = vec![0; nla.value_len()];
    nla.emit_value(&mut bytes);
    bytes
}

fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    DefaultNla::new(kind | NLA_F_NESTED, bytes)
}

fn u16s(kind: u16, value: u16) -> DefaultNla {
    DefaultNla::new(kind, value.to_ne_bytes().to_vec())
}

fn u32s(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_ne_bytes().to_vec())
}

fn address(kind: u16, ip: IpAddr) -> DefaultNla {
    DefaultNla::new(
        kind,
        match ip {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        },
    )
}

fn text(kind: u16, text: &str) -> DefaultNla {
    DefaultNla::new(kind, [text.as_bytes(), &[0]].concat())
}

/// What names a virtual server, and how it balances if that is to be said.
fn service(key: &Key, manner: Option<&Manner>) -> DefaultNla {
    let (family, netmask) = match key.address {
        SocketAddr::V4(_) => (libc::AF_INET, u32::MAX),
        SocketAddr::V6(_) => (libc::AF_INET6, 128),
    };
    let mut all = vec![
        u16s(SVC_FAMILY, u16::try_from(family).unwrap_or_default()),
        u16s(SVC_PROTOCOL, number(key.protocol)),
        address(SVC_ADDRESS, key.address.ip()),
        DefaultNla::new(SVC_PORT, key.address.port().to_be_bytes().to_vec()),
    ];
    if let Some(manner) = manner {
        all.push(text(SVC_SCHEDULER, &manner.scheduler));
        all.push(DefaultNla::new(SVC_FLAGS, [manner.flags.to_ne_bytes(), [0xff; 4]].concat()));
        all.push(u32s(SVC_TIMEOUT, manner.timeout));
        all.push(u32s(SVC_NETMASK, netmask));
    }
    nested(SERVICE, &all)
}

/// Packets are masqueraded on their way to it, which is method 0.
fn destination(real: &SocketAddr, weight: u32) -> DefaultNla {
    nested(
        DEST,
        &[
            address(DEST_ADDRESS, real.ip()),
            DefaultNla::new(DEST_PORT, real.port().to_be_bytes().to_vec()),
            u32s(DEST_METHOD, 0),
            u32s(DEST_WEIGHT, weight),
            u32s(DEST_UPPER, 0),
            u32s(DEST_LOWER, 0),
        ],
    )
}

fn number(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn protocol(number: u16) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| self::number(*p) == number)
}

fn read_u16(fields: &BTreeMap<u16, Vec<u8>>, kind: u16) -> Option<u16> {
    fields.get(&kind)?.get(..2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn read_u32(fields: &BTreeMap<u16, Vec<u8>>, kind: u16) -> Option<u32> {
    fields.get(&kind)?.get(..4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn read_port(fields: &BTreeMap<u16, Vec<u8>>, kind: u16) -> Option<u16> {
    fields.get(&kind)?.get(..2)?.try_into().ok().map(u16::from_be_bytes)
}

/// The kernel prints 16 bytes for either family.
fn read_address(fields: &BTreeMap<u16, Vec<u8>>, kind: u16, family: Family) -> Option<IpAddr> {
    let bytes = fields.get(&kind)?;
    match family {
        Family::V4 => bytes.get(..4).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(IpAddr::from),
        Family::V6 => bytes.get(..16).and_then(|b| <[u8; 16]>::try_from(b).ok()).map(IpAddr::from),
    }
}

fn family_of(number: u16) -> Option<Family> {
    match i32::from(number) {
        libc::AF_INET => Some(Family::V4),
        libc::AF_INET6 => Some(Family::V6),
        _ => None,
    }
}

/// None for a server by firewall mark: it is somebody else's.
fn read_service(nla: &DefaultNla) -> Option<(Key, Manner)> {
    let fields = fields(nla);
    let family = family_of(read_u16(&fields, SVC_FAMILY)?)?;
    let key = Key {
        address: SocketAddr::new(read_address(&fields, SVC_ADDRESS, family)?, read_port(&fields, SVC_PORT)?),
        protocol: protocol(read_u16(&fields, SVC_PROTOCOL)?)?,
    };
    let scheduler = fields.get(&SVC_SCHEDULER)?;
    let manner = Manner {
        scheduler: Arc::from(String::from_utf8_lossy(scheduler).trim_end_matches('\0')),
        flags: read_u32(&fields, SVC_FLAGS)? & !HASHED,
        timeout: read_u32(&fields, SVC_TIMEOUT)?,
    };
    Some((key, manner))
}

fn read_destination(nla: &DefaultNla, of: Family) -> Option<(SocketAddr, Real)> {
    let fields = fields(nla);
    // Kernels before 3.18 do not say.
    let family = read_u16(&fields, DEST_FAMILY).and_then(family_of).unwrap_or(of);
    let address =
        SocketAddr::new(read_address(&fields, DEST_ADDRESS, family)?, read_port(&fields, DEST_PORT)?);
    let count = |kind| u64::from(read_u32(&fields, kind).unwrap_or_default());
    let connections = count(DEST_ACTIVE) + count(DEST_INACTIVE);
    Some((address, Real { weight: read_u32(&fields, DEST_WEIGHT)?, connections }))
}

/// The family, as this kernel numbers it.
#[derive(Clone, Copy, Debug)]
pub struct Ipvs(u16);

/// A change of the kernel's servers.
pub enum Change<'a> {
    Add(&'a Key, &'a Manner),
    Set(&'a Key, &'a Manner),
    Delete(&'a Key),
    AddReal(&'a Key, &'a SocketAddr),
    SetReal(&'a Key, &'a SocketAddr, u32),
    DeleteReal(&'a Key, &'a SocketAddr),
}

impl Ipvs {
    /// Asks the kernel, which loads the module if it has it.
    ///
    /// # Errors
    /// `NotFound`: the kernel has no IPVS.
    pub fn open() -> io::Result<Self> {
        let request =
            Message { kind: CONTROLLER, command: GET_FAMILY, attributes: vec![text(FAMILY_NAME, "IPVS")] };
        let mut found = None;
        netlink::get(NETLINK_GENERIC, request, |message: Message| {
            let id = message.attributes.iter().find(|nla| nla.kind() == FAMILY_ID).map(value);
            found = id.and_then(|id| id.get(..2).and_then(|b| b.try_into().ok())).map(u16::from_ne_bytes);
        })?;
        found.map(Self).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn message(self, command: Command, attributes: Vec<DefaultNla>) -> Message {
        Message { kind: self.0, command: command as u8, attributes }
    }

    /// All virtual servers with an address.
    pub fn servers(self) -> io::Result<BTreeMap<Key, Manner>> {
        let mut servers = BTreeMap::new();
        let request = self.message(Command::GetService, Vec::new());
        netlink::dump(NETLINK_GENERIC, request, |message: Message| {
            servers.extend(message.attributes.first().and_then(read_service));
        })?;
        Ok(servers)
    }

    /// The real servers of a virtual one; none if that is not there.
    pub fn reals(self, key: &Key) -> io::Result<BTreeMap<SocketAddr, Real>> {
        let mut reals = BTreeMap::new();
        let family = Family::of(&key.address.ip());
        let request = self.message(Command::GetDest, vec![service(key, None)]);
        netlink::dump(NETLINK_GENERIC, request, |message: Message| {
            reals.extend(message.attributes.first().and_then(|nla| read_destination(nla, family)));
        })?;
        Ok(reals)
    }

    /// Applies changes in their order, whatever becomes of single ones.
    ///
    /// # Errors
    /// The first.
    pub fn apply<'a>(self, changes: impl Iterator<Item = Change<'a>>) -> io::Result<()> {
        netlink::send(NETLINK_GENERIC, changes.map(|change| self.request(&change)).collect())
    }

    fn request(self, change: &Change<'_>) -> Request<Message> {
        let real = |command, key, real, weight| {
            Request::new(self.message(command, vec![service(key, None), destination(real, weight)]))
        };
        let server = |command, key, manner| Request::new(self.message(command, vec![service(key, manner)]));
        match change {
            Change::Add(key, manner) => server(Command::NewService, key, Some(manner)),
            Change::Set(key, manner) => server(Command::SetService, key, Some(manner)),
            Change::Delete(key) => server(Command::DelService, key, None).forgive(libc::ESRCH),
            Change::AddReal(key, address) => real(Command::NewDest, key, address, super::server::WEIGHT),
            Change::SetReal(key, address, weight) => real(Command::SetDest, key, address, *weight),
            Change::DeleteReal(key, address) => {
                real(Command::DelDest, key, address, 0).forgive(libc::ENOENT).forgive(libc::ESRCH)
            }
        }
    }

    /// Sets how long connections of TCP, closing ones, and flows of UDP are kept; 0 leaves the kernel's.
    pub fn set_timeouts(self, tcp: Duration, tcp_fin: Duration, udp: Duration) -> io::Result<()> {
        let seconds = |span: Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
        let attributes = vec![
            u32s(TIMEOUT_TCP, seconds(tcp)),
            u32s(TIMEOUT_TCP_FIN, seconds(tcp_fin)),
            u32s(TIMEOUT_UDP, seconds(udp)),
        ];
        netlink::send(NETLINK_GENERIC, vec![Request::new(self.message(Command::SetConfig, attributes))])
    }

    /// Deletes all virtual servers.
    pub fn flush(self) -> io::Result<()> {
        netlink::send(NETLINK_GENERIC, vec![Request::new(self.message(Command::Flush, Vec::new()))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for address in ["10.96.0.1:53", "[fd00::1]:53"] {
            let key = Key { address: address.parse().expect("an address"), protocol: Protocol::Udp };
            let manner = Manner { scheduler: "mh".into(), flags: 0x11, timeout: 10_800 };
            assert_eq!(read_service(&service(&key, Some(&manner))), Some((key, manner)));
            let family = Family::of(&key.address.ip());
            let real = Some((key.address, Real { weight: 1, connections: 0 }));
            assert_eq!(read_destination(&destination(&key.address, 1), family), real);
        }
    }

    #[test]
    fn garbage_is_not_read() {
        let header = NetlinkHeader::default();
        assert!(Message::deserialize(&header, &[]).is_err());
        for bytes in
            [&[4u8, 1, 0, 0, 1][..], &[4, 1, 0, 0, 8, 0, 1, 0, 255, 255, 1, 0], &[4, 1, 0, 0, 0, 0, 0, 0]]
        {
            let message = Message::deserialize(&header, bytes).expect("a header");
            assert_eq!(message.attributes.first().and_then(read_service), None);
        }
    }
}
