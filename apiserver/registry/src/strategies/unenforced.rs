//! Kinds whose objects would promise something this server does not do yet: mutating admission policies. An object that is stored
//! and not enforced is worse than none, so creating one is refused.

use async_trait::async_trait;
use machinery::Value;

use crate::errors::ApiError;
use crate::strategy::{Call, Finish, Strategy};

/// The strategy.
pub struct Unenforced;

#[async_trait]
impl Strategy for Unenforced {
    async fn begin_create(
        &self,
        call: &Call<'_>,
        _object: &mut Value,
    ) -> Result<Option<Box<dyn Finish>>, ApiError> {
        let row = call.resource.row;
        let why = "it would be stored but not enforced by this server, which has no mutating admission policies yet";
        Err(ApiError::forbidden(row.kind.group, row.resource, "", why))
    }
}
