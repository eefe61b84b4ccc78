//! What is asked for. Upstream: `ValidatePodCertificateRequestCreate` in
//! `pkg/apis/certificates/validation/validation.go`.

use ::api::validation::core::projected::{is_kubernetes_signer, signer_name, user_annotations};
use ::api::validation::field::{Bad, Error, Path};
use ::api::validation::objectmeta::name_is_subdomain;
use auth::csr::{KeyKind, PublicKey, SigningRequest};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1beta1::PodCertificateRequestSpec;

/// Largest key, proof and request, in bytes.
const MAX_SIZE: usize = 10 * 1024;
/// Longest id, in bytes.
const MAX_ID: usize = 128;
/// Shortest lifetime, and the longest of the project's own signers and of others, in seconds.
const LIFETIMES: (i32, i32, i32) = (3600, 24 * 3600, 91 * 24 * 3600);

pub(super) fn validate(spec: &PodCertificateRequestSpec) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = signer_name(&spec.signer_name, &path.child("signerName"));
    let annotations = spec.unverified_user_annotations.as_ref();
    errors.extend(user_annotations(annotations, &path.child("unverifiedUserAnnotations")));
    for (name, id, of) in [
        ("podName", "podUID", (&spec.pod_name, &spec.pod_uid)),
        ("serviceAccountName", "serviceAccountUID", (&spec.service_account_name, &spec.service_account_uid)),
        ("nodeName", "nodeUID", (&spec.node_name, &spec.node_uid)),
    ] {
        let refused = name_is_subdomain(of.0, false).into_iter();
        // A node's name is of a type of its own upstream.
        let bad = || if name == "nodeName" { Bad::enumerated(of.0) } else { of.0.into() };
        errors.extend(refused.map(|m| Error::invalid(&path.child(name), bad(), m)));
        let at = path.child(id);
        if of.1.is_empty() {
            errors.push(Error::invalid(&at, of.1, "must not be empty"));
        }
        if of.1.len() > MAX_ID {
            errors.push(Error::too_long(&at, MAX_ID));
        }
    }
    let at = path.child("maxExpirationSeconds");
    let Some(seconds) = spec.max_expiration_seconds else {
        errors.push(Error::required(&at, "must be set"));
        return errors;
    };
    let (least, own, others) = LIFETIMES;
    let most = if is_kubernetes_signer(&spec.signer_name) { own } else { others };
    if !(least..=most).contains(&seconds) {
        errors.push(Error::invalid(&at, seconds, format!("must be in the range [{least}, {most}]")));
    }
    errors.extend(proof(spec, &path));
    errors
}

/// The key comes with a proof that it is held, in one of two forms.
fn proof(spec: &PodCertificateRequestSpec, path: &Path) -> Option<Error> {
    let bytes = |field: &Option<ByteString>| field.clone().unwrap_or_default().0;
    let (key, signed) = (bytes(&spec.pkix_public_key), bytes(&spec.proof_of_possession));
    let request = &spec.stub_pkc_s10_request.0;
    match (request.is_empty(), key.is_empty(), signed.is_empty()) {
        (false, true, true) => stub(request, &path.child("stubPKCS10Request")),
        (true, false, false) => {
            let (key_path, proof_path) = (path.child("pkixPublicKey"), path.child("proofOfPossession"));
            plain(&spec.pod_uid, (&key, &key_path), (&signed, &proof_path))
        }
        _ => {
            let detail =
                "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set";
            Some(Error::invalid(path, Bad::Omitted, detail))
        }
    }
}

fn stub(request: &[u8], path: &Path) -> Option<Error> {
    if request.len() > MAX_SIZE {
        return Some(Error::too_long(path, MAX_SIZE));
    }
    let Some(parsed) = SigningRequest::from_der(request) else {
        return Some(Error::invalid(path, Bad::Omitted, "must be a valid PKCS#10 CSR"));
    };
    let curves = "elliptic public keys must use curve P256, P384, or P521";
    weak(parsed.key.kind, curves, path)
        .or_else(|| (!parsed.proven).then(|| Error::invalid(path, Bad::Omitted, "invalid signature")))
}

fn plain(pod: &str, key: (&[u8], &Path), signed: (&[u8], &Path)) -> Option<Error> {
    for (bytes, path) in [key, signed] {
        if bytes.len() > MAX_SIZE {
            return Some(Error::too_long(path, MAX_SIZE));
        }
    }
    let Some(parsed) = PublicKey::from_spki(key.0) else {
        let bad = Bad::json(&ByteString(key.0.to_vec()));
        return Some(Error::invalid(key.1, bad, "must be a valid PKIX-serialized public key"));
    };
    let curves = "elliptic public keys must use curve P256 or P384";
    weak(parsed.kind, curves, key.1).or_else(|| {
        let detail = "could not verify proof-of-possession signature";
        let wrong = !parsed.verify(pod.as_bytes(), signed.0);
        wrong.then(|| Error::invalid(signed.1, Bad::Omitted, detail))
    })
}

fn weak(kind: KeyKind, curves: &str, path: &Path) -> Option<Error> {
    match kind {
        KeyKind::P224 => Some(Error::invalid(path, "curve P-224", curves)),
        KeyKind::Rsa(bits) if bits != 3072 && bits != 4096 => {
            let bad = format!("{bits}-bit modulus");
            Some(Error::invalid(path, bad, "RSA keys must have modulus size 3072 or 4096"))
        }
        _ => None,
    }
}
