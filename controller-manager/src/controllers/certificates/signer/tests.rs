//! What is signed, and the bytes of certificates.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use proptest::prelude::*;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::authority::Authority;
use super::{Plan, failed, plan, policy};
use crate::controllers::certificates::Csr;
use crate::controllers::certificates::request::tests::pem;
use crate::scenario;

/// Requests in scenarios say what they ask for instead of the bytes.
fn with_request(mut csr: Csr, names: &[String], common_name: &str, organization: &str) -> Csr {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    csr.spec.request = ByteString(pem(common_name, organization, &names).into_bytes());
    csr
}

#[test]
fn scenarios() {
    scenario::check("certificates/testdata/signer", |given| {
        let csr = with_request(
            given.one(),
            &given.setting::<Vec<String>>("names").unwrap_or_default(),
            &given.setting::<String>("commonName").unwrap_or_default(),
            &given.setting::<String>("organization").unwrap_or_default(),
        );
        let mut out = match plan(&csr) {
            Ok(Plan::Nothing) => return "nothing to do".to_string(),
            Ok(Plan::Fail(why)) => return format!("failed: {why}"),
            Err(error) => return format!("error: {error}"),
            Ok(Plan::Sign(signer)) => format!("signed by {}\n", signer.name()),
        };
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let end =
            given.setting("signerEnd").unwrap_or_else(|| "2030-01-01T00:00:00Z".parse().expect("a time"));
        let ttl = policy::duration(csr.spec.expiration_seconds, SignedDuration::from_hours(24 * 365));
        match policy::terms(csr.spec.usages.as_deref().unwrap_or_default(), ttl, end, now) {
            Ok(terms) => out.push_str(&format!("from {} to {}\n", terms.not_before, terms.not_after)),
            Err(error) => out.push_str(&format!("error: {error}\n")),
        }
        out
    });
}

/// Recorded by `e2e/oracle/controllers sign`: the same requests, CAs, times and serial numbers give the same bytes.
#[test]
fn certificates_are_upstreams() {
    let text = |v: &Value| v.as_str().expect("a text").to_string();
    let mut count = 0;
    for line in include_str!("../testdata/sign.jsonl").lines() {
        let record: Value = serde_json::from_str(line).expect("a record");
        let authority = Authority::from_pem(text(&record["ca"]).as_bytes(), text(&record["key"]).as_bytes())
            .expect("a CA");
        let usages: Vec<String> = serde_json::from_value(record["usages"].clone()).expect("usages");
        let now: Timestamp = text(&record["now"]).parse().expect("a time");
        let ttl = SignedDuration::from_secs(record["ttl"].as_i64().expect("seconds"));
        let terms = policy::terms(&usages, ttl, authority.not_after(), now);
        let Some(expected) = record["tbs"].as_str() else {
            assert_eq!(terms.expect_err("refused"), text(&record["error"]), "{line}");
            continue;
        };
        let terms = terms.expect("terms");
        let request = super::der(text(&record["request"]).as_bytes()).expect("a request");
        let (_, parsed) = X509CertificationRequest::from_der(&request).expect("a request");
        let serial = unhex(&text(&record["serial"]));
        let bytes = authority.to_be_signed(&parsed, &terms, &serial).expect("bytes");
        assert_eq!(hex(&bytes), expected, "{line}");
        assert!(authority.sign(&request, &terms, &serial).is_ok(), "{line}");
        count += 1;
    }
    assert!(count >= 40, "{count} certificates");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
}

fn approved(signer: &str, usages: &[&str]) -> Csr {
    let mut csr: Csr = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "r"},
        "spec": {"request": "", "signerName": signer, "usages": usages},
        "status": {"conditions": [{"type": "Approved", "status": "True"}]},
    }))
    .expect("a request");
    csr.spec.request = ByteString(pem("system:node:n", "system:nodes", &[]).into_bytes());
    csr
}

#[test]
fn a_forged_request_is_not_signed() {
    let ca = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(vec![]).expect("names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let cert = params.self_signed(&ca).expect("a certificate");
    let authority = Authority::from_pem(cert.pem().as_bytes(), ca.serialize_pem().as_bytes()).expect("a CA");
    let now = Timestamp::from_second(1_767_225_600).expect("a time");
    let terms = policy::terms(&[], SignedDuration::from_hours(1), authority.not_after(), now).expect("terms");
    let request = super::der(pem("cn", "o", &[]).as_bytes()).expect("a request");
    let signed = authority.sign(&request, &terms, &[1; 16]).expect("a certificate");
    let (_, parsed) = x509_parser::parse_x509_certificate(&signed).expect("a certificate");
    assert_eq!(
        parsed.issuer().as_raw(),
        x509_parser::parse_x509_certificate(cert.der()).expect("it").1.subject().as_raw()
    );
    let at = request.windows(2).position(|w| w == b"cn").expect("the name");
    let mut forged = request;
    forged[at] = b'x';
    let error = authority.sign(&forged, &terms, &[1; 16]).expect_err("forged");
    assert!(error.starts_with("unable to verify certificate request signature"), "{error}");
}

proptest! {
    /// A request is decided once: after the certificate or the failure is written there is nothing left to do.
    #[test]
    fn plan_then_apply_settles(
        signer in "kubernetes.io/(kubelet-serving|kube-apiserver-client-kubelet|kube-apiserver-client|legacy-unknown)|x.io/y",
        usages in proptest::collection::vec("client auth|server auth|digital signature", 0..3),
    ) {
        let usages: Vec<&str> = usages.iter().map(String::as_str).collect();
        let mut csr = approved(&signer, &usages);
        match plan(&csr) {
            Ok(Plan::Sign(_)) => {
                csr.status.get_or_insert_default().certificate = Some(ByteString(b"x".to_vec()));
            }
            Ok(Plan::Fail(why)) => csr = failed(&csr, &why, Timestamp::UNIX_EPOCH),
            other => prop_assert_eq!(other, Ok(Plan::Nothing)),
        }
        prop_assert_eq!(plan(&csr), Ok(Plan::Nothing));
    }

    /// Without an approval nothing happens, whatever is asked for.
    #[test]
    fn a_satisfied_view_needs_nothing(condition in "Denied|Failed|Other", bytes in prop::collection::vec(any::<u8>(), 0..50)) {
        let mut csr = approved("kubernetes.io/legacy-unknown", &[]);
        csr.spec.request = ByteString(bytes);
        let conditions = csr.status.get_or_insert_default().conditions.get_or_insert_default();
        conditions[0].type_ = condition;
        prop_assert_eq!(plan(&csr), Ok(Plan::Nothing));
    }

    /// A certificate never outlives its CA, nor the time asked for.
    #[test]
    fn no_certificate_lives_too_long(asked in proptest::option::of(0i32..1_000_000), left in 1i64..2_000_000) {
        let (now, longest) = (Timestamp::from_second(1_000_000_000).expect("a time"), SignedDuration::from_hours(200));
        let end = now + SignedDuration::from_secs(left);
        let ttl = policy::duration(asked, longest);
        let terms = policy::terms(&[], ttl, end, now).expect("terms");
        prop_assert!(terms.not_after <= end && terms.not_after <= now + ttl && terms.not_before < now);
    }
}
