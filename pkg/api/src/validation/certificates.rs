//! Certificate signing requests. Upstream: `pkg/apis/certificates/validation/validation.go`.
//!
//! Reading requests and certificates is the caller's ([`Readers`]): this crate has no cryptography.

use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestStatus,
};

use super::core::projected::signer_name;
use super::field::{Bad, Error, Path};
use super::objectmeta::{validate_kube_object_meta, validate_object_meta_update};
use super::{items, semantic_eq, supported};

const EXPIRATION_MIN: i32 = 600;
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
/// Sorted, as they are listed in errors.
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// What is wrong with encoded content; nothing if it is sound.
#[derive(Clone, Copy)]
pub struct Readers {
    /// A request in PEM.
    pub request: fn(&[u8]) -> Option<String>,
    /// Certificates in PEM, one at least.
    pub certificate: fn(&[u8]) -> Option<String>,
}

/// What is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// The object itself.
    Main,
    /// Its status, where the certificate is.
    Status,
    /// Its approval.
    Approval,
}

/// What an older version of the request excuses.
#[derive(Default)]
struct Excuses {
    legacy_signer: bool,
    repeated_types: bool,
    empty_types: bool,
    any_certificate: bool,
    repeated_usages: bool,
    unknown_usages: bool,
}

/// `ValidateCertificateSigningRequestCreate`.
pub fn validate(request: &CertificateSigningRequest, readers: Readers) -> Vec<Error> {
    check(request, &Excuses::default(), readers)
}

fn certificate(request: &CertificateSigningRequest) -> &[u8] {
    request.status.as_ref().and_then(|s| s.certificate.as_ref()).map_or(&[], |c| &c.0)
}

fn conditions(request: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    request.status.as_ref().map_or(&[], |s: &CertificateSigningRequestStatus| items(&s.conditions))
}

fn repeats<T: PartialEq>(list: &[T], i: usize) -> bool {
    list.iter().take(i).any(|earlier| *earlier == list[i])
}

fn any_repeated<T: PartialEq>(list: &[T]) -> bool {
    (0..list.len()).any(|i| repeats(list, i))
}

fn excuses(new: &CertificateSigningRequest, old: &CertificateSigningRequest, readers: Readers) -> Excuses {
    let types: Vec<&str> = conditions(old).iter().map(|c| c.type_.as_str()).collect();
    let usages = items(&old.spec.usages);
    let bad = |c: &[u8]| !c.is_empty() && (readers.certificate)(c).is_some();
    Excuses {
        legacy_signer: old.spec.signer_name == LEGACY_SIGNER,
        repeated_types: any_repeated(&types),
        empty_types: types.contains(&""),
        any_certificate: certificate(new) == certificate(old) || bad(certificate(old)),
        repeated_usages: any_repeated(usages),
        unknown_usages: !usages.iter().all(|u| USAGES.contains(&u.as_str())),
    }
}

fn check(request: &CertificateSigningRequest, excuses: &Excuses, readers: Readers) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&request.metadata, false, |_, _| Vec::new(), &Path::new("metadata"));
    let (spec, path) = (&request.spec, Path::new("spec"));
    if let Some(why) = (readers.request)(&spec.request.0) {
        errors.push(Error::invalid(&path.child("request"), Bad::json(&spec.request), why));
    }
    errors.extend(validate_usages(items(&spec.usages), excuses, &path.child("usages")));
    let at = path.child("signerName");
    if !excuses.legacy_signer && spec.signer_name == LEGACY_SIGNER {
        let detail = "the legacy signerName is not allowed via this API version";
        errors.push(Error::invalid(&at, &spec.signer_name, detail));
    } else {
        errors.extend(signer_name(&spec.signer_name, &at));
    }
    if let Some(seconds) = spec.expiration_seconds.filter(|s| *s < EXPIRATION_MIN) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(Error::invalid(&path.child("expirationSeconds"), seconds, detail));
    }
    errors.extend(validate_conditions(conditions(request), excuses));
    let bytes = certificate(request);
    if !excuses.any_certificate
        && !bytes.is_empty()
        && let Some(why) = (readers.certificate)(bytes)
    {
        let status = Path::new("status");
        errors.push(Error::invalid(&status.child("certificate"), "<certificate data>", why));
    }
    errors
}

fn validate_usages(usages: &[String], excuses: &Excuses, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if usages.is_empty() {
        errors.push(Error::required(path, ""));
    }
    if !excuses.unknown_usages {
        errors.extend(usages.iter().enumerate().flat_map(|(i, u)| supported(u, USAGES, &path.index(i))));
    }
    if !excuses.repeated_usages {
        let repeated = usages.iter().enumerate().filter(|(i, _)| repeats(usages, *i));
        errors.extend(repeated.map(|(i, u)| Error::duplicate(&path.index(i), u)));
    }
    errors
}

/// That a request is not approved and denied at once is told by the type's own rules.
fn validate_conditions(all: &[CertificateSigningRequestCondition], excuses: &Excuses) -> Vec<Error> {
    let status = Path::new("status");
    let path = status.child("conditions");
    let types: Vec<&str> = all.iter().map(|c| c.type_.as_str()).collect();
    let mut errors = Vec::new();
    for (i, condition) in all.iter().enumerate() {
        let at = path.index(i);
        if types[i].is_empty() && !excuses.empty_types {
            errors.push(Error::required(&at.child("type"), ""));
        }
        let decided = matches!(types[i], "Approved" | "Denied" | "Failed");
        let allowed: &[&str] = if decided { &["True"] } else { &["False", "True", "Unknown"] };
        let at_status = at.child("status");
        match condition.status.as_str() {
            "" => errors.push(Error::required(&at_status, "")),
            value => errors.extend(supported(value, allowed, &at_status)),
        }
        if !excuses.repeated_types && repeats(&types, i) {
            errors.push(Error::duplicate(&at.child("type"), types[i]));
        }
    }
    errors
}

/// `validateCertificateSigningRequestUpdate`: decisions are final, and a certificate is issued once.
pub fn validate_update(
    new: &CertificateSigningRequest,
    old: &CertificateSigningRequest,
    write: Write,
    readers: Readers,
) -> Vec<Error> {
    let mut errors = check(new, &excuses(new, old, readers), readers);
    let status = Path::new("status");
    let at = status.child("conditions");
    let of = |request: &CertificateSigningRequest, kind: &str| -> Vec<CertificateSigningRequestCondition> {
        conditions(request).iter().filter(|c| c.type_ == kind).cloned().collect()
    };
    for kind in ["Approved", "Denied", "Failed"] {
        if of(new, kind).len() < of(old, kind).len() {
            let detail = format!("updates may not remove a condition of type {kind:?}");
            errors.push(Error::forbidden(&at, detail));
        }
    }
    for kind in ["Approved", "Denied"].into_iter().filter(|_| write != Write::Approval) {
        let (now, before) = (of(new, kind), of(old, kind));
        if now.len() > before.len() {
            let detail = format!("updates may not add a condition of type {kind:?}");
            errors.push(Error::forbidden(&at, detail));
        } else if now.len() == before.len() && !semantic_eq(&now, &before) {
            let detail = format!("updates may not modify a condition of type {kind:?}\n");
            errors.push(Error::forbidden(&at, detail));
        }
    }
    if certificate(new) != certificate(old) {
        let at = status.child("certificate");
        if write != Write::Status {
            errors.push(Error::forbidden(&at, "updates may not set certificate content"));
        } else if !certificate(old).is_empty() {
            errors.push(Error::forbidden(&at, "updates may not modify existing certificate content"));
        }
    }
    errors.extend(validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata")));
    errors
}
