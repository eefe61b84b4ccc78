//! The strategies: one file per resource that needs more than the generic behaviour.

use std::sync::Arc;

use ::api::resources::ResourceRow;

use crate::strategy::{Generic, Strategy};

/// The strategy of a row.
pub fn of(row: &ResourceRow) -> Arc<dyn Strategy> {
    match (row.kind.group, row.resource) {
        ("rbac.authorization.k8s.io", _) => Arc::new(Generic::PATH_SEGMENT),
        _ => Arc::new(Generic::SUBDOMAIN),
    }
}
