//! AlwaysAdmit and AlwaysDeny: all or nothing. Upstream: `plugin/pkg/admission/{admit,deny}`; both deprecated.

use async_trait::async_trait;

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;

/// Lets everything through.
pub struct AlwaysAdmit;

#[async_trait]
impl Plugin for AlwaysAdmit {
    fn name(&self) -> &'static str {
        "AlwaysAdmit"
    }

    fn handles(&self, _operation: Operation) -> bool {
        true
    }
}

/// Refuses every change.
pub struct AlwaysDeny;

#[async_trait]
impl Plugin for AlwaysDeny {
    fn name(&self) -> &'static str {
        "AlwaysDeny"
    }

    fn handles(&self, _operation: Operation) -> bool {
        true
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), ApiError> {
        self.validate(a).await
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        Err(a.forbidden("admission control is denying all modifications"))
    }
}
