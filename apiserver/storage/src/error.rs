//! What can go wrong in a store. The registry turns these into API statuses.

use crate::store::{KeyValue, Revision};

/// The result of a storage operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a storage operation did not succeed. An operation that fails with [`Error::Unavailable`] or [`Error::Timeout`]
/// may have been applied; with every other variant it had no effect.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The key does not exist.
    #[error("storage: key {key} not found at revision {revision}")]
    NotFound {
        /// The complete key.
        key: String,
        /// The store's revision at the time of the answer.
        revision: Revision,
    },
    /// A create found the key taken.
    #[error("storage: key {key} already exists (mod revision {})", current.mod_revision)]
    AlreadyExists {
        /// The complete key.
        key: String,
        /// What is stored there.
        current: Box<KeyValue>,
    },
    /// The expected mod revision is not the stored one.
    #[error("storage: key {key} is not at mod revision {expected}")]
    Conflict {
        /// The complete key.
        key: String,
        /// The mod revision the caller asked for.
        expected: Revision,
        /// What is stored now, so that a retry needs no further read; `None` when the key is gone.
        current: Option<Box<KeyValue>>,
    },
    /// The revision asked for is no longer kept.
    #[error("storage: revision {requested} has been compacted, the oldest kept is {oldest}")]
    Compacted {
        /// The revision asked for.
        requested: Revision,
        /// The oldest revision that can still be read (0 when the store did not say).
        oldest: Revision,
    },
    /// The revision asked for does not exist yet.
    #[error("storage: revision {requested} is in the future, the current one is {current}")]
    FutureRevision {
        /// The revision asked for.
        requested: Revision,
        /// The store's current revision (0 when the store did not say).
        current: Revision,
    },
    /// The value is above the request limit. The text is etcd's, which clients see.
    #[error("etcdserver: request is too large")]
    TooLarge,
    /// The disk is full: writes are refused, reads and (while the reserve lasts) deletes go on.
    #[error("storage: no space left for writes in {path}; free disk space, writes resume by themselves")]
    NoSpace {
        /// The data directory.
        path: String,
    },
    /// The store cannot be reached or has been closed.
    #[error("storage: unavailable: {0}")]
    Unavailable(String),
    /// No answer in time.
    #[error("storage: timed out: {0}")]
    Timeout(String),
    /// The store holds or answered something that cannot be right.
    #[error("storage: corrupt: {0}")]
    Corrupt(String),
    /// A value could not be encrypted, or what is stored not decrypted.
    #[error("unable to transform key {key:?}: {why}")]
    Transform {
        /// The complete key.
        key: String,
        /// What the provider says.
        why: String,
    },
    /// The request itself is wrong.
    #[error("storage: invalid request: {0}")]
    Invalid(String),
    /// Opening, reading or writing the data directory failed.
    #[error("storage: {0}")]
    Io(String),
}

impl Error {
    /// An I/O failure while `doing` something to `path`.
    pub(crate) fn io(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::Io(format!("{doing} {}: {error}", path.display()))
    }

    /// Whether the key was absent.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether the key was taken.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::AlreadyExists { .. })
    }

    /// Whether an expected revision did not hold.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    /// Whether the revision is gone for good.
    pub fn is_compacted(&self) -> bool {
        matches!(self, Self::Compacted { .. })
    }
}
