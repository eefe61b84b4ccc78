//! What a request in PKCS#10 asks for. Upstream: pkg/apis/certificates/helpers.go.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// Subject and alternative names.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Request {
    pub common_name: String,
    pub organizations: Vec<String>,
    /// DNS names, addresses, e-mail addresses, URIs.
    pub alternative_names: usize,
}

impl Request {
    /// Reads a request in PEM.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(pem: &[u8]) -> Result<Self, String> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem).map_err(|e| e.to_string())?;
        if pem.label != "CERTIFICATE REQUEST" {
            return Err("PEM block type must be CERTIFICATE REQUEST".to_string());
        }
        let (_, parsed) = X509CertificationRequest::from_der(&pem.contents).map_err(|e| e.to_string())?;
        let subject = &parsed.certification_request_info.subject;
        let text =
            |a: &x509_parser::x509::AttributeTypeAndValue<'_>| a.as_str().unwrap_or_default().to_string();
        let names = parsed.requested_extensions().into_iter().flatten().map(|extension| match extension {
            ParsedExtension::SubjectAlternativeName(names) => {
                names.general_names.iter().filter(|n| counts(n)).count()
            }
            _ => 0,
        });
        Ok(Self {
            common_name: subject.iter_common_name().last().map(text).unwrap_or_default(),
            organizations: subject.iter_organization().map(text).collect(),
            alternative_names: names.sum(),
        })
    }

    /// The request is that of a kubelet for its client certificate.
    pub fn is_kubelet_client(&self, usages: &[String]) -> bool {
        let mut usages: Vec<&str> = usages.iter().map(String::as_str).collect();
        usages.sort_unstable();
        usages.dedup();
        self.organizations == ["system:nodes"]
            && self.alternative_names == 0
            && self.common_name.starts_with("system:node:")
            && (usages == ["client auth", "digital signature"]
                || usages == ["client auth", "digital signature", "key encipherment"])
    }
}

fn counts(name: &GeneralName<'_>) -> bool {
    matches!(
        name,
        GeneralName::DNSName(_)
            | GeneralName::IPAddress(_)
            | GeneralName::RFC822Name(_)
            | GeneralName::URI(_)
    )
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
            request.is_kubelet_client(&usages),
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
