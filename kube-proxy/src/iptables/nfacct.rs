//! Counters of packets that the kernel keeps by name (nfacct), which rules refer to and metrics show.
//!
//! Not every kernel has them: then rules are written without, and the metrics are not there. Upstream:
//! pkg/proxy/util/nfacct, pkg/proxy/metrics/metrics_linux.go.

use std::io;

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, Nla};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily, NetfilterSubsystem,
};
use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::netlink;

/// Packets that conntrack holds for invalid, dropped on their way through.
pub const INVALID_DROPPED: &str = "ct_state_invalid_dropped_pkts";
/// First packets of connections to node ports on loopback.
pub const LOCALHOST_ACCEPTED: &str = "localhost_nps_accepted_pkts";

/// Linux: include/uapi/linux/netfilter/nfnetlink.h, nfnetlink_acct.h.
const SUBSYSTEM: u8 = 7;
const NEW: u8 = 0;
const GET: u8 = 1;
const NAME: u16 = 1;
const PACKETS: u16 = 2;

/// The counters that the kernel has.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Accounts {
    pub invalid_dropped: bool,
    pub localhost_accepted: bool,
}

/// Makes the counters that are not there yet; logs what the kernel says where it cannot have them.
pub async fn ensure() -> Accounts {
    tokio::task::spawn_blocking(make_all).await.unwrap_or_default()
}

fn make_all() -> Accounts {
    let made = |name| {
        make(name)
            .inspect_err(
                |error| tracing::warn!(counter = name, %error, "The kernel counts no packets by name, going on without"),
            )
            .is_ok()
    };
    let invalid_dropped = made(INVALID_DROPPED);
    Accounts { invalid_dropped, localhost_accepted: invalid_dropped && made(LOCALHOST_ACCEPTED) }
}

/// Makes a counter unless it is there.
fn make(name: &str) -> io::Result<()> {
    // Of a counter that is there the kernel says that it is busy.
    let request = netlink::Request::new(message(NEW, name)).flags(NLM_F_CREATE).forgive(libc::EBUSY);
    netlink::send(NETLINK_NETFILTER, vec![request])
}

/// Packets counted so far. Blocks for a moment.
///
/// # Errors
/// What the kernel says; `NotFound` without such a counter.
pub fn packets(name: &str) -> io::Result<u64> {
    let mut count = None;
    netlink::get(NETLINK_NETFILTER, message(GET, name), |answer: NetfilterMessage| {
        if let NetfilterMessageInner::Other { attributes, .. } = answer.inner {
            count = count.or_else(|| attributes.iter().find_map(number));
        }
    })?;
    count.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer has no number of packets")
    })
}

fn number(attribute: &DefaultNla) -> Option<u64> {
    let mut value = [0; 8];
    if attribute.kind() != PACKETS || attribute.value_len() != value.len() {
        return None;
    }
    attribute.emit_value(&mut value);
    Some(u64::from_be_bytes(value))
}

fn message(message_type: u8, name: &str) -> NetfilterMessage {
    let name = DefaultNla::new(NAME, [name.as_bytes(), &[0]].concat());
    let subsys = NetfilterSubsystem::Other(SUBSYSTEM);
    let inner = NetfilterMessageInner::Other { subsys, message_type, attributes: vec![name] };
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 0), inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_number_of_packets_alone() {
        let of = |kind, bytes: &[u8]| number(&DefaultNla::new(kind, bytes.to_vec()));
        assert_eq!(of(PACKETS, &[0, 0, 0, 0, 0, 0, 1, 2]), Some(258));
        assert_eq!(of(PACKETS, &[1, 2]), None);
        assert_eq!(of(NAME, &[0; 8]), None);
    }
}
