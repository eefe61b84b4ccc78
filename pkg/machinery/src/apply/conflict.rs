//! What an apply cannot take without force.

use super::managed::ManagerId;
use super::path::{self, PathElement};
use std::collections::BTreeMap;

/// A field that another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub manager: ManagerId,
    pub path: Vec<PathElement>,
}

impl Conflict {
    /// The field as causes name it.
    pub fn field(&self) -> String {
        path::display(&self.path)
    }

    /// The cause's message.
    pub fn message(&self) -> String {
        format!("conflict with {}", self.manager.describe())
    }
}

/// The message of the whole answer.
pub(super) fn summary(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: {}: {}", one.message(), one.field());
    }
    let mut by_manager: BTreeMap<&ManagerId, Vec<&Conflict>> = BTreeMap::new();
    for c in conflicts {
        by_manager.entry(&c.manager).or_default().push(c);
    }
    let mut lines = Vec::new();
    for (manager, conflicts) in by_manager {
        lines.push(format!("conflicts with {}:", manager.describe()));
        lines.extend(conflicts.iter().map(|c| format!("- {}", c.field())));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}
