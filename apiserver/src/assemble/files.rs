//! Reads the files that flags name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use auth::jwt::keys::{KeyError, SigningKey, VerifyingKey};
use auth::tokens::TokenFile;
use auth::x509::CaBundle;

use crate::reviewers::abac::Abac;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refuses.
    #[error("failed to read {what}: open {path}: {source}")]
    Read {
        /// Flag or purpose.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its content is wrong.
    #[error("failed to parse {what} {path}: {why}")]
    Content {
        /// Flag or purpose.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|source| FileError::Read { what, path: path.to_owned(), source })
}

fn content(what: &'static str, path: &Path, why: impl std::fmt::Display) -> FileError {
    FileError::Content { what, path: path.to_owned(), why: why.to_string() }
}

/// A CA bundle.
pub(crate) fn bundle(what: &'static str, path: Option<&Path>) -> Result<Option<Arc<CaBundle>>, FileError> {
    let Some(path) = path else { return Ok(None) };
    let bundle = CaBundle::from_pem(&read(what, path)?).map_err(|e| content(what, path, e))?;
    Ok(Some(Arc::new(bundle)))
}

/// All keys that verify service account tokens.
pub(crate) fn verifying_keys(paths: &[PathBuf]) -> Result<Vec<VerifyingKey>, FileError> {
    let what = "service-account-key-file";
    let mut keys = Vec::new();
    for path in paths {
        let found =
            VerifyingKey::from_pem(&read(what, path)?).map_err(|e: KeyError| content(what, path, e))?;
        keys.extend(found);
    }
    Ok(keys)
}

/// The key that signs service account tokens.
pub(crate) fn signing_key(path: Option<&Path>) -> Result<Option<SigningKey>, FileError> {
    let what = "service-account-issuer-key-file";
    let Some(path) = path else { return Ok(None) };
    SigningKey::from_pem(&read(what, path)?).map(Some).map_err(|e| content(what, path, e))
}

/// `--authorization-policy-file`
pub(crate) fn policies(path: Option<&Path>) -> Result<Abac, FileError> {
    let what = "authorization-policy-file";
    let Some(path) = path else { return Ok(Abac::default()) };
    let text = String::from_utf8_lossy(&read(what, path)?).into_owned();
    Abac::parse(&path.display().to_string(), &text).map_err(|e| content(what, path, e))
}

/// `--token-auth-file`
pub(crate) fn tokens(path: Option<&Path>) -> Result<Option<TokenFile>, FileError> {
    let what = "token-auth-file";
    let Some(path) = path else { return Ok(None) };
    let text = String::from_utf8_lossy(&read(what, path)?).into_owned();
    TokenFile::parse(&text).map(Some).map_err(|e| content(what, path, e))
}
