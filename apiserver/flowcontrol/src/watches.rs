//! How many watches see the events of a changing request.
//! Upstream: `k8s.io/apiserver/pkg/util/flowcontrol/watch_tracker.go`.

use std::collections::HashMap;

/// What a watch looks at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// API group.
    pub group: String,
    /// Resource.
    pub resource: String,
    /// Namespace, or empty for all.
    pub namespace: String,
    /// Name, or empty for all.
    pub name: String,
}

/// The running watches by what they look at.
#[derive(Debug, Default)]
pub struct Watches(HashMap<(String, String), HashMap<(String, String), usize>>);

impl Watches {
    /// A watch begins.
    pub fn add(&mut self, scope: &Scope) {
        let of_resource = self.0.entry((scope.group.clone(), scope.resource.clone())).or_default();
        *of_resource.entry((scope.namespace.clone(), scope.name.clone())).or_default() += 1;
    }

    /// A watch ends.
    pub fn remove(&mut self, scope: &Scope) {
        let resource = (scope.group.clone(), scope.resource.clone());
        let Some(of_resource) = self.0.get_mut(&resource) else { return };
        let object = (scope.namespace.clone(), scope.name.clone());
        if let Some(count) = of_resource.get_mut(&object) {
            *count -= 1;
            if *count == 0 {
                of_resource.remove(&object);
            }
        }
        if of_resource.is_empty() {
            self.0.remove(&resource);
        }
    }

    /// The watches that may see what a request about a scope changes: of the resource, its namespace, its object.
    #[must_use]
    pub fn interested(&self, scope: &Scope) -> usize {
        let Some(of_resource) = self.0.get(&(scope.group.clone(), scope.resource.clone())) else { return 0 };
        let count = |namespace: &str, name: &str| {
            of_resource.get(&(namespace.to_owned(), name.to_owned())).copied().unwrap_or(0)
        };
        let mut all = count("", "");
        if !scope.namespace.is_empty() {
            all += count(&scope.namespace, "");
        }
        if !scope.name.is_empty() {
            all += count(&scope.namespace, &scope.name);
        }
        all
    }
}

/// Whether a watch counts. Watches of pods on one node are indexed: an event reaches few of them, so none is counted.
#[must_use]
pub fn counts(resource: &str, field_selector: &str) -> bool {
    let on_node = |term: &str| {
        let value = term.strip_prefix("spec.nodeName=")?;
        Some(!value.trim_start_matches('=').is_empty())
    };
    resource != "pods" || !field_selector.split(',').any(|term| on_node(term) == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interested() {
        let scope = |namespace: &str, name: &str| Scope {
            group: String::new(),
            resource: "pods".into(),
            namespace: namespace.into(),
            name: name.into(),
        };
        let mut watches = Watches::default();
        for (namespace, name) in [("", ""), ("", ""), ("a", ""), ("a", "x"), ("b", "")] {
            watches.add(&scope(namespace, name));
        }
        assert_eq!(watches.interested(&scope("", "")), 2);
        assert_eq!(watches.interested(&scope("a", "")), 3);
        assert_eq!(watches.interested(&scope("a", "x")), 4);
        assert_eq!(watches.interested(&scope("c", "x")), 2);
        for (namespace, name) in [("", ""), ("", ""), ("a", ""), ("a", "x"), ("b", "")] {
            watches.remove(&scope(namespace, name));
        }
        assert!(watches.0.is_empty());
    }

    #[test]
    fn pods_of_a_node() {
        assert!(counts("pods", ""));
        assert!(counts("pods", "spec.nodeName="));
        assert!(!counts("pods", "metadata.name=x,spec.nodeName=n1"));
        assert!(counts("nodes", "spec.nodeName=n1"));
    }
}
