//! Names that a pod sees: its host name, its hosts file and its resolver configuration. Pure but for reading files.

pub mod dns;
pub mod hostname;
pub mod hosts;
pub mod iptables;
