//! What can be asked of the watch cache.

use std::time::Instant;

use bytes::Bytes;
use compact_str::CompactString;

use super::object::{Filter, Object};
use crate::store::Revision;

/// Which keys a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything of the resource.
    All,
    /// One namespace.
    Namespace(CompactString),
    /// One object, by its complete key.
    Key(Bytes),
}

impl Scope {
    /// The keys of the scope, below the resource's prefix: a prefix, and whether it is a single key.
    pub fn prefix(&self, resource: &str) -> (Bytes, bool) {
        match self {
            Self::All => (Bytes::copy_from_slice(resource.as_bytes()), false),
            Self::Namespace(namespace) => (format!("{resource}{namespace}/").into(), false),
            Self::Key(key) => (key.clone(), true),
        }
    }

    /// Whether an object is in scope.
    pub fn contains(&self, object: &Object) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(namespace) => object.header.namespace == *namespace,
            Self::Key(key) => object.key == *key,
        }
    }
}

/// Which state a read wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// No resource version: at least everything acknowledged before the request.
    MostRecent,
    /// `resourceVersion=0`: whatever is at hand.
    Any,
    /// At least this revision.
    NotOlderThan(Revision),
    /// Exactly this revision.
    Exact(Revision),
    /// Where this token says (lists only).
    Continue(String),
}

impl At {
    /// Reads the query parameters of a list. The combinations that are refused (rule R5) are the caller's to refuse
    /// first; what is left follows upstream's delegator, including the legacy rule that a limit makes a revision exact.
    pub fn for_list(version: &str, matching: &str, limit: usize, token: &str) -> Result<Self, String> {
        if !token.is_empty() {
            return Ok(Self::Continue(token.to_owned()));
        }
        let Some(revision) = parse_revision(version)? else { return Ok(Self::MostRecent) };
        Ok(match (matching, revision) {
            ("Exact", revision) => Self::Exact(revision),
            (_, 0) => Self::Any,
            ("", revision) if limit > 0 => Self::Exact(revision),
            (_, revision) => Self::NotOlderThan(revision),
        })
    }

    /// Reads the query parameter of a get.
    pub fn for_get(version: &str) -> Result<Self, String> {
        Ok(match parse_revision(version)? {
            None => Self::MostRecent,
            Some(0) => Self::Any,
            Some(revision) => Self::NotOlderThan(revision),
        })
    }
}

/// Reads a resource version: `None` for the empty text. The error is Go's text for a number it cannot parse.
pub fn parse_revision(text: &str) -> Result<Option<Revision>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(n) if digits => Ok(Some(Revision::try_from(n).unwrap_or(Revision::MAX))),
        Err(_) if digits => Err(format!("strconv.ParseUint: parsing {text:?}: value out of range")),
        _ => Err(format!("strconv.ParseUint: parsing {text:?}: invalid syntax")),
    }
}

/// A list.
#[derive(Clone)]
pub struct ListRequest {
    /// Which keys.
    pub scope: Scope,
    /// Which state.
    pub at: At,
    /// Objects per page; 0 for all. Ignored with [`At::Any`], as upstream does.
    pub limit: usize,
    /// Which objects; `None` for all.
    pub filter: Option<Filter>,
}

impl ListRequest {
    /// Everything, most recent.
    pub fn all() -> Self {
        Self { scope: Scope::All, at: At::MostRecent, limit: 0, filter: None }
    }
}

/// A watch.
#[derive(Clone)]
pub struct WatchRequest {
    /// Which keys.
    pub scope: Scope,
    /// The resource version given: `None` for none. 0 means "any".
    pub from: Option<Revision>,
    /// The query parameter `sendInitialEvents`.
    pub send_initial_events: Option<bool>,
    /// Whether the client understands bookmarks.
    pub bookmarks: bool,
    /// Which objects; `None` for all.
    pub filter: Option<Filter>,
    /// The value the filter requires of the resource's index field (see [`super::Config::index`]), if it does: changes
    /// of objects with other values then cost this watch nothing.
    pub index_value: Option<CompactString>,
    /// When the server will end the watch; a bookmark is sent 2 s before.
    pub deadline: Option<Instant>,
}

impl WatchRequest {
    /// Everything, from a revision.
    pub fn from(revision: Revision) -> Self {
        Self {
            scope: Scope::All,
            from: Some(revision),
            send_initial_events: None,
            bookmarks: false,
            filter: None,
            index_value: None,
            deadline: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_parameters_follow_upstreams_delegator() {
        let table = [
            ("", "", 0, "", At::MostRecent),
            ("", "", 5, "", At::MostRecent),
            ("0", "", 5, "", At::Any),
            ("0", "NotOlderThan", 0, "", At::Any),
            ("7", "", 0, "", At::NotOlderThan(7)),
            ("7", "", 5, "", At::Exact(7)),
            ("7", "NotOlderThan", 5, "", At::NotOlderThan(7)),
            ("7", "Exact", 0, "", At::Exact(7)),
            ("", "", 5, "tok", At::Continue("tok".into())),
        ];
        for (version, matching, limit, token, expected) in table {
            assert_eq!(
                At::for_list(version, matching, limit, token).unwrap(),
                expected,
                "{version} {matching} {limit}"
            );
        }
        for bad in ["x", "-1", "+1", "1.0", " 1"] {
            let text = format!("strconv.ParseUint: parsing {bad:?}: invalid syntax");
            assert_eq!(At::for_get(bad).unwrap_err(), text);
        }
        let big = "99999999999999999999";
        assert_eq!(
            At::for_get(big).unwrap_err(),
            format!("strconv.ParseUint: parsing {big:?}: value out of range")
        );
    }
}
