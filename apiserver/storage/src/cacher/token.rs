//! Continue tokens, in upstream's form (apiserver `pkg/storage/continue.go`), so that a client may go from one server to
//! another between two pages.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::store::Revision;

const VERSION: &str = "meta.k8s.io/v1";
/// The revision in a token that continues with whatever is there now.
pub const INCONSISTENT: Revision = -1;

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Wire {
    v: String,
    rv: i64,
    start: String,
}

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The complete key to start at.
    pub start: String,
    /// The revision to read at, or [`INCONSISTENT`].
    pub revision: Revision,
}

/// Why a token is refused: upstream's texts.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not base64, not JSON, or not below the prefix.
    #[error("continue key is not valid: {0}")]
    Invalid(String),
    /// No revision.
    #[error("continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)")]
    NoRevision,
    /// No key.
    #[error("continue key is not valid: encoded start key empty (version meta.k8s.io/v1)")]
    NoStart,
    /// From some other time.
    #[error("continue key is not valid: server does not recognize this encoded version {0}")]
    Version(String),
}

impl Token {
    /// The text of a token whose start lies below `prefix`.
    pub fn encode(&self, prefix: &str) -> Option<String> {
        let start = self.start.strip_prefix(prefix).filter(|_| !prefix.is_empty())?.to_owned();
        let wire = Wire { v: VERSION.to_owned(), rv: self.revision, start };
        serde_json::to_vec(&wire).ok().map(|json| URL_SAFE_NO_PAD.encode(json))
    }

    /// Reads a token. The start cannot climb out of `prefix`.
    pub fn decode(text: &str, prefix: &str) -> Result<Self, TokenError> {
        let data = URL_SAFE_NO_PAD.decode(text).map_err(|error| TokenError::Invalid(error.to_string()))?;
        let wire: Wire =
            serde_json::from_slice(&data).map_err(|error| TokenError::Invalid(error.to_string()))?;
        if wire.v != VERSION {
            return Err(TokenError::Version(wire.v));
        }
        if wire.rv == 0 {
            return Err(TokenError::NoRevision);
        }
        if wire.start.is_empty() {
            return Err(TokenError::NoStart);
        }
        let relative = wire.start.strip_prefix('/').unwrap_or(&wire.start);
        let segments = || relative.split('/');
        // What Go's path.Clean would change: empty, `.` and `..` segments, a trailing slash.
        if segments().any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(TokenError::Invalid(wire.start));
        }
        Ok(Self { start: format!("{prefix}{relative}"), revision: wire.rv })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_upstreams() {
        let token = Token { start: "/registry/pods/default/web\0".into(), revision: 42 };
        let text = token.encode("/registry/pods/").unwrap();
        let json = String::from_utf8(URL_SAFE_NO_PAD.decode(&text).unwrap()).unwrap();
        assert_eq!(json, r#"{"v":"meta.k8s.io/v1","rv":42,"start":"default/web\u0000"}"#);
        assert_eq!(Token::decode(&text, "/registry/pods/").unwrap(), token);
        assert_eq!(token.encode("/registry/nodes/"), None);
    }

    #[test]
    fn bad_tokens_are_refused_with_upstreams_texts() {
        let check = |json: &str, expected: &str| {
            let text = URL_SAFE_NO_PAD.encode(json);
            assert_eq!(Token::decode(&text, "/registry/pods/").unwrap_err().to_string(), expected);
        };
        let v = r#""v":"meta.k8s.io/v1""#;
        let no_rv =
            "continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)";
        check(&format!(r#"{{{v},"rv":0,"start":"a"}}"#), no_rv);
        let no_start = "continue key is not valid: encoded start key empty (version meta.k8s.io/v1)";
        check(&format!(r#"{{{v},"rv":1,"start":""}}"#), no_start);
        let unknown = "continue key is not valid: server does not recognize this encoded version v2";
        check(r#"{"v":"v2","rv":1,"start":"a"}"#, unknown);
        for start in ["../secrets/a", "a/../../b", "a//b", "/..", ".", "a/"] {
            check(
                &format!(r#"{{{v},"rv":1,"start":"{start}"}}"#),
                &format!("continue key is not valid: {start}"),
            );
        }
        assert!(Token::decode("%%", "/registry/pods/").is_err());
    }
}
