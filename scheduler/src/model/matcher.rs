//! Which pods a term of affinity, or a spread constraint, means.

use std::fmt::Write;

use machinery::labels::Selector;

use super::cache::Namespaces;
use super::pod::PodInfo;

/// Namespaces by name or labels, and pods by labels.
#[derive(Clone, Debug)]
pub struct Part {
    pub namespaces: Vec<String>,
    pub namespace_selector: Selector,
    pub selector: Selector,
}

impl Part {
    fn matches(&self, pod: &PodInfo, namespaces: &Namespaces) -> bool {
        let named = self.namespaces.iter().any(|n| **n == *pod.namespace);
        (named || self.namespace_matches(&pod.namespace, namespaces))
            && self.selector.matches(&pod.labels.map)
    }

    fn namespace_matches(&self, namespace: &str, namespaces: &Namespaces) -> bool {
        !self.namespace_selector.is_nothing() && self.namespace_selector.matches(&namespaces.get(namespace))
    }
}

/// Pods that all parts mean.
#[derive(Debug)]
pub struct Matcher {
    /// Equal matchers have the same number.
    pub id: u64,
    pub parts: Vec<Part>,
    /// Pods that are about to go do not count.
    pub alive: bool,
}

impl Matcher {
    pub fn matches(&self, pod: &PodInfo, namespaces: &Namespaces) -> bool {
        if self.parts.is_empty() || (self.alive && pod.terminating) {
            return false;
        }
        self.parts.iter().all(|p| p.matches(pod, namespaces))
    }

    /// Whether answers depend on labels of namespaces.
    pub fn by_namespace_labels(&self) -> bool {
        self.parts.iter().any(|p| !p.namespace_selector.is_nothing())
    }

    /// Says everything that decides.
    pub(super) fn text(parts: &[Part], alive: bool) -> String {
        let mut text = String::from(if alive { "+" } else { "" });
        let selector = |s: &Selector| if s.is_nothing() { "\u{1}none".to_string() } else { s.to_string() };
        for part in parts {
            let mut names: Vec<&str> = part.namespaces.iter().map(String::as_str).collect();
            names.sort_unstable();
            let (outer, inner) = (selector(&part.namespace_selector), selector(&part.selector));
            // Writing to a string cannot fail.
            let _ = write!(text, "{}\u{2}{outer}\u{2}{inner}\u{3}", names.join(","));
        }
        text
    }
}
