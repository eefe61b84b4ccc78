//! Names of images. Upstream: github.com/distribution/reference and pkg/util/parsers, v1.37.

use std::sync::LazyLock;

use regex::Regex;

/// The form of a reference: name, tag and digest. Upstream: regexp.go of that package.
static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let label = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
    let host = format!(r"(?:{label}(?:\.{label})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?");
    let component = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
    let path = format!("{component}(?:/{component})*");
    let tag = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}";
    let digest = "[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]{32,}";
    let whole = format!("^((?:{host}/)?({path}))(?::({tag}))?(?:@({digest}))?$");
    regex::RegexBuilder::new(&whole).size_limit(10 << 20).build().ok()
});

/// The name of an image without tag and digest, as it was given. Upstream: Parse of that package, and
/// trimImageTagDigest in pkg/kubelet/images/pullmanager/image_pull_policies.go.
///
/// # Errors
/// Why it is not an image's name.
pub fn without_tag(image: &str) -> Result<&str, &'static str> {
    const INVALID: &str = "invalid reference format";
    let form = REFERENCE.as_ref().ok_or(INVALID)?;
    let Some(found) = form.captures(image) else {
        return Err(match image {
            "" => "repository name must have at least one component",
            _ if form.is_match(&image.to_lowercase()) => "repository name must be lowercase",
            _ => INVALID,
        });
    };
    if found.get(2).is_some_and(|path| path.len() > 255) {
        return Err("repository name must not be more than 255 characters");
    }
    if let Some(digest) = found.get(4) {
        check_digest(digest.as_str())?;
    }
    Ok(found.get(1).map_or(image, |name| name.as_str()))
}

/// Upstream: github.com/opencontainers/go-digest.
fn check_digest(digest: &str) -> Result<(), &'static str> {
    const INVALID: &str = "invalid checksum digest format";
    let (algorithm, hex) = digest.split_once(':').ok_or(INVALID)?;
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ if algorithm.bytes().any(|b| b.is_ascii_uppercase()) => return Err(INVALID),
        _ => return Err("unsupported digest algorithm"),
    };
    if hex.len() != length {
        return Err("invalid checksum digest length");
    }
    let lower = hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if lower { Ok(()) } else { Err(INVALID) }
}

/// A name that is not an image's.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("couldn't parse image name {0:?}: invalid reference format{1}")]
pub struct Invalid(String, String);

/// What a registry knows an image by, with its tag. Upstream: splitDockerDomain of that package.
fn remote_name(image: &str) -> String {
    let (domain, rest) = match image.split_once('/') {
        Some((first, rest))
            if first == "localhost" || first.contains(['.', ':']) || first.to_lowercase() != first =>
        {
            (first, rest)
        }
        _ => ("docker.io", image),
    };
    let familiar = matches!(domain, "docker.io" | "index.docker.io") && !rest.contains('/');
    if familiar { format!("library/{rest}") } else { rest.to_owned() }
}

/// What upstream adds where that has capital letters. Upstream: ParseNormalizedNamed of that package.
fn capitals(image: &str) -> String {
    let remote = remote_name(image);
    let path = remote.split(':').next().unwrap_or(&remote);
    if path.to_lowercase() == path {
        return String::new();
    }
    format!(": repository name ({path}) must be lowercase")
}

/// The name with the tag `latest` if it has neither tag nor digest.
///
/// # Errors
/// If the name is not an image's.
pub fn with_default_tag(image: &str) -> Result<String, Invalid> {
    let invalid = || Invalid(image.to_owned(), capitals(image));
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    if digest.is_some_and(|d| d.split_once(':').is_none_or(|(_, hex)| hex.len() < 32)) {
        return Err(invalid());
    }
    let last = name.rsplit('/').next().unwrap_or(name);
    let (path, tag) = match last.rfind(':') {
        Some(at) => {
            let cut = name.len() - last.len() + at;
            (&name[..cut], Some(&name[cut + 1..]))
        }
        None => (name, None),
    };
    let good_tag = |tag: &str| {
        !tag.is_empty()
            && tag.len() <= 128
            && !tag.starts_with(['.', '-'])
            && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    };
    if tag.is_some_and(|tag| !good_tag(tag)) || !good_path(path) {
        return Err(invalid());
    }
    Ok(if tag.is_none() && digest.is_none() { format!("{image}:latest") } else { image.to_owned() })
}

fn good_path(path: &str) -> bool {
    let mut parts = path.split('/');
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let registry = !rest.is_empty() && (first.contains(['.', ':']) || first == "localhost");
    let good = |part: &str| {
        let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        part.bytes().next().is_some_and(alphanumeric)
            && part.bytes().last().is_some_and(alphanumeric)
            && part.bytes().all(|b| alphanumeric(b) || b"_.-".contains(&b))
    };
    let first_good = if registry {
        first.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b))
    } else {
        good(first)
    };
    first_good && rest.iter().all(|part| good(part))
}

/// Registry and path of an image, for matching credentials: `docker.io` names are completed.
pub fn repository(image: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let last_start = name.rfind('/').map_or(0, |at| at + 1);
    let name = match name[last_start..].rfind(':') {
        Some(at) => &name[..last_start + at],
        None => name,
    };
    let (host, path) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => ("docker.io", name),
    };
    match host {
        "docker.io" | "index.docker.io" if !path.contains('/') => format!("docker.io/library/{path}"),
        "index.docker.io" => format!("docker.io/{path}"),
        _ => format!("{host}/{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_tags() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for (image, expected) in [
            ("busybox", "busybox:latest"),
            ("busybox:1", "busybox:1"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
            (&digest, &digest),
        ] {
            assert_eq!(with_default_tag(image).as_deref(), Ok(expected), "{image}");
        }
        let capitals = [
            ("NO//NAME:of:image", ": repository name (/NAME) must be lowercase"),
            ("Busybox", ": repository name (library/Busybox) must be lowercase"),
            ("docker.io/A", ": repository name (library/A) must be lowercase"),
            ("reg:5000/a/B:1", ": repository name (a/B) must be lowercase"),
            ("a//b:T", ""),
        ];
        for (image, added) in capitals {
            let text = with_default_tag(image).unwrap_err().to_string();
            assert_eq!(text, format!("couldn't parse image name {image:?}: invalid reference format{added}"));
        }
        for bad in ["", "Busybox", "a:", "a b", "a//b", "a@sha256:1", "/a", "-a"] {
            assert!(with_default_tag(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn repositories() {
        assert_eq!(repository("busybox:1"), "docker.io/library/busybox");
        assert_eq!(repository("a/b"), "docker.io/a/b");
        assert_eq!(repository("reg:5000/a:1"), "reg:5000/a");
        assert_eq!(repository("index.docker.io/a"), "docker.io/library/a");
    }
}
