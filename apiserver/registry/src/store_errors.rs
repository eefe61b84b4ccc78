//! Store errors as API statuses. Upstream: `k8s.io/apiserver/pkg/storage/errors/storage.go`.

use api::resources::ResourceRow;
use storage::Error;

use crate::errors::ApiError;

/// The text of a lost race, as upstream words it.
pub const OPTIMISTIC_LOCK: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// Seconds a client should wait before it repeats a request that met an unreachable store.
const RETRY_AFTER: i32 = 2;

fn common(error: Error, row: &ResourceRow, name: &str, operation: &str) -> ApiError {
    let (group, resource) = (row.kind.group, row.resource);
    match error {
        Error::NotFound { .. } => ApiError::not_found(group, resource, name),
        Error::AlreadyExists { .. } => ApiError::already_exists(group, resource, name),
        Error::Conflict { .. } => ApiError::conflict(group, resource, name, OPTIMISTIC_LOCK),
        Error::Compacted { .. } => ApiError::expired("The resourceVersion for the provided list is too old."),
        Error::FutureRevision { requested, current } => too_large_resource_version(requested, current),
        Error::Unavailable(_) | Error::Timeout(_) => {
            ApiError::server_timeout(group, resource, operation, RETRY_AFTER)
        }
        // Only of lists upstream says which key it was.
        Error::Transform { why, .. } if operation != "list" => ApiError::internal(why),
        Error::TooLarge => ApiError::new(500, "", error.to_string()),
        other => ApiError::internal(other),
    }
}

/// A failed read.
pub fn get(error: Error, row: &ResourceRow, name: &str) -> ApiError {
    common(error, row, name, "get")
}

/// A failed list.
pub fn list(error: Error, row: &ResourceRow) -> ApiError {
    common(error, row, "", "list")
}

/// A failed create.
pub fn create(error: Error, row: &ResourceRow, name: &str) -> ApiError {
    common(error, row, name, "create")
}

/// A failed update.
pub fn update(error: Error, row: &ResourceRow, name: &str) -> ApiError {
    common(error, row, name, "update")
}

/// A failed delete.
pub fn delete(error: Error, row: &ResourceRow, name: &str) -> ApiError {
    common(error, row, name, "delete")
}

/// 504 for a revision the store has not reached.
pub fn too_large_resource_version(wanted: i64, current: i64) -> ApiError {
    let text = format!("Too large resource version: {wanted}, current: {current}");
    let mut error = ApiError::timeout(text, 1);
    if let Some(details) = error.details.as_mut() {
        details.causes.push(crate::errors::Cause {
            reason: "ResourceVersionTooLarge".into(),
            message: "Too large resource version".into(),
            field: String::new(),
        });
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_cannot_be_decrypted() {
        let row = api::resources::resources().iter().find(|row| row.resource == "secrets").unwrap();
        let error = || Error::Transform {
            key: "/registry/secrets/a/b".into(),
            why: "no matching prefix found".into(),
        };
        assert_eq!(get(error(), row, "b").message, "Internal error occurred: no matching prefix found");
        assert_eq!(
            list(error(), row).message,
            "Internal error occurred: unable to transform key \"/registry/secrets/a/b\": no matching prefix found"
        );
    }
}
