//! Asking the API server for a certificate. Upstream: client-go/util/certificate/csr/csr.go, v1.37.

use std::net::IpAddr;
use std::time::Duration;

use client::Client;
use informer::{Event, Informer, Options};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use tokio_util::sync::CancellationToken;

/// What the certificate is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The subject's name.
    pub common_name: String,
    /// The subject's organization.
    pub organization: String,
    /// Names of hosts.
    pub dns_names: Vec<String>,
    /// Addresses of hosts.
    pub ips: Vec<IpAddr>,
}

impl Template {
    /// The subject of every node's certificates.
    pub fn of_node(node: &str) -> Self {
        Self {
            common_name: format!("system:node:{node}"),
            organization: "system:nodes".to_owned(),
            dns_names: Vec::new(),
            ips: Vec::new(),
        }
    }

    /// The signing request in PEM.
    ///
    /// # Errors
    /// If a name is none that a certificate can hold.
    pub fn sign(&self, key: &KeyPair) -> Result<String, String> {
        let failed = |e: rcgen::Error| format!("unable to generate certificate request: {e}");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, self.organization.clone());
        params.distinguished_name.push(DnType::CommonName, self.common_name.clone());
        for name in &self.dns_names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().map_err(failed)?));
        }
        params.subject_alt_names.extend(self.ips.iter().copied().map(SanType::IpAddress));
        params.serialize_request(key).and_then(|request| request.pem()).map_err(failed)
    }
}

/// A request that can be sent.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Name of the object; empty lets the API server choose one that starts with `csr-`.
    pub name: &'a str,
    /// Who is to sign.
    pub signer: &'a str,
    /// What the certificate is to be good for.
    pub usages: &'a [&'a str],
    /// The request in PEM.
    pub pem: &'a str,
}

/// Sends the request, or finds it again if it was sent before under the same name. Answers with name and id.
///
/// # Errors
/// If the API server refuses.
pub async fn send(client: &Client, request: &Request<'_>) -> client::Result<(String, String)> {
    let mut object = CertificateSigningRequest {
        spec: CertificateSigningRequestSpec {
            request: ByteString(request.pem.as_bytes().to_vec()),
            signer_name: request.signer.to_owned(),
            usages: Some(request.usages.iter().map(|u| (*u).to_owned()).collect()),
            ..CertificateSigningRequestSpec::default()
        },
        ..CertificateSigningRequest::default()
    };
    if request.name.is_empty() {
        object.metadata.generate_name = Some("csr-".to_owned());
    } else {
        object.metadata.name = Some(request.name.to_owned());
    }
    let api = client.all::<CertificateSigningRequest>();
    let known = match api.create(&object).await {
        Err(error) if error.is_already_exists() && !request.name.is_empty() => api.get(request.name).await?,
        other => other?,
    };
    Ok((known.metadata.name.unwrap_or_default(), known.metadata.uid.unwrap_or_default()))
}

/// What has become of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Waiting,
    /// The certificate.
    Issued(Vec<u8>),
    /// There will be none, and why.
    Refused(String),
}

/// Reads the state of a request that was sent as `uid`.
pub fn verdict(request: &CertificateSigningRequest, uid: &str) -> Verdict {
    let name = request.metadata.name.as_deref().unwrap_or_default();
    if request.metadata.uid.as_deref() != Some(uid) {
        return Verdict::Refused(format!("csr {name:?} changed UIDs"));
    }
    let status = request.status.clone().unwrap_or_default();
    let mut approved = false;
    for condition in status.conditions.iter().flatten() {
        let why = || {
            format!(
                "reason: {}, message: {}",
                condition.reason.as_deref().unwrap_or_default(),
                condition.message.as_deref().unwrap_or_default()
            )
        };
        match condition.type_.as_str() {
            "Denied" => {
                return Verdict::Refused(format!("certificate signing request is denied, {}", why()));
            }
            "Failed" => return Verdict::Refused(format!("certificate signing request failed, {}", why())),
            "Approved" => approved = true,
            _ => {}
        }
    }
    match status.certificate.filter(|c| approved && !c.0.is_empty()) {
        Some(certificate) => Verdict::Issued(certificate.0),
        None => Verdict::Waiting,
    }
}

