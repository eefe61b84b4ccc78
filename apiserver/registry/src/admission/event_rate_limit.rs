//! EventRateLimit: so many events a second, for the server, per namespace, per user, per source and object.
//!
//! Buckets are kept for as many keys as the configuration says; the one not used for longest makes room, and begins anew
//! when it comes back. Upstream: `plugin/pkg/admission/eventratelimit`.

use std::time::Instant;

use ::api::validation::field::{Bad, Error, Path, aggregate};
use async_trait::async_trait;
use hashbrown::HashMap;
use machinery::Value;
use parking_lot::Mutex;
use serde::Deserialize;

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;

/// Where the configuration names no number of keys.
const DEFAULT_KEYS: usize = 4096;

/// The plugin's configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Configuration {
    /// All limits; an event keeps to each.
    pub limits: Vec<Limit>,
}

/// One limit.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Limit {
    /// `Server`, `Namespace`, `User` or `SourceAndObject`: what has a bucket of its own.
    #[serde(rename = "type")]
    pub kind: String,
    /// Events a second.
    pub qps: i32,
    /// Events at once.
    pub burst: i32,
    /// Buckets kept; none for the server's.
    pub cache_size: i32,
}

impl Configuration {
    /// # Errors
    /// Upstream's text.
    pub fn check(&self) -> Result<(), String> {
        let root = Path::new("limits");
        let mut errors = Vec::new();
        if self.limits.is_empty() {
            errors.push(Error::invalid(&root, Bad::Raw("null".to_owned()), "must not be empty"));
        }
        for (index, limit) in self.limits.iter().enumerate() {
            let at = root.index(index);
            if Scope::parse(&limit.kind).is_none() {
                let kinds = ["Namespace", "Server", "SourceAndObject", "User"];
                errors.push(Error::not_supported(&at.child("type"), limit.kind.as_str(), &kinds));
            }
            for (field, value) in [("burst", limit.burst), ("qps", limit.qps)] {
                if value <= 0 {
                    errors.push(Error::invalid(&at.child(field), i64::from(value), "must be positive"));
                }
            }
            if limit.kind != "Server" && limit.cache_size < 0 {
                let size = i64::from(limit.cache_size);
                errors.push(Error::invalid(&at.child("cacheSize"), size, "must not be negative"));
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(aggregate(&errors)) }
    }
}

/// What has a bucket of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

impl Scope {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "Server" => Self::Server,
            "Namespace" => Self::Namespace,
            "User" => Self::User,
            "SourceAndObject" => Self::SourceAndObject,
            _ => return None,
        })
    }

    fn key(self, a: &Attributes<'_>) -> String {
        match self {
            Self::Server => String::new(),
            Self::Namespace => a.namespace.clone(),
            Self::User => a.call.request.user.name.clone(),
            Self::SourceAndObject => a.object.as_ref().map(source_and_object).unwrap_or_default(),
        }
    }
}

/// Events of events.k8s.io have other names for the same.
fn source_and_object(event: &Value) -> String {
    const PLACES: [[&[&str]; 2]; 7] = [
        [&["source", "component"], &["deprecatedSource", "component"]],
        [&["source", "host"], &["deprecatedSource", "host"]],
        [&["involvedObject", "kind"], &["regarding", "kind"]],
        [&["involvedObject", "namespace"], &["regarding", "namespace"]],
        [&["involvedObject", "name"], &["regarding", "name"]],
        [&["involvedObject", "uid"], &["regarding", "uid"]],
        [&["involvedObject", "apiVersion"], &["regarding", "apiVersion"]],
    ];
    PLACES.iter().filter_map(|places| places.iter().find_map(|place| event.str_at(place))).collect()
}

/// A token bucket.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
    /// The tick of the last use.
    used: u64,
}

/// The buckets of a limit.
struct Buckets {
    scope: Scope,
    kind: String,
    qps: f64,
    burst: f64,
    most: usize,
    state: Mutex<(HashMap<String, Bucket>, u64)>,
}

impl Buckets {
    /// `None` for a type that the check refused.
    fn new(limit: &Limit) -> Option<Self> {
        Some(Self {
            scope: Scope::parse(&limit.kind)?,
            kind: limit.kind.clone(),
            qps: f64::from(limit.qps),
            burst: f64::from(limit.burst),
            most: usize::try_from(limit.cache_size).ok().filter(|size| *size > 0).unwrap_or(DEFAULT_KEYS),
            state: Mutex::default(),
        })
    }

