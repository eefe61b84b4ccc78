//! Upkeep of `metadata.managedFields`.
//!
//! Not wired to the field manager yet: objects carry no managed fields, and apply patches are refused
//! ([`refuse_apply`]). What clients send in the field is dropped, as upstream drops what it cannot decode.

use machinery::Value;

use crate::errors::ApiError;
use crate::meta;
use crate::strategy::Call;

/// Tracks the creator of a new object.
pub fn on_create(_call: &Call<'_>, object: &mut Value) -> Result<(), ApiError> {
    clear(object);
    Ok(())
}

/// Tracks who changed what.
pub fn on_update(_call: &Call<'_>, object: &mut Value, old: &Value) -> Result<(), ApiError> {
    let kept = old.get_path(&["metadata", "managedFields"]).cloned().unwrap_or(Value::Null);
    meta::set(object, "managedFields", kept);
    Ok(())
}

/// Whether there are none.
pub fn is_empty(object: &Value) -> bool {
    object.list_at(&["metadata", "managedFields"]).is_none_or(|l| l.is_empty())
}

/// Removes them.
pub fn clear(object: &mut Value) {
    meta::remove(object, "managedFields");
}

/// Keeps the old timestamps when nothing else changed, so that a no-op stays one
/// (`fieldmanager.IgnoreManagedFieldsTimestampsTransformer`).
pub fn ignore_timestamp_changes(_object: &mut Value, _old: &Value) {}

/// The answer to an apply patch while the field manager is missing.
pub fn refuse_apply() -> ApiError {
    ApiError::unsupported_media_type(&[
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
    ])
}
