//! How many watches see the events of a changing request.
//! Upstream: `k8s.io/apiserver/pkg/util/flowcontrol/watch_tracker.go`.

use std::collections::HashMap;

/// What a watch looks at, or what a request changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope<'a> {
    /// API group.
    pub group: &'a str,
    /// Resource.
    pub resource: &'a str,
    /// Namespace, or empty for all.
    pub namespace: &'a str,
    /// Name, or empty for all.
    pub name: &'a str,
}

/// The running watches by what they look at: group, resource, namespace, name. Nested, so that every changing request
/// can look them up by the texts it has.
#[derive(Debug, Default)]
pub struct Watches(Of<Of<Of<Of<usize>>>>);

type Of<T> = HashMap<String, T>;

impl Watches {
    /// A watch begins.
    pub fn add(&mut self, scope: Scope<'_>) {
        let resources = self.0.entry(scope.group.to_owned()).or_default();
        let namespaces = resources.entry(scope.resource.to_owned()).or_default();
        let names = namespaces.entry(scope.namespace.to_owned()).or_default();
        *names.entry(scope.name.to_owned()).or_default() += 1;
    }

    /// A watch ends.
    pub fn remove(&mut self, scope: Scope<'_>) {
        shrink(&mut self.0, scope.group, |resources| {
            shrink(resources, scope.resource, |namespaces| {
                shrink(namespaces, scope.namespace, |names| {
                    shrink(names, scope.name, |count| {
                        *count -= 1;
                        *count == 0
                    })
                })
            })
        });
    }

    /// The watches that may see what a request about a scope changes: of the resource, its namespace, its object.
    #[must_use]
    pub fn interested(&self, scope: Scope<'_>) -> usize {
        let of_resource = self.0.get(scope.group).and_then(|resources| resources.get(scope.resource));
        let Some(of_resource) = of_resource else { return 0 };
        let count = |namespace: &str, name: &str| {
            of_resource.get(namespace).and_then(|names| names.get(name)).copied().unwrap_or(0)
        };
        let mut all = count("", "");
        if !scope.namespace.is_empty() {
            all += count(scope.namespace, "");
        }
        if !scope.name.is_empty() {
            all += count(scope.namespace, scope.name);
        }
        all
    }
}

/// Changes an entry, which goes when `change` says that nothing is left of it; tells whether that leaves nothing.
fn shrink<T>(map: &mut Of<T>, key: &str, change: impl FnOnce(&mut T) -> bool) -> bool {
    if map.get_mut(key).is_some_and(change) {
        map.remove(key);
    }
    map.is_empty()
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
        let scope = |namespace, name| Scope { group: "", resource: "pods", namespace, name };
        let mut watches = Watches::default();
        for (namespace, name) in [("", ""), ("", ""), ("a", ""), ("a", "x"), ("b", "")] {
            watches.add(scope(namespace, name));
        }
        assert_eq!(watches.interested(scope("", "")), 2);
        assert_eq!(watches.interested(scope("a", "")), 3);
        assert_eq!(watches.interested(scope("a", "x")), 4);
        assert_eq!(watches.interested(scope("c", "x")), 2);
        for (namespace, name) in [("", ""), ("", ""), ("a", ""), ("a", "x"), ("b", "")] {
            watches.remove(scope(namespace, name));
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
