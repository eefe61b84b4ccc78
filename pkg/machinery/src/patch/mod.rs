//! Patches: JSON Patch, JSON merge patch and strategic merge patch, as the API server's PATCH verb applies them.
//!
//! - [`json_patch`] and [`merge_patch`] work on JSON text, because upstream's library does: what a patch does
//!   not touch keeps its bytes, and the text of the result shows in error messages.
//! - [`strategic`] works on trees and reads patch strategies and merge keys from the type table.
//!
//! Decoding the result into an object, defaults and validation are the caller's.

pub mod json_patch;
mod lazy;
pub mod merge_patch;
mod raw;
pub(crate) mod show;
pub mod strategic;
mod strict;

pub use json_patch::json_patch;
pub use merge_patch::merge_patch;
pub use show::display;

/// A patch that could not be applied, with the HTTP code the API server answers.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// 400: the patch is not what its content type says.
    #[error("{0}")]
    BadRequest(String),
    /// 413: too many operations.
    #[error("{0}")]
    TooLarge(String),
    /// 422: the patch cannot be applied to this object.
    #[error("{0}")]
    Unprocessable(String),
    /// 500: upstream returns a plain error here, which its server reports as an internal error.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// Whether a `test` operation found something else (evanphx/json-patch's `ErrTestFailed`).
    pub fn is_failed_test(&self) -> bool {
        matches!(self, Error::Unprocessable(text) if text.starts_with("testing value ") && text.ends_with("test failed"))
    }

    /// The HTTP status code of the answer.
    pub fn code(&self) -> u16 {
        match self {
            Error::BadRequest(_) => 400,
            Error::TooLarge(_) => 413,
            Error::Unprocessable(_) => 422,
            Error::Internal(_) => 500,
        }
    }
}
