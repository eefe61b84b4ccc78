//! The routing model: which addresses lead to which endpoints, as this node sees it. Pure.
//!
//! Services ([`service`]) and endpoint slices ([`endpoint`]) go into a [`table::Table`], which tells what changed;
//! [`traffic`] chooses the endpoints of one service port by traffic policy and topology. Renderers turn the result
//! into rules. Nothing here knows iptables, sockets or clocks. Upstream: pkg/proxy.

pub mod endpoint;
pub mod service;
pub mod table;
#[cfg(test)]
mod tests;
pub mod traffic;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// One of the two address families; each has its own table and rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: &IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// As metrics and Services spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// A transport protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// Reads the API's spelling; absent means TCP.
    pub fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("" | "TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// As rules spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// `namespace/name` of a Service.
pub type ServiceKey = Arc<str>;

/// A name as the API server takes it for Services and ports. Others would end comments and commands that hold them.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
}

/// One port of one Service.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct PortId {
    pub service: ServiceKey,
    /// The port's name; "" when the Service has a single nameless one.
    pub port: String,
    pub protocol: Protocol,
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.port.is_empty() {
            f.write_str(&self.service)
        } else {
            write!(f, "{}:{}", self.service, self.port)
        }
    }
}
