//! What a read of the watch cache answers instead of data, with upstream's texts. The server turns them into statuses.

use std::sync::Arc;

use crate::error::Error as StoreError;
use crate::store::Revision;

/// The text of a list at a revision that is gone.
pub const LIST_EXPIRED: &str = "The resourceVersion for the provided list is too old.";
/// The text of a watch from a revision that the store has compacted.
pub const WATCH_EXPIRED: &str = "The resourceVersion for the provided watch is too old.";
/// The text of a page token whose snapshot is gone, when there is no way to go on.
pub const CONTINUE_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You \
can start a new list without the continue parameter.";
/// The text of a page token whose snapshot is gone, with a fresh token beside it.
pub const CONTINUE_INCONSISTENT: &str = "The provided continue parameter is too old to display a consistent list result. \
You can start a new list without the continue parameter, or use the continue token in this response to retrieve the \
remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, \
modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// The result of a read.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a read of the watch cache failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// 410 Expired; `continue_token` goes into the status' list metadata.
    #[error("{message}")]
    Expired {
        /// Upstream's text.
        message: String,
        /// A token that goes on inconsistently.
        continue_token: Option<String>,
    },
    /// 504 Timeout with the cause ResourceVersionTooLarge ("Too large resource version") and a retry after 1 s.
    #[error("Too large resource version: {requested}, current: {current}")]
    TooLargeRevision {
        /// What was asked for.
        requested: Revision,
        /// What there is.
        current: Revision,
    },
    /// 400 BadRequest.
    #[error("{0}")]
    BadRequest(String),
    /// 429 TooManyRequests: the cache is being filled, or cannot be.
    #[error("storage is (re)initializing{}", .why.as_ref().map(|w| format!(": {w}")).unwrap_or_default())]
    NotReady {
        /// The last failure, if there was one.
        why: Option<Arc<str>>,
        /// The seconds after which to try again.
        retry_after: u32,
    },
    /// 500: an object cannot be decoded.
    #[error("unable to decode the object stored at {key}: {why}")]
    Undecodable {
        /// The complete key.
        key: String,
        /// What the decoder said.
        why: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The seconds after which a client should ask an unready cache again: upstream's curve
/// (`pkg/storage/cacher/util.go`), from 1 to 30.
pub fn retry_after(down: std::time::Duration) -> u32 {
    (0.06 * down.as_secs_f64()).exp().clamp(1.0, 30.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn retry_grows_from_one_to_thirty_seconds() {
        let table = [(0, 1), (10, 1), (12, 2), (30, 6), (60, 30), (100_000, 30)];
        for (down, expected) in table {
            assert_eq!(retry_after(Duration::from_secs(down)), expected, "{down}");
        }
    }
}
