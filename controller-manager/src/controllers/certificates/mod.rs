//! Certificate signing requests: which are approved by themselves, how they are signed, which are cleaned away.
//!
//! Upstream: pkg/controller/certificates.

pub mod approver;
pub mod cleaner;
pub mod pod_certificate_cleaner;
mod request;
pub mod signer;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest as Csr;
use k8s_openapi::api::certificates::v1::CertificateSigningRequestCondition as Condition;

fn conditions(csr: &Csr) -> &[Condition] {
    csr.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default()
}

/// The certificate, in PEM; empty before it is issued.
fn certificate(csr: &Csr) -> &[u8] {
    csr.status.as_ref().and_then(|s| s.certificate.as_ref()).map_or(&[], |c| c.0.as_slice())
}
