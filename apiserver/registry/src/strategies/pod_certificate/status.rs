//! What signers answer. Upstream: `ValidatePodCertificateRequestStatusUpdate` in
//! `pkg/apis/certificates/validation/validation.go`.

use ::api::validation::field::{Bad, Error, Path};
use ::api::validation::objectmeta::{
    validate_conditions, validate_kube_finalizers, validate_object_meta_update,
};
use auth::csr::{PublicKey, SigningRequest};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1beta1::{PodCertificateRequest, PodCertificateRequestStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use machinery::pem;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// Largest chain, in bytes.
const MAX_CHAIN: usize = 100 * 1024;
/// Conditions after which nothing changes any more.
const FINAL: [&str; 3] = ["Issued", "Denied", "Failed"];
/// How far the beginning of a certificate may be from now.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// Between the limits of a certificate and the time of its renewal.
const MARGIN: SignedDuration = SignedDuration::from_mins(10);

fn status(request: &PodCertificateRequest) -> PodCertificateRequestStatus {
    request.status.clone().unwrap_or_default()
}

fn is(request: &PodCertificateRequest, kind: &str) -> bool {
    let conditions = request.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == kind && c.status == "True")
}

/// Compares as the API does: an empty list is as good as none.
fn same(a: &PodCertificateRequestStatus, b: &PodCertificateRequestStatus) -> bool {
    let plain = |s: &PodCertificateRequestStatus| PodCertificateRequestStatus {
        conditions: s.conditions.clone().filter(|c| !c.is_empty()),
        certificate_chain: s.certificate_chain.clone().filter(|c| !c.is_empty()),
        ..s.clone()
    };
    plain(a) == plain(b)
}

pub(super) fn validate(
    new: &PodCertificateRequest,
    old: &PodCertificateRequest,
    now: Timestamp,
) -> Vec<Error> {
    // What is wrong with the metadata, which is told before, ends the validation.
    let metadata = Path::new("metadata");
    let mut errors = validate_object_meta_update(&new.metadata, &old.metadata, &metadata);
    errors.extend(validate_kube_finalizers(&new.metadata, &metadata));
    if !errors.is_empty() {
        return errors;
    }
    let path = Path::new("status");
    let (status, before) = (status(new), status(old));
    let at = path.child("conditions");
    let conditions = status.conditions.clone().unwrap_or_default();
    let mut errors = known_conditions(&conditions, &at);
    errors.extend(validate_conditions(&conditions, &at));
    if !errors.is_empty() {
        return errors;
    }
    let unless = |fine: bool, detail: &str| {
        if fine { Vec::new() } else { vec![Error::invalid(&path, Bad::Omitted, detail)] }
    };
    if FINAL.iter().any(|kind| is(old, kind)) {
        let detail = "immutable after PodCertificateRequest is issued, denied, or failed";
        return unless(same(&status, &before), detail);
    }
    if is(new, "Denied") || is(new, "Failed") {
        let bare = PodCertificateRequestStatus {
            conditions: status.conditions.clone(),
            ..PodCertificateRequestStatus::default()
        };
        let detail =
            "non-condition status fields must be empty when denying or failing the PodCertificateRequest";
        return unless(same(&status, &bare), detail);
    }
    if is(new, "Issued") {
        return issued(&status, old, now, &path).err().unwrap_or_default();
    }
    let detail = "status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"";
    unless(same(&status, &before), detail)
}

fn known_conditions(conditions: &[Condition], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut known = 0;
    for (i, condition) in conditions.iter().enumerate() {
        // Upstream writes the index as a field of its own.
        let index = format!("[{i}]");
        let at = path.child(&index);
        let (kind, value) = (at.child("type"), at.child("status"));
        if !FINAL.contains(&condition.type_.as_str()) {
            errors.push(Error::not_supported(&kind, &condition.type_, &FINAL));
            continue;
        }
        known += 1;
        if known > 1 {
            let detail = "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"";
            errors.push(Error::invalid(&kind, &condition.type_, detail));
        }
        if condition.status != "True" {
            errors.push(Error::not_supported(&value, Bad::enumerated(&condition.status), &["True"]));
        }
    }
    errors
}

fn issued(
    status: &PodCertificateRequestStatus,
    old: &PodCertificateRequest,
    now: Timestamp,
    path: &Path,
) -> Result<(), Vec<Error>> {
    let at = path.child("certificateChain");
    let chain = status.certificate_chain.as_deref().unwrap_or_default();
    let refuse = |detail: &str| vec![Error::invalid(&at, chain, detail)];
    if chain.len() > MAX_CHAIN {
        return Err(vec![Error::too_long(&at, MAX_CHAIN)]);
    }
    let blocks = pem::blocks(chain.as_bytes());
    let Some((leaf, others)) = blocks.split_first() else {
        return Err(refuse("issued certificate chain must contain at least one certificate"));
    };
    if leaf.label != "CERTIFICATE" {
        return Err(refuse("issued certificate chain must consist entirely of CERTIFICATE PEM blocks"));
    }
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&leaf.bytes) else {
        return Err(refuse("leaf certificate does not parse as valid X.509"));
    };
    let names = bad_names(&parsed, &at);
    let wanted = wanted_key(old)?;
    if PublicKey::of_certificate(&leaf.bytes).is_none_or(|key| key.spki != wanted.spki) {
        let mut errors = names;
        errors.extend(refuse("leaf certificate was not issued to the requested public key"));
        return Err(errors);
    }
    let mut errors = names;
    errors.extend(times(status, &parsed, old, now, path));
    if !errors.is_empty() {
        return Err(errors);
    }
    for block in others {
        if block.label != "CERTIFICATE" {
            return Err(refuse("issued certificate chain must consist entirely of CERTFICATE PEM blocks"));
        }
        if x509_parser::parse_x509_certificate(&block.bytes).is_err() {
            return Err(refuse("intermediate certificate does not parse as valid X.509"));
        }
    }
    Ok(())
}

