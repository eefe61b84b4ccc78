//! Whether a certificate and a private key are a pair, as servers that read them would say.
//! Upstream: Go's `crypto/tls` `X509KeyPair`, by `pkg/registry/core/secret/strategy.go` `warningsForSecret`. The texts of
//! certificates that cannot be read are not Go's; of keys of kinds that tokens cannot have, nothing is said.

use auth::csr::PublicKey;
use auth::jwt::keys::{SigningKey, VerifyingKey};
use machinery::pem::{self, Block};

/// What is wrong with the pair.
pub fn problem(certificate: &[u8], key: &[u8]) -> Option<String> {
    let chain = pem::blocks(certificate);
    let Some(leaf) = chain.iter().find(|b| b.label == "CERTIFICATE") else {
        return Some(no_certificate(&labels(&chain)));
    };
    let blocks = pem::blocks(key);
    let is_key = |b: &&Block| b.label == "PRIVATE KEY" || b.label.ends_with(" PRIVATE KEY");
    let Some(private) = blocks.iter().find(is_key) else { return Some(no_key(&labels(&blocks))) };
    if PublicKey::of_certificate(&leaf.bytes).is_none() {
        return Some("x509: malformed certificate".to_owned());
    }
    let private = match SigningKey::from_pem(pem::encode(&private.label, &private.bytes).as_bytes()) {
        Ok(key) => key,
        // A sequence in DER may well be a key of another kind.
        Err(_) if private.bytes.first() == Some(&0x30) => return None,
        Err(_) => return Some("tls: failed to parse private key".to_owned()),
    };
    let public = VerifyingKey::from_pem(pem::encode(&leaf.label, &leaf.bytes).as_bytes()).ok()?;
    let public = public.first()?;
    if public.id() == private.public().id() {
        return None;
    }
    // RS256, ES256 and so on: the kind of key is in the first letter.
    let kind = |algorithm: &str| algorithm.chars().next();
    let same = kind(public.algorithm()) == kind(private.algorithm());
    Some(if same {
        "tls: private key does not match public key".to_owned()
    } else {
        "tls: private key type does not match public key type".to_owned()
    })
}

fn labels(blocks: &[Block]) -> Vec<&str> {
    blocks.iter().map(|b| b.label.as_str()).collect()
}

fn no_certificate(skipped: &[&str]) -> String {
    match skipped {
        [] => "tls: failed to find any PEM data in certificate input".to_owned(),
        [one] if one.ends_with("PRIVATE KEY") => "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched".to_owned(),
        all => format!(
            "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following types: [{}]",
            all.join(" ")
        ),
    }
}

fn no_key(skipped: &[&str]) -> String {
    match skipped {
        [] => "tls: failed to find any PEM data in key input".to_owned(),
        ["CERTIFICATE"] => {
            "tls: found a certificate rather than a key in the PEM for the private key".to_owned()
        }
        all => format!(
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the following types: [{}]",
            all.join(" ")
        ),
    }
}
