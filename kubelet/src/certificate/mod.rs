//! The kubelet's own certificates: obtained by a certificate signing request, kept on disk, renewed before they expire.
//!
//! [`store`] keeps pairs as upstream does, so that either kubelet finds the other's; [`request`] asks the API server for one;
//! [`manager`] decides when; [`bootstrap`] gets the first client certificate. Only certificates v1 is spoken: servers
//! before 1.19 are refused by their 404. Upstream: pkg/kubelet/certificate and client-go/util/certificate, v1.37.

pub mod bootstrap;
pub mod manager;
pub mod metrics;
pub mod pair;
pub mod request;
pub mod store;

/// Signer of certificates with which kubelets call the API server.
pub const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Signer of certificates that kubelets serve with.
pub const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
