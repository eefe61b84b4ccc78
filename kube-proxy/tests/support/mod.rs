//! Kernels without a kernel: they take the texts that the proxy loads and tell what rules there are then.

pub mod iptables;
pub mod ipvs;
pub mod nftables;
