//! Rows for custom resources. The rest of the registry keeps its rows for the life of the process, so these are kept
//! too: each distinct row once, about a kilobyte, however often its definition changes or comes back.

use std::collections::HashMap;
use std::sync::LazyLock;

use ::api::resources::{GcPolicy, ResourceRow, RowKind, Stage, StoredRow, SubresourceRow};
use parking_lot::Mutex;

static TEXTS: LazyLock<Mutex<hashbrown::HashSet<&'static str>>> = LazyLock::new(Default::default);
static ROWS: LazyLock<Mutex<HashMap<Description, &'static ResourceRow>>> = LazyLock::new(Default::default);

/// A text that stays.
pub(crate) fn text(text: &str) -> &'static str {
    let mut texts = TEXTS.lock();
    if let Some(known) = texts.get(text) {
        return known;
    }
    let kept: &'static str = Box::leak(text.to_owned().into_boxed_str());
    texts.insert(kept);
    kept
}

/// Everything a row says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Description {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) stored_version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    pub(crate) status: bool,
    pub(crate) scale: bool,
    /// Field labels without the leading dot.
    pub(crate) fields: Vec<String>,
}

/// The order in which discovery lists them.
const VERBS: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];

/// The row of a description.
pub(crate) fn row(description: Description) -> &'static ResourceRow {
    let mut rows = ROWS.lock();
    if let Some(row) = rows.get(&description) {
        return row;
    }
    let row: &'static ResourceRow = Box::leak(Box::new(build(&description)));
    rows.insert(description, row);
    row
}

fn build(d: &Description) -> ResourceRow {
    let kind = RowKind { group: text(&d.group), version: text(&d.version), kind: text(&d.kind) };
    let all = |list: &[String]| list.iter().map(|t| text(t)).collect();
    let verbs = vec!["get", "patch", "update"];
    let scale = RowKind { group: "autoscaling", version: "v1", kind: "Scale" };
    let subresources = [("status", d.status, kind), ("scale", d.scale, scale)];
    let subresources = subresources.into_iter().filter(|(_, offered, _)| *offered);
    ResourceRow {
        kind,
        resource: text(&d.plural),
        singular: text(&d.singular),
        namespaced: d.namespaced,
        stage: Stage::Ga,
        verbs: VERBS.to_vec(),
        short_names: all(&d.short_names),
        categories: all(&d.categories),
        stored: Some(StoredRow {
            kind: RowKind { version: text(&d.stored_version), ..kind },
            key: text(&format!("{}/{}", d.group, d.plural)),
            json: true,
        }),
        gate: None,
        fields: all(&d.fields),
        create_on_update: false,
        rv_required: true,
        returns_deleted: false,
        generation: true,
        graceful: false,
        gc: GcPolicy::Delete,
        subresources: subresources
            .map(|(name, _, kind)| SubresourceRow { name, kind, verbs: verbs.clone() })
            .collect(),
    }
}
