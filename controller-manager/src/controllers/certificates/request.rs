//! What a request in PKCS#10 asks for. Upstream: pkg/apis/certificates/helpers.go.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// Subject and alternative names.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Request {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub names: Names,
}

/// Alternative names, by their kind.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Names {
    pub dns: Vec<String>,
    pub emails: Vec<String>,
    /// Four or sixteen bytes each.
    pub addresses: Vec<Vec<u8>>,
    pub uris: Vec<String>,
}

impl Names {
    pub fn is_empty(&self) -> bool {
        self.dns.is_empty() && self.emails.is_empty() && self.addresses.is_empty() && self.uris.is_empty()
    }
}

/// The DER inside a request in PEM.
///
/// # Errors
/// It is none.
pub fn der(pem: &[u8]) -> Result<Vec<u8>, String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).map_err(|e| e.to_string())?;
    if pem.label != "CERTIFICATE REQUEST" {
        return Err("PEM block type must be CERTIFICATE REQUEST".to_string());
    }
    Ok(pem.contents)
}

/// The alternative names that a request asks for; the last list counts.
///
/// # Errors
/// An address has another length than addresses have.
pub fn names(parsed: &X509CertificationRequest<'_>) -> Result<Names, String> {
    let mut names = Names::default();
    for extension in parsed.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(list) = extension else { continue };
        names = Names::default();
        for name in &list.general_names {
            match name {
                GeneralName::DNSName(name) => names.dns.push((*name).to_string()),
                GeneralName::RFC822Name(name) => names.emails.push((*name).to_string()),
                GeneralName::URI(name) => names.uris.push((*name).to_string()),
                GeneralName::IPAddress(bytes) if matches!(bytes.len(), 4 | 16) => {
                    names.addresses.push(bytes.to_vec());
                }
                GeneralName::IPAddress(bytes) => {
                    return Err(format!("x509: cannot parse IP address of length {}", bytes.len()));
                }
                _ => {}
            }
        }
    }
    Ok(names)
}

impl Request {
    /// Reads a request in PEM.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(pem: &[u8]) -> Result<Self, String> {
        let der = der(pem)?;
        let (_, parsed) = X509CertificationRequest::from_der(&der).map_err(|e| e.to_string())?;
        let subject = &parsed.certification_request_info.subject;
        let text =
            |a: &x509_parser::x509::AttributeTypeAndValue<'_>| a.as_str().unwrap_or_default().to_string();
        Ok(Self {
            common_name: subject.iter_common_name().last().map(text).unwrap_or_default(),
            organizations: subject.iter_organization().map(text).collect(),
            names: names(&parsed)?,
        })
    }

    /// The request is that of a kubelet for its client certificate.
    ///
    /// # Errors
    /// What is against it, as upstream says it.
    pub fn check_kubelet_client(&self, usages: &[String]) -> Result<(), String> {
        self.check_organization()?;
        let refused = [
            (!self.names.dns.is_empty(), "DNS subjectAltNames are not allowed"),
            (!self.names.emails.is_empty(), "Email subjectAltNames are not allowed"),
            (!self.names.addresses.is_empty(), "IP subjectAltNames are not allowed"),
            (!self.names.uris.is_empty(), "URI subjectAltNames are not allowed"),
        ];
        if let Some((_, why)) = refused.into_iter().find(|(is, _)| *is) {
            return Err(why.to_string());
        }
        self.check_common_name()?;
        check_usages(usages, "client auth")
    }

    /// The request is that of a kubelet for its serving certificate.
    ///
    /// # Errors
    /// What is against it, as upstream says it.
    pub fn check_kubelet_serving(&self, usages: &[String]) -> Result<(), String> {
        self.check_organization()?;
        if self.names.dns.is_empty() && self.names.addresses.is_empty() {
            return Err("DNS or IP subjectAltName is required".to_string());
        }
        if !self.names.emails.is_empty() {
            return Err("Email subjectAltNames are not allowed".to_string());
        }
        if !self.names.uris.is_empty() {
            return Err("URI subjectAltNames are not allowed".to_string());
        }
        check_usages(usages, "server auth")?;
        self.check_common_name()
    }

    fn check_organization(&self) -> Result<(), String> {
        let right = self.organizations == ["system:nodes"];
        if right { Ok(()) } else { Err("subject organization is not system:nodes".to_string()) }
    }

    fn check_common_name(&self) -> Result<(), String> {
        let right = self.common_name.starts_with("system:node:");
        if right { Ok(()) } else { Err("subject common name does not begin with system:node:".to_string()) }
    }
}

/// Exactly signing, this use, and maybe encryption (which only RSA keys do).
fn check_usages(usages: &[String], auth: &str) -> Result<(), String> {
    let mut usages: Vec<&str> = usages.iter().map(String::as_str).collect();
    usages.sort_unstable();
    usages.dedup();
    let mut all = ["digital signature", "key encipherment", auth];
    all.sort_unstable();
    usages.retain(|u| *u != "key encipherment");
    let mut least = ["digital signature", auth];
    least.sort_unstable();
    if usages == least { Ok(()) } else { Err(format!("usages did not match [{}]", all.join(" "))) }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A request in PEM.
    pub fn pem(common_name: &str, organization: &str, names: &[&str]) -> String {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = rcgen::CertificateParams::new(names).expect("names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
        params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
        let key = rcgen::KeyPair::generate().expect("a key");
        params.serialize_request(&key).expect("a request").pem().expect("PEM")
    }

    fn check(common_name: &str, organization: &str, names: &[&str], usages: &[&str], expected: bool) {
        let request = Request::parse(pem(common_name, organization, names).as_bytes()).expect("a request");
        let usages: Vec<String> = usages.iter().map(ToString::to_string).collect();
        assert_eq!(
            request.check_kubelet_client(&usages).is_ok(),
            expected,
            "{common_name} {organization} {names:?} {usages:?}"
        );
    }

    #[test]
    fn requests_of_kubelets_are_recognized() {
        const USAGES: &[&str] = &["key encipherment", "client auth", "digital signature"];
        check("system:node:n1", "system:nodes", &[], USAGES, true);
        check("system:node:n1", "system:nodes", &[], &["digital signature", "client auth"], true);
        check("n1", "system:nodes", &[], USAGES, false);
        check("system:node:n1", "system:masters", &[], USAGES, false);
        check("system:node:n1", "system:nodes", &["n1"], USAGES, false);
        check("system:node:n1", "system:nodes", &["10.0.0.1"], USAGES, false);
        check("system:node:n1", "system:nodes", &[], &["server auth", "digital signature"], false);
    }

    #[test]
    fn other_bytes_are_refused() {
        assert!(Request::parse(b"").is_err());
        let other = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(
            Request::parse(other.as_bytes()).map(drop),
            Err("PEM block type must be CERTIFICATE REQUEST".to_string())
        );
    }
}
