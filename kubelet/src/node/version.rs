//! The runtime's version as the node's status shows it: what upstream can read of it.
//!
//! Upstream: newRuntimeVersion in pkg/kubelet/kuberuntime/kuberuntime_manager.go, apimachinery/pkg/util/version, v1.37.

use std::sync::LazyLock;

use regex::Regex;

static VERSION: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^\s*v?([0-9]+(?:\.[0-9]+)*)(.*)$").ok());
static EXTRA: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?\s*$")
        .ok()
});

/// `1.6.20~ds1` is shown as `1.6.20`, `v2.0.0-rc.1` as `2.0.0-rc.1`, and what is no version as `Unknown`.
pub fn shown(text: &str) -> String {
    let Some(parts) = VERSION.as_ref().and_then(|version| version.captures(text)) else { return unknown() };
    let (numbers, extra) = (&parts[1], &parts[2]);
    semantic(numbers, extra).or_else(|| generic(numbers)).unwrap_or_else(unknown)
}

fn unknown() -> String {
    "Unknown".to_owned()
}

/// True for a number with a zero in front.
fn is_padded(number: &str) -> bool {
    number.len() > 1 && number.starts_with('0') && number.bytes().all(|b| b.is_ascii_digit())
}

/// Without leading zeros; nothing if it is too large.
fn numbers<'a>(parts: impl Iterator<Item = &'a str>) -> Option<String> {
    let all: Option<Vec<String>> =
        parts.map(|part| part.parse::<u64>().ok().map(|n| n.to_string())).collect();
    all.map(|all| all.join("."))
}

fn semantic(text: &str, extra: &str) -> Option<String> {
    let parts: Vec<&str> = text.split('.').collect();
    if parts.len() != 3 || parts.iter().any(|part| is_padded(part)) {
        return None;
    }
    let found = EXTRA.as_ref()?.captures(extra)?;
    let group = |n| found.get(n).map_or("", |m| m.as_str());
    let (before, build) = (group(1), group(2));
    if before.split('.').any(is_padded) {
        return None;
    }
    let mut out = numbers(parts.into_iter())?;
    for (sign, part) in [("-", before), ("+", build)] {
        if !part.is_empty() {
            out.push_str(sign);
            out.push_str(part);
        }
    }
    Some(out)
}

fn generic(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split('.').collect();
    let first = parts.first()?;
    if parts.len() < 2 || is_padded(first) {
        return None;
    }
    numbers(parts.into_iter())
}

#[cfg(test)]
mod tests {
    /// Recorded from upstream's function (`version.ParseSemantic`, else `version.ParseGeneric`).
    #[test]
    fn as_upstream() {
        for line in include_str!("testdata/versions.txt").lines() {
            let (text, expected) = line.split_once('\t').unwrap();
            assert_eq!(super::shown(text), expected, "{text}");
        }
    }
}
