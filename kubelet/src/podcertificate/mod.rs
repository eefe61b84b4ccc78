//! Certificates that pods get through projected volumes.
//!
//! For every source of that kind: a key of its own, a PodCertificateRequest with a proof that the key is held, the
//! certificate once a signer has issued it, and the same again before it expires. [`state`] decides, [`key`] makes keys,
//! [`manager`] does the work. Nothing is kept over a restart: everything is then requested anew.
//! Upstream: pkg/kubelet/podcertificate/podcertificatemanager.go, v1.37.

pub mod key;
pub mod manager;
pub mod state;
