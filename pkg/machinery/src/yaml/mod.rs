//! YAML as upstream reads it: converted to JSON first (`sigs.k8s.io/yaml` on yaml.v2), then read as JSON.
//!
//! So `yes` is a boolean, `0644` is octal, keys become text. Only the first document is read. Expansion of aliases
//! and nesting are bounded.

mod read;
mod resolve;
#[cfg(test)]
mod tests;
mod write;

use crate::json;
use crate::value::Value;

pub use write::write;

/// Why a text is not acceptable YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("yaml: line {line}: {what}")]
    Syntax { line: usize, what: String },
    #[error("yaml: unmarshal errors:\n  {}", .0.join("\n  "))]
    Unmarshal(Vec<String>),
    #[error("{0}")]
    Other(String),
    #[error("yaml: invalid UTF-8")]
    Utf8,
}

fn text(data: &[u8]) -> Result<&str, Error> {
    let text = std::str::from_utf8(data).map_err(|_| Error::Utf8)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match tab_first(text) {
        Some(error) => Err(error),
        None => Ok(text),
    }
}

/// yaml.v2 refuses a tab where the first token could begin (`yaml_parser_fetch_next_token`); our parser skips it.
fn tab_first(text: &str) -> Option<Error> {
    let rest = text.trim_start_matches([' ', '\r', '\n']);
    if !rest.starts_with('\t') {
        return None;
    }
    let what = "found character that cannot start any token";
    let before = text.get(..text.len() - rest.len()).unwrap_or_default();
    Some(match before.matches('\n').count() {
        0 => Error::Other(format!("yaml: {what}")),
        lines => Error::Syntax { line: lines + 1, what: what.to_owned() },
    })
}

/// Reads the first document without a type. Repeated keys: the last one counts.
pub fn parse(data: &[u8]) -> Result<Value, Error> {
    read::read(text(data)?, false)
}

/// As [`parse`], but repeated keys are an error (`YAMLToJSONStrict`).
pub fn parse_strict(data: &[u8]) -> Result<Value, Error> {
    read::read(text(data)?, true)
}

/// The first document as JSON, keys sorted.
pub fn to_json(data: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(json::encode_any(&parse(data)?))
}