/// Waits until the request is decided.
///
/// # Errors
/// If it is refused or removed, or takes longer than `patience`, or `stop` comes first.
pub async fn wait(
    client: &Client,
    (name, uid): (&str, &str),
    patience: Duration,
    stop: &CancellationToken,
) -> Result<Vec<u8>, String> {
    let options = Options::default().fields(&format!("metadata.name={name}"));
    let informer = Informer::new(client.all::<CertificateSigningRequest>(), options);
    let watch = stop.child_token();
    let mut events = informer.events();
    informer.start(&watch);
    let decided = async {
        while let Some(event) = events.next().await {
            let seen = match event {
                Event::Deleted(_) => Verdict::Refused(format!("csr {name:?} was deleted")),
                Event::Added(request) | Event::Updated { new: request, .. } => verdict(&request, uid),
            };
            match seen {
                Verdict::Waiting => {}
                Verdict::Issued(certificate) => return Ok(certificate),
                Verdict::Refused(why) => {
                    return Err(format!("cannot watch on the certificate signing request: {why}"));
                }
            }
        }
        Err("the kubelet is stopping".to_owned())
    };
    let result = tokio::select! {
        result = tokio::time::timeout(patience, decided) => result,
        () = stop.cancelled() => Ok(Err("the kubelet is stopping".to_owned())),
    };
    watch.cancel();
    result.unwrap_or_else(|_| {
        Err("timed out waiting for the certificate signing request to be approved and signed".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

    #[test]
    fn signs_as_go_would() {
        let key = KeyPair::generate().unwrap();
        let mut template = Template::of_node("n1");
        let der = |pem: &str| x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap().1.contents;
        let plain = der(&template.sign(&key).unwrap());
        let (_, request) = X509CertificationRequest::from_der(&plain).unwrap();
        let info = &request.certification_request_info;
        // Organization comes first, as in Go's pkix.Name.
        assert_eq!(info.subject.to_string(), "O=system:nodes, CN=system:node:n1");
        // The approver refuses client requests with alternative names.
        assert!(request.requested_extensions().is_none_or(|mut e| e.next().is_none()));
        template.dns_names = vec!["n1".into()];
        template.ips = vec!["10.0.0.1".parse().unwrap()];
        let named = der(&template.sign(&key).unwrap());
        let (_, request) = X509CertificationRequest::from_der(&named).unwrap();
        assert_eq!(request.requested_extensions().unwrap().count(), 1);
    }

    #[test]
    fn verdicts() {
        let read = |uid: &str, status| {
            let object: CertificateSigningRequest = serde_json::from_value(json!({
                "metadata": {"name": "csr-1", "uid": uid},
                "spec": {"request": "", "signerName": ""},
                "status": status
            }))
            .unwrap();
            verdict(&object, "u")
        };
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "R", "message": "M"});
        let refused = |text: &str| Verdict::Refused(text.to_owned());
        assert_eq!(read("u", json!({})), Verdict::Waiting);
        assert_eq!(read("other", json!({})), refused("csr \"csr-1\" changed UIDs"));
        assert_eq!(read("u", json!({"conditions": [condition("Approved")]})), Verdict::Waiting);
        // A certificate without approval is none.
        assert_eq!(read("u", json!({"certificate": "YQ=="})), Verdict::Waiting);
        let issued = json!({"conditions": [condition("Approved")], "certificate": "YQ=="});
        assert_eq!(read("u", issued), Verdict::Issued(b"a".to_vec()));
        assert_eq!(
            read("u", json!({"conditions": [condition("Denied")], "certificate": "YQ=="})),
            refused("certificate signing request is denied, reason: R, message: M")
        );
    }
}
