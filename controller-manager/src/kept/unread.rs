//! Parts of an object that are as they were, known by their bytes: they are not read again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

/// A hash whose key nobody knows: who may change an object must not be able to make the change look like none.
static HASH: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// What bytes a part was read from. It is no part of what an object says, so all are equal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bytes(u64);

impl PartialEq for Bytes {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Bytes {
    /// Of these, one after the other.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = HASH.build_hasher();
        parts.into_iter().for_each(|part| hasher.write(part));
        Self(hasher.finish())
    }

    /// A part that was read from others must be read again; so must one that was not read from bytes.
    pub fn are(self, others: Self) -> bool {
        self.0 != 0 && self.0 == others.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_known_again() {
        let of = |text: &str| Bytes::of([text.as_bytes()]);
        assert!(of("spec").are(of("spec")) && !of("spec").are(of("other")));
        assert!(!Bytes::default().are(Bytes::default()));
        assert!(Bytes::of([&b"sp"[..], b"ec"]).are(of("spec")));
    }
}
