//! Names of images. Upstream: github.com/distribution/reference and pkg/util/parsers, v1.37.

/// A name that is not an image's.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("couldn't parse image name {0:?}: invalid reference format")]
pub struct Invalid(String);

/// The name with the tag `latest` if it has neither tag nor digest.
///
/// # Errors
/// If the name is not an image's.
pub fn with_default_tag(image: &str) -> Result<String, Invalid> {
    let invalid = || Invalid(image.to_owned());
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
    match name.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
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
        for bad in ["", "Busybox", "a:", "a b", "a//b", "a@sha256:1", "/a", "-a"] {
            assert!(with_default_tag(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn repositories() {
        assert_eq!(repository("busybox:1"), "docker.io/library/busybox");
        assert_eq!(repository("a/b"), "docker.io/a/b");
        assert_eq!(repository("reg:5000/a:1"), "reg:5000/a");
    }
}
