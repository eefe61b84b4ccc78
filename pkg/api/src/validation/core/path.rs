//! Paths inside volumes and containers.

use crate::validation::field::{Error, Path};

/// A path that stays below where it starts, and does not begin with `..` (`ValidateLocalNonReservedPath`).
pub(super) fn local(target: &str, path: &Path) -> Vec<Error> {
    let mut errors = descending(target, path);
    // `..` as a whole element was refused already when a slash follows, and is refused twice when none does.
    if target.starts_with("..") && !target.starts_with("../") {
        errors.push(Error::invalid(path, target, "must not start with '..'"));
    }
    errors
}

/// A relative path without `..` (`validateLocalDescendingPath`).
pub(super) fn descending(target: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if target.starts_with('/') {
        errors.push(Error::invalid(path, target, "must be a relative path"));
    }
    errors.extend(no_backsteps(target, path));
    errors
}

/// A path without `..` elements (`validatePathNoBacksteps`).
pub(super) fn no_backsteps(target: &str, path: &Path) -> Option<Error> {
    target.split('/').any(|part| part == "..").then(|| Error::invalid(path, target, "must not contain '..'"))
}
