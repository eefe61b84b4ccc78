//! The read-change-write loop: what upstream calls GuaranteedUpdate (apiserver `pkg/storage/etcd3/store.go`).
//!
//! The caller's function maps the current version to the next one; it may run several times and must not have effects.
//! A mutation is never applied twice: each attempt replaces exactly the version it was computed from, and an attempt
//! whose fate is unknown (timeout, lost connection) ends the loop with that error instead of being repeated.

use std::time::Duration;

use bytes::Bytes;

use crate::error::Error;
use crate::store::{KeyValue, Revision, Store};

/// What the caller's function decided.
#[derive(Clone, Debug)]
pub enum Change {
    /// Write this value.
    Put {
        /// The new bytes.
        value: Bytes,
        /// The key's remaining life.
        ttl: Option<Duration>,
    },
    /// Delete the key.
    Delete,
    /// Write nothing, use no revision (a put of the bytes already stored is taken as this). Only taken at face value when the current version was read from the store.
    Keep,
}

/// The outcome of an update.
#[derive(Clone, Debug)]
pub struct Updated {
    /// The mod revision of the key after the update (of the deletion, for [`Change::Delete`]).
    pub revision: Revision,
    /// The version the change was computed from.
    pub previous: Option<KeyValue>,
    /// The value written; `None` when nothing was written or the key was deleted.
    pub value: Option<Bytes>,
}

/// Applies `change` to the current version of `key`, retrying when another writer was faster.
///
/// `suggestion` is a version believed to be current, typically from the watch cache: it saves the read when right. An
/// error or [`Change::Keep`] computed from a suggestion is not trusted: the key is read and the function asked again.
/// With `must_exist`, a missing key is `NotFound` and the function is not called.
pub async fn guaranteed_update<S, F, E>(
    store: &S,
    key: &str,
    suggestion: Option<KeyValue>,
    must_exist: bool,
    mut change: F,
) -> Result<Updated, E>
where
    S: Store + ?Sized,
    F: FnMut(Option<&KeyValue>) -> Result<Change, E> + Send,
    E: From<Error> + Send,
{
    let mut fresh = suggestion.is_none();
    let mut current = match suggestion {
        Some(kv) => Some(kv),
        None => store.get(key, 0).await?.kv,
    };
    loop {
        if must_exist && current.is_none() {
            return Err(Error::NotFound { key: key.to_owned(), revision: 0 }.into());
        }
        let expected = current.as_ref().map_or(0, |kv| kv.mod_revision);
        let decided = change(current.as_ref()).map(|change| normalize(change, current.as_ref()));
        if !fresh && matches!(decided, Err(_) | Ok(Change::Keep)) {
            fresh = true;
            let now = store.get(key, 0).await?.kv;
            if now.as_ref().map_or(0, |kv| kv.mod_revision) != expected {
                current = now;
                continue;
            }
        }
        let outcome = match decided? {
            Change::Keep => return Ok(Updated { revision: expected, previous: current, value: None }),
            Change::Delete if current.is_none() => {
                return Ok(Updated { revision: 0, previous: None, value: None });
            }
            Change::Delete => store.delete(key, expected).await.map(|revision| (revision, None)),
            Change::Put { value, ttl } => {
                store.update(key, value.clone(), expected, ttl).await.map(|revision| (revision, Some(value)))
            }
        };
        match outcome {
            Ok((revision, value)) => return Ok(Updated { revision, previous: current, value }),
            Err(Error::Conflict { current: now, .. }) => current = now.map(|kv| *kv),
            Err(Error::AlreadyExists { current: now, .. }) => current = Some(*now),
            Err(Error::NotFound { .. }) if expected != 0 => current = None,
            Err(error) => return Err(error.into()),
        }
        fresh = true;
    }
}

/// A put of the bytes already stored is no change: it must not use a revision (R2).
fn normalize(change: Change, current: Option<&KeyValue>) -> Change {
    match change {
        Change::Put { value, .. } if current.is_some_and(|kv| kv.value == value) => Change::Keep,
        other => other,
    }
}
