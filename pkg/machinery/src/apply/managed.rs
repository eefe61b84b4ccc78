//! The entries of `metadata.managedFields`.
//!
//! Upstream: apimachinery util/managedfields/internal/managedfields.go. An entry that did not change keeps the
//! bytes of its set.

use super::set::Set;
use crate::golang::quote;
use crate::value::{List, Map, Str, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who an entry belongs to. An applier is the same in all versions; an updater is one per version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagerId {
    pub manager: Str,
    pub operation: Str,
    /// Empty for appliers.
    pub api_version: Str,
    pub subresource: Str,
    /// The identifier as upstream writes it, which decides order between equals.
    text: Str,
}

pub const APPLY: &str = "Apply";
pub const UPDATE: &str = "Update";

impl ManagerId {
    pub fn new(manager: &str, operation: &str, api_version: &str, subresource: &str) -> ManagerId {
        let api_version = if operation == APPLY { "" } else { api_version };
        let fields = [
            ("manager", manager),
            ("operation", operation),
            ("apiVersion", api_version),
            ("subresource", subresource),
        ];
        let parts =
            fields.iter().filter(|f| !f.1.is_empty()).map(|(k, v)| format!("\"{k}\":{}", json_quote(v)));
        let text = format!("{{{}}}", parts.collect::<Vec<_>>().join(","));
        ManagerId {
            manager: manager.into(),
            operation: operation.into(),
            api_version: api_version.into(),
            subresource: subresource.into(),
            text: text.into(),
        }
    }

    /// How a conflict names the manager.
    pub fn describe(&self) -> String {
        let mut out = quote(&self.manager);
        if !self.subresource.is_empty() {
            out += &format!(" with subresource {}", quote(&self.subresource));
        }
        if self.operation == UPDATE {
            out += &format!(" using {}", self.api_version);
        }
        out
    }
}

impl Ord for ManagerId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.as_bytes().cmp(other.text.as_bytes())
    }
}

impl PartialOrd for ManagerId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

fn json_quote(s: &str) -> String {
    let mut out = Vec::new();
    crate::json::write_str(s, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// What one manager owns.
#[derive(Clone, Debug)]
pub struct Entry {
    set: Arc<Set>,
    /// The text of the set, while it is what was read.
    text: Option<Arc<[u8]>>,
    pub api_version: Str,
    pub applied: bool,
}

impl Entry {
    pub fn new(set: Set, api_version: Str, applied: bool) -> Entry {
        Entry { set: Arc::new(set), text: None, api_version, applied }
    }

    pub fn set(&self) -> &Set {
        &self.set
    }

    pub fn with_set(self, set: Set) -> Entry {
        Entry { set: Arc::new(set), text: None, ..self }
    }
}

pub type Managers = BTreeMap<ManagerId, Entry>;

/// All managers of an object and when they last changed it.
#[derive(Clone, Debug, Default)]
pub struct Managed {
    pub managers: Managers,
    /// RFC 3339 texts.
    pub times: BTreeMap<ManagerId, Option<Str>>,
}

fn text<'a>(m: &'a Map, key: &str) -> &'a str {
    m.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Reads the entries of a `managedFields` list; absent is empty.
pub fn decode(entries: Option<&Value>) -> Result<Managed, String> {
    let mut managed = Managed::default();
    let none = List::new();
    let entries = match entries {
        None | Some(Value::Null) => &none,
        Some(Value::List(l)) => l,
        Some(_) => return Err("managedFields must be a list".into()),
    };
    let empty = Map::new();
    for (i, entry) in entries.iter().enumerate() {
        let m = entry.as_map().unwrap_or(&empty);
        let (operation, api_version) = (text(m, "operation"), text(m, "apiVersion"));
        if operation != APPLY && operation != UPDATE {
            return Err("operation must be `Apply` or `Update`".into());
        }
        if api_version.is_empty() {
            return Err("apiVersion must not be empty".into());
        }
        match text(m, "fieldsType") {
            "FieldsV1" => {}
            "" => return Err(format!("missing fieldsType in managed fields entry {i}")),
            other => return Err(format!("invalid fieldsType {} in managed fields entry {i}", quote(other))),
        }
        let id = ManagerId::new(text(m, "manager"), operation, api_version, text(m, "subresource"));
        let raw: Option<Arc<[u8]>> = match m.get("fieldsV1") {
            None | Some(Value::Null) => None,
            Some(Value::Raw(raw)) => Some(raw.clone()),
            Some(v) => {
                let mut text = Vec::new();
                crate::json::write_any(v, &mut text);
                Some(text.into())
            }
        };
        let set = match &raw {
            None => Set::default(),
            Some(raw) => Set::from_json(raw).map_err(|e| {
                format!(
                    "error decoding versioned set from {}: error decoding set: {e}",
                    crate::patch::show::display(entry)
                )
            })?,
        };
        let time = m.get("time").and_then(Value::as_str).map(Str::from);
        managed.times.insert(id.clone(), time);
        let entry = Entry {
            set: Arc::new(set),
            text: raw,
            api_version: api_version.into(),
            applied: operation == APPLY,
        };
        managed.managers.insert(id, entry);
    }
    Ok(managed)
}

/// The list for `metadata.managedFields`; none if nobody owns anything.
pub fn encode(managed: &Managed) -> Option<Value> {
    if managed.managers.is_empty() {
        return None;
    }
    let mut entries: Vec<(&ManagerId, &Entry, Option<&Str>)> = managed
        .managers
        .iter()
        .map(|(id, e)| (id, e, managed.times.get(id).and_then(Option::as_ref)))
        .collect();
    // Times are texts of one form, so their order is that of time; none comes first.
    entries.sort_by(|(a, x, s), (b, y, t)| {
        let op = |e: &Entry| if e.applied { APPLY } else { UPDATE };
        (op(x), *s, &a.manager, &x.api_version, &a.subresource).cmp(&(
            op(y),
            *t,
            &b.manager,
            &y.api_version,
            &b.subresource,
        ))
    });
    let list: List = entries.into_iter().map(|(id, e, time)| Value::Map(encode_entry(id, e, time))).collect();
    Some(Value::List(list))
}

/// The list for `metadata.managedFields` of a new object, all of which one updater owns: the text of its set.
pub(super) fn encode_new(id: &ManagerId, set: String, now: &str) -> Value {
    let raw = Arc::from(set.into_bytes());
    let entry = fields_of(id, raw, UPDATE, &id.api_version, Some(&now.into()));
    Value::List([Value::Map(entry)].into_iter().collect())
}

fn encode_entry(id: &ManagerId, entry: &Entry, time: Option<&Str>) -> Map {
    let raw = match &entry.text {
        Some(raw) => raw.clone(),
        None => Arc::from(entry.set.to_json().into_bytes()),
    };
    let operation = if entry.applied { APPLY } else { UPDATE };
    fields_of(id, raw, operation, &entry.api_version, time)
}

fn fields_of(id: &ManagerId, raw: Arc<[u8]>, operation: &str, api_version: &Str, time: Option<&Str>) -> Map {
    let mut m = Map::from_iter([
        ("apiVersion", Value::Str(api_version.clone())),
        ("fieldsType", "FieldsV1".into()),
        ("fieldsV1", Value::Raw(raw)),
        ("operation", operation.into()),
    ]);
    for (key, v) in [("manager", &id.manager), ("subresource", &id.subresource)] {
        if !v.is_empty() {
            m.insert(key, Value::Str(v.clone()));
        }
    }
    if let Some(time) = time {
        m.insert("time", Value::Str(time.clone()));
    }
    m
}
