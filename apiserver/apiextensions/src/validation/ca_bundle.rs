//! Whether the CA bundle of a conversion webhook can verify anyone.
//!
//! Upstream: `apiserver/pkg/util/webhook/validation.go` `ValidateCABundle`, `client-go/transport/transport.go`
//! `rootCertPool`, `createErrorParsingCAData`.

use machinery::pem::{self, Block};

/// Why a bundle is of no use; one usable certificate is enough.
pub(super) fn refusal(bundle: &[u8]) -> Option<String> {
    if bundle.is_empty() {
        return None;
    }
    let blocks = pem::blocks(bundle);
    let certificates = || blocks.iter().filter(|b| b.label == "CERTIFICATE" && !b.has_headers);
    if certificates().any(parses) {
        return None;
    }
    let why = if certificates().next().is_some() {
        // Go tells what it stumbles over; most often over the first byte.
        "failed to parse certificate: x509: malformed certificate"
    } else if blocks.is_empty() || !ends_with_block(bundle) {
        "unable to parse bytes as PEM block"
    } else {
        "no valid certificate authority data seen"
    };
    Some(format!("unable to load root certificates: {why}"))
}

fn parses(block: &Block) -> bool {
    x509_parser::parse_x509_certificate(&block.bytes).is_ok_and(|(rest, _)| rest.is_empty())
}

fn ends_with_block(bundle: &[u8]) -> bool {
    bundle.strip_suffix(b"\n").unwrap_or(bundle).ends_with(b"-----")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles() {
        let check = |text: &str, want: &str| {
            let why = refusal(text.as_bytes()).unwrap_or_default();
            assert_eq!(why.strip_prefix("unable to load root certificates: ").unwrap_or(&why), want);
        };
        check("", "");
        check("abc", "unable to parse bytes as PEM block");
        let block = |label: &str| format!("-----BEGIN {label}-----\nYWJj\n-----END {label}-----\n");
        check(&block("KEY"), "no valid certificate authority data seen");
        check(&format!("{}x", block("KEY")), "unable to parse bytes as PEM block");
        check(&block("CERTIFICATE"), "failed to parse certificate: x509: malformed certificate");
        // From upstream's test/integration/etcd/data.go.
        let anchor = "MIIBBDCBt6ADAgECAgEAMAUGAytlcDAQMQ4wDAYDVQQDEwVyb290MTAiGA8wMDAx\nMDEwMTAwMDAwMFoYDzAwMDEwMTAxMDAwMDAwWjAQMQ4wDAYDVQQDEwVyb290MTAq\nMAUGAytlcAMhAF2MoFeGa97gK2NGT1h6p1/a1GlMXAXbcjI/OShyIobPozIwMDAP\nBgNVHRMBAf8EBTADAQH/MB0GA1UdDgQWBBTWDdK2CNQiHqRjPaAWYPPtIykQgjAF\nBgMrZXADQQCtom9WGl7m2SAa4tXM9Soo/mbInBsRhn187BMoqTAHInHchKup5/3y\nl1tYJSZZsEXnXrCvw2qLCBNif6+2YYgE";
        check(&format!("-----BEGIN CERTIFICATE-----\n{anchor}\n-----END CERTIFICATE-----\nx"), "");
    }
}
