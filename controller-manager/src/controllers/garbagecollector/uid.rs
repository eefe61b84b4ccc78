//! Uids as the graph keeps them: there are as many as there are objects in the cluster, each several times.

use std::fmt;
use std::sync::Arc;

/// A uid. The API server makes UUIDs, which are 16 bytes; whatever else somebody wrote down is kept as it is.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Uid {
    Canonical([u8; 16]),
    Other(Arc<str>),
}

/// The bytes of a UUID in the one form in which it is written back.
fn canonical(text: &str) -> Option<[u8; 16]> {
    let is_lower = text.len() == 36 && !text.bytes().any(|b| b.is_ascii_uppercase());
    is_lower.then(|| uuid::Uuid::try_parse(text).ok()).flatten().map(uuid::Uuid::into_bytes)
}

impl Uid {
    pub fn is(&self, text: &str) -> bool {
        match self {
            Self::Canonical(bytes) => canonical(text).as_ref() == Some(bytes),
            Self::Other(other) => **other == *text,
        }
    }
}

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        canonical(text).map_or_else(|| Self::Other(text.into()), Self::Canonical)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Canonical(bytes) => uuid::Uuid::from_bytes(*bytes).hyphenated().fmt(f),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back() {
        for (text, short) in [
            ("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9", true),
            ("0A1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9", false),
            ("0a1b2c3d4e5f60718293a4b5c6d7e8f9", false),
            ("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8fx", false),
            ("0a1b2c3d4-e5f-6071-8293-a4b5c6d7e8f9", false),
            ("web", false),
            ("", false),
        ] {
            let uid = Uid::from(text);
            assert_eq!(matches!(uid, Uid::Canonical(_)), short, "{text}");
            assert_eq!(uid.to_string(), text);
            assert!(uid.is(text) && !uid.is("other"), "{text}");
        }
    }

    #[test]
    fn a_uid_is_small() {
        assert!(size_of::<Uid>() <= 24);
    }
}
