//! What a write would be refused for, told without admission and without the store: the object is decoded, defaulted,
//! prepared and validated as on its way into the store, and dropped. This is what is compared with upstream's
//! strategies.

use crate::api::Body;
use crate::codec;
use crate::errors::ApiError;
use crate::meta;
use crate::store::before;
use crate::strategy::Call;

/// An identity for objects that are not stored, so that texts which name it are the same every time.
const UID: &str = "00000000-0000-4000-8000-000000000000";

/// Checks a new object, or one that takes the place of `old`.
///
/// # Errors
/// What the client would be answered.
pub fn check(call: &Call<'_>, new: &Body, old: Option<&Body>) -> Result<(), ApiError> {
    let kind = call.resource.row.kind;
    let mut object = codec::decode_body(call.request, kind, new)?;
    match old {
        None => {
            meta::wipe_system_fields(&mut object);
            meta::fill_system_fields(&mut object, call.now);
            meta::set(&mut object, "uid", UID);
            before::before_create(call, &mut object)
        }
        Some(old) => {
            let old = codec::decode_body(call.request, kind, old)?;
            before::before_update(call, &mut object, &old)
        }
    }
}