/// Names of hosts that nobody could have. Email addresses are not looked at.
fn bad_names(leaf: &X509Certificate<'_>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let names = leaf.subject_alternative_name().ok().flatten();
    for name in names.iter().flat_map(|n| &n.value.general_names) {
        let GeneralName::DNSName(name) = *name else { continue };
        for (is, detail) in [
            (name.is_empty(), "leaf certificate should not contain empty DNSName"),
            (name.contains(".."), "leaf certificate's DNSName should not contain '..'"),
            (
                name.starts_with('.') || name.ends_with('.'),
                "leaf certificate's DNSName should not start or end with '.'",
            ),
        ] {
            errors.extend(is.then(|| Error::invalid(path, name, detail)));
        }
    }
    errors
}

fn wanted_key(old: &PodCertificateRequest) -> Result<PublicKey, Vec<Error>> {
    let spec = Path::new("spec");
    let stub = &old.spec.stub_pkc_s10_request.0;
    if !stub.is_empty() {
        return SigningRequest::from_der(stub).map(|r| r.key).ok_or_else(|| {
            let at = spec.child("stubPKCS10Request");
            vec![Error::invalid(&at, Bad::Omitted, "must be a valid PKCS#10 CSR")]
        });
    }
    let key = old.spec.pkix_public_key.clone().unwrap_or_default().0;
    PublicKey::from_spki(&key).ok_or_else(|| {
        let at = spec.child("pkixPublicKey");
        vec![Error::invalid(&at, Bad::Omitted, "must be a valid PKIX-serialized public key")]
    })
}

/// A time as Go writes it in JSON.
fn shown(at: Timestamp) -> Bad {
    Bad::json(&at.to_string())
}

fn times(
    status: &PodCertificateRequestStatus,
    leaf: &X509Certificate<'_>,
    old: &PodCertificateRequest,
    now: Timestamp,
    path: &Path,
) -> Vec<Error> {
    let (begin, end, renew) = (path.child("notBefore"), path.child("notAfter"), path.child("beginRefreshAt"));
    let consistent = "must be present and consistent with the issued certificate";
    let mut missing = Vec::new();
    let mut time = |field: &Option<Time>, at: &Path, detail: &str| match field {
        Some(time) => time.0,
        None => {
            missing.push(Error::required(at, detail));
            now
        }
    };
    let not_before = time(&status.not_before, &begin, consistent);
    let not_after = time(&status.not_after, &end, consistent);
    let range = "must be present and in the range [notbefore+10min, notafter-10min]";
    let renewal = time(&status.begin_refresh_at, &renew, range);
    if !missing.is_empty() {
        return missing;
    }
    let validity = leaf.validity();
    let (from, to) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let is = |at: Timestamp, seconds: i64| at.as_second() == seconds && at.subsec_nanosecond() == 0;
    let lifetime = to.saturating_sub(from);
    let most = i64::from(old.spec.max_expiration_seconds.unwrap_or_default());
    let chain = path.child("certificateChain");
    let lasting = || Bad::Raw(machinery::time::format_duration(lifetime.saturating_mul(1_000_000_000)));
    let one = |at: &Path, bad: Bad, detail: &str| vec![Error::invalid(at, bad, detail)];
    match () {
        () if !is(not_before, from) => one(
            &begin,
            shown(not_before),
            "must be set to the NotBefore time encoded in the leaf certificate",
        ),
        () if not_before.duration_since(now).abs() >= SKEW => {
            one(&begin, shown(not_before), "must be set to within 5 minutes of kube-apiserver's current time")
        }
        () if !is(not_after, to) => {
            one(&end, shown(not_after), "must be set to the NotAfter time encoded in the leaf certificate")
        }
        () if lifetime < 3600 => one(&chain, lasting(), "leaf certificate lifetime must be >= 1 hour"),
        () if lifetime > most => {
            let detail = format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({most})");
            one(&chain, lasting(), &detail)
        }
        () if renewal.duration_since(not_before) < MARGIN => {
            one(&renew, shown(renewal), "must be at least 10 minutes after status.notBefore")
        }
        () if not_after.duration_since(renewal) < MARGIN => {
            one(&renew, shown(renewal), "must be at least 10 minutes before status.notAfter")
        }
        () => Vec::new(),
    }
}
