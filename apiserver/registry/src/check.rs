//! What a write would be refused for, told without admission and without the store: the object is decoded, defaulted,
//! prepared and validated as on its way into the store, and dropped. This is what is compared with upstream's
//! strategies.

use machinery::Value;

use crate::api::Body;
use crate::errors::ApiError;
use crate::meta;
use crate::store::before;
use crate::strategy::Call;

/// An identity for objects that are not stored, so that texts which name it are the same every time.
const UID: &str = "00000000-0000-4000-8000-000000000000";

/// Checks a new object, or one that takes the place of `old`; tells what would be stored.
///
/// # Errors
/// What the client would be answered.
pub fn check(call: &Call<'_>, new: &Body, old: Option<&Body>) -> Result<Value, ApiError> {
    let mut object = call.resource.decode_body(call.request, new)?;
    match old {
        None => {
            meta::wipe_system_fields(&mut object);
            meta::fill_system_fields(&mut object, call.now);
            meta::set(&mut object, "uid", UID);
            before::before_create(call, &mut object)?;
        }
        Some(old) => {
            let old = call.resource.decode_body(call.request, old)?;
            before::before_update(call, &mut object, &old)?;
        }
    }
    crate::conversion::from_hub(&mut object, call.resource.row.kind)?;
    Ok(object)
}
