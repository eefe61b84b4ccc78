//! Which resource a key of the store belongs to.

use std::collections::HashMap;

/// A resource, or a wildcard: `*` of a group, `*.*` of all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct GroupResource {
    pub(crate) group: String,
    pub(crate) resource: String,
}

impl GroupResource {
    /// `resource.group`. Upstream: `schema.ParseGroupResource`.
    pub(crate) fn parse(text: &str) -> Self {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        Self::new(group, resource)
    }

    pub(crate) fn new(group: &str, resource: &str) -> Self {
        Self { group: group.to_owned(), resource: resource.to_owned() }
    }
}

impl std::fmt::Display for GroupResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.group.as_str(), self.resource.as_str()) {
            ("", "*") => f.write_str("*."),
            ("", resource) => f.write_str(resource),
            (group, resource) => write!(f, "{resource}.{group}"),
        }
    }
}

/// The places of resources below the store's prefix.
pub(crate) struct Places {
    prefix: String,
    known: HashMap<&'static str, GroupResource>,
}

impl Places {
    /// Of the built-in resources; `prefix` is the store's.
    pub(crate) fn new(prefix: &str) -> Self {
        let mut known = HashMap::new();
        for row in api::resources::resources() {
            if let Some(stored) = &row.stored {
                // Two groups may share a place (`events`); upstream's is that of the core group.
                let entry = known.entry(stored.key);
                let of_row = GroupResource::new(row.kind.group, row.resource);
                let kept = entry.or_insert_with(|| of_row.clone());
                if row.kind.group.is_empty() {
                    *kept = of_row;
                }
            }
        }
        Self { prefix: format!("{}/", prefix.trim_end_matches('/')), known }
    }

    /// The resource of a key; `None` for what has no API.
    pub(crate) fn resource(&self, key: &str) -> Option<GroupResource> {
        let rest = key.strip_prefix(&self.prefix)?;
        let mut ends = rest.match_indices('/').map(|(at, _)| at);
        let (first, second) = (ends.next()?, ends.next());
        if let Some(found) = second.and_then(|end| self.known.get(rest.get(..end)?)) {
            return Some(found.clone());
        }
        let (group, rest_of) = (rest.get(..first)?, rest.get(first + 1..)?);
        if let Some(found) = self.known.get(group) {
            return Some(found.clone());
        }
        // Custom resources are below their group, whose name has a point.
        let resource = rest_of.split('/').next().filter(|_| second.is_some() && group.contains('.'))?;
        Some(GroupResource::new(group, resource))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let places = Places::new("/registry");
        let check = |key: &str, want: Option<&str>| {
            assert_eq!(places.resource(key).map(|r| r.to_string()).as_deref(), want, "{key}");
        };
        check("/registry/secrets/ns/name", Some("secrets"));
        check("/registry/minions/n", Some("nodes"));
        check("/registry/services/specs/ns/a", Some("services"));
        check("/registry/services/endpoints/ns/a", Some("endpoints"));
        check("/registry/deployments/ns/a", Some("deployments.apps"));
        check("/registry/events/ns/a", Some("events"));
        check("/registry/example.com/widgets/ns/a", Some("widgets.example.com"));
        check("/registry/apiregistration.k8s.io/apiservices/v1.", Some("apiservices.apiregistration.k8s.io"));
        check("/registry/ranges/servicenodeports", None);
        check("/registry/masterleases/1.2.3.4", None);
        check("/other/secrets/ns/name", None);
    }

    #[test]
    fn names() {
        for text in ["secrets", "*.", "*.*", "*.apps", "deployments.apps", "a.b.c"] {
            assert_eq!(GroupResource::parse(text).to_string(), text);
        }
        assert_eq!(GroupResource::parse("*."), GroupResource::new("", "*"));
    }
}
