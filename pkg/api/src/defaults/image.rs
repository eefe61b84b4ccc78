//! The tag of an image reference, which decides the pull policy.
//!
//! Upstream: pkg/util/parsers (`ParseImageName`) on distribution/reference.

use regex::Regex;
use std::sync::LazyLock;

/// name, tag, digest
static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let component = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
    let domain = format!(r"(?:{component}(?:\.{component})*|\[(?:[a-fA-F0-9:]+)\])(?::[0-9]+)?");
    let path = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
    let tag = "[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}";
    let digest = "[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}";
    Regex::new(&format!("^((?:{domain}/)?{path}(?:/{path})*)(?::({tag}))?(?:@({digest}))?$")).ok()
});

const MAX_NAME: usize = 255;

/// The tag of a normalised reference: `latest` if it has neither tag nor digest, nothing if it is malformed.
pub(super) fn tag(image: &str) -> &str {
    parse(image).unwrap_or_default()
}

fn parse(image: &str) -> Option<&str> {
    if image.len() == 64 && image.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let (domain, rest) = split_domain(image);
    let name = rest.split(':').next().unwrap_or_default();
    if name.chars().any(char::is_uppercase) {
        return None;
    }
    let full = format!("{domain}/{rest}");
    let found = REFERENCE.as_ref()?.captures(&full)?;
    // The library's limit is on the path without the domain.
    if found.get(1)?.as_str().len() > MAX_NAME + domain.len() + 1 {
        return None;
    }
    if let Some(digest) = found.get(3)
        && !valid_digest(digest.as_str())
    {
        return None;
    }
    match (found.get(2), found.get(3)) {
        // The tag as a part of the argument, which ends as the full text does.
        (Some(t), _) => {
            image.get(image.len() - (full.len() - t.start())..image.len() - (full.len() - t.end()))
        }
        (None, Some(_)) => Some(""),
        (None, None) => Some("latest"),
    }
}

fn valid_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let size = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == size && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn split_domain(image: &str) -> (String, String) {
    const HUB: &str = "docker.io";
    let (domain, rest) = match image.split_once('/') {
        Some((d, rest))
            if d.contains(['.', ':']) || d == "localhost" || d.chars().any(char::is_uppercase) =>
        {
            (d, rest)
        }
        _ => (HUB, image),
    };
    let domain = if domain == "index.docker.io" { HUB } else { domain };
    if domain == HUB && !rest.contains('/') {
        return (domain.into(), format!("library/{rest}"));
    }
    (domain.into(), rest.into())
}

#[cfg(test)]
mod tests {
    use super::tag;

    #[test]
    fn tags() {
        let sha = format!("@sha256:{}", "a".repeat(64));
        for (image, want) in [
            ("nginx", "latest"),
            ("nginx:1.25", "1.25"),
            ("nginx:latest", "latest"),
            ("registry:5000/a/b", "latest"),
            ("registry:5000/a/b:v1", "v1"),
            ("Nginx", ""),
            ("a/B", ""),
            ("", ""),
            ("a b", ""),
            (&format!("nginx{sha}"), ""),
            (&format!("nginx:latest{sha}"), "latest"),
            ("nginx:latest@sha256:12", ""),
            (&"a".repeat(64), ""),
            (&"b".repeat(300), ""),
            ("[::1]:5000/x:latest", "latest"),
        ] {
            assert_eq!(tag(image), want, "{image}");
        }
    }
}