    fn accepts(&self, key: &str, now: Instant) -> bool {
        let mut state = self.state.lock();
        let (buckets, tick) = &mut *state;
        *tick += 1;
        if !buckets.contains_key(key) && buckets.len() >= self.most {
            let oldest = buckets.iter().min_by_key(|(_, bucket)| bucket.used).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                buckets.remove(&oldest);
            }
        }
        let full = Bucket { tokens: self.burst, at: now, used: 0 };
        let bucket = buckets.entry_ref(key).or_insert(full);
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * self.qps).min(self.burst);
        bucket.at = now;
        bucket.used = *tick;
        let enough = bucket.tokens >= 1.0;
        if enough {
            bucket.tokens -= 1.0;
        }
        enough
    }
}

/// The plugin.
pub struct EventRateLimit(Vec<Buckets>);

impl EventRateLimit {
    /// With full buckets.
    pub fn new(configuration: &Configuration) -> Self {
        Self(configuration.limits.iter().filter_map(Buckets::new).collect())
    }
}

#[async_trait]
impl Plugin for EventRateLimit {
    fn name(&self) -> &'static str {
        "EventRateLimit"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        let event = a.kind.kind == "Event" && matches!(a.kind.group, "" | "events.k8s.io");
        if !event || a.call.request.dry_run {
            return Ok(());
        }
        let now = Instant::now();
        let mut reached = Vec::new();
        for buckets in &self.0 {
            let key = buckets.scope.key(a);
            if !buckets.accepts(&key, now) {
                reached.push(format!("limit reached on type {} for key {key}", buckets.kind));
            }
        }
        match reached.as_slice() {
            [] => Ok(()),
            [one] => Err(too_many(one)),
            all => Err(too_many(&format!("[{}]", all.join(", ")))),
        }
    }
}

/// Upstream: `NewTooManyRequestsError`, which asks for no pause.
fn too_many(why: &str) -> ApiError {
    ApiError::new(429, "TooManyRequests", format!("Too many requests: {why}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn limit(kind: &str, qps: i32, burst: i32, cache_size: i32) -> Limit {
        Limit { kind: kind.to_owned(), qps, burst, cache_size }
    }

    #[test]
    fn buckets_fill_again() {
        let buckets = Buckets::new(&limit("Namespace", 2, 3, 0)).unwrap();
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut accepted = Vec::new();
        for (key, millis) in [
            ("a", 0),
            ("a", 0),
            ("a", 0),
            ("a", 0),
            ("b", 0),
            ("a", 400),
            ("a", 500),
            ("a", 501),
            ("a", 9000),
        ] {
            accepted.push(buckets.accepts(key, at(millis)));
        }
        assert_eq!(accepted, [true, true, true, false, true, false, true, false, true]);
    }

    #[test]
    fn the_oldest_makes_room() {
        let buckets = Buckets::new(&limit("User", 1, 1, 2)).unwrap();
        let now = Instant::now();
        for (key, want) in [("a", true), ("b", true), ("a", false), ("c", true), ("a", false), ("b", true)] {
            assert_eq!(buckets.accepts(key, now), want, "{key}");
        }
        assert_eq!(buckets.state.lock().0.len(), 2);
    }

    #[test]
    fn keys_of_events() {
        let core = json!({"source": {"component": "c", "host": "h"},
            "involvedObject": {"kind": "Pod", "namespace": "n", "name": "p", "uid": "u", "apiVersion": "v1"}});
        let new = json!({"deprecatedSource": {"component": "c", "host": "h"},
            "regarding": {"kind": "Pod", "namespace": "n", "name": "p", "uid": "u", "apiVersion": "v1"}});
        assert_eq!(source_and_object(&Value::from(core)), "chPodnpuv1");
        assert_eq!(source_and_object(&Value::from(new)), "chPodnpuv1");
    }

    #[test]
    fn configurations_are_checked() {
        let text = |limits: Vec<Limit>| Configuration { limits }.check();
        assert_eq!(text(vec![]).unwrap_err(), "limits: Invalid value: null: must not be empty");
        assert_eq!(text(vec![limit("Server", 1, 1, -1), limit("User", 1, 1, 0)]), Ok(()));
        assert_eq!(
            text(vec![limit("x", 0, -1, -1)]).unwrap_err(),
            "[limits[0].type: Unsupported value: \"x\": supported values: \"Namespace\", \"Server\", \
             \"SourceAndObject\", \"User\", limits[0].burst: Invalid value: -1: must be positive, limits[0].qps: \
             Invalid value: 0: must be positive, limits[0].cacheSize: Invalid value: -1: must not be negative]"
        );
    }
}
