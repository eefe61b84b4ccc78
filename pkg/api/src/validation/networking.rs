//! networking.k8s.io/v1. Upstream: `pkg/apis/networking/validation/validation.go`.

pub mod ingress;
pub mod ingress_class;
pub mod ip_address;
pub mod network_policy;
pub mod service_cidr;
