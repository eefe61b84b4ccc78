//! Which images on the node must be verified. Upstream: image_pull_policies.go, v1.37.

use std::collections::HashSet;

use super::super::reference::without_tag;

/// `imagePullCredentialsVerificationPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// None.
    Never,
    /// Those that the kubelet pulled.
    NeverPreloaded,
    /// All but these.
    NeverAllowlisted(Allowlist),
    /// All.
    Always,
}

/// Images that everyone may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowlist {
    names: HashSet<String>,
    prefixes: Vec<String>,
}

impl Policy {
    /// The policy of that name.
    ///
    /// # Errors
    /// If there is none, or a pattern is none.
    pub fn new(name: &str, allowlist: &[String]) -> Result<Self, String> {
        Ok(match name {
            "NeverVerify" => Self::Never,
            "NeverVerifyPreloadedImages" => Self::NeverPreloaded,
            "NeverVerifyAllowlistedImages" => Self::NeverAllowlisted(Allowlist::new(allowlist)?),
            "AlwaysVerify" => Self::Always,
            _ => return Err(format!("unknown image pull credential verification policy: {name}")),
        })
    }

    /// Whether a pod must show that it may use an image that is here; `by_kubelet` if the kubelet pulled it.
    pub fn requires_verification(&self, image: &str, by_kubelet: bool) -> bool {
        match self {
            Self::Never => false,
            Self::NeverPreloaded => by_kubelet,
            Self::NeverAllowlisted(allowlist) => !allowlist.has(image),
            Self::Always => true,
        }
    }
}

impl Allowlist {
    fn new(patterns: &[String]) -> Result<Self, String> {
        let mut out = Self::default();
        for pattern in patterns {
            match read(pattern)? {
                Pattern::Name(name) => drop(out.names.insert(name.to_owned())),
                Pattern::Prefix(prefix) => out.prefixes.push(prefix.to_owned()),
            }
        }
        Ok(out)
    }

    fn has(&self, image: &str) -> bool {
        // A name that is none may still be in the list.
        let name = without_tag(image).unwrap_or(image);
        self.names.contains(name) || self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }
}

enum Pattern<'a> {
    Name(&'a str),
    Prefix(&'a str),
}

/// Whether a pattern of `preloadedImagesVerificationAllowlist` is one.
///
/// # Errors
/// Why it is not.
pub fn validate(pattern: &str) -> Result<(), String> {
    read(pattern).map(drop)
}

fn read(pattern: &str) -> Result<Pattern<'_>, String> {
    if pattern != pattern.trim() {
        return Err(format!("leading/trailing spaces are not allowed: {pattern}"));
    }
    let prefix = if pattern.ends_with("/*") { pattern.strip_suffix('*') } else { None };
    let text = prefix.unwrap_or(pattern);
    if text.is_empty() {
        return Err(format!("the supplied pattern is too short: {pattern}"));
    }
    if text.contains('*') {
        return Err(format!(
            "not a valid wildcard pattern, only patterns ending with '/*' are allowed: {pattern}"
        ));
    }
    if let Some(prefix) = prefix {
        if prefix.len() == 1 {
            return Err("at least registry hostname is required".to_owned());
        }
        return Ok(Pattern::Prefix(prefix));
    }
    let name = without_tag(text).map_err(|e| format!("failed to parse as an image name: {e}"))?;
    if name != text {
        return Err(format!("neither tag nor digest is accepted in an image reference: {pattern}"));
    }
    Ok(Pattern::Name(text))
}
