//! The field manager of a kind: what the API server calls on every write.
//!
//! Upstream's chain (apimachinery util/managedfields/internal/fieldmanager.go, `NewDefaultFieldManager`), here as
//! steps of two functions, in its order: version check, last-applied upkeep, before-first-apply, cap of update
//! managers, identifier, time, removal of identity fields, rules.

use super::conflict::{self, Conflict};
use super::last_applied;
use super::managed::{self, APPLY, Managed, ManagerId, UPDATE};
use super::schema::{Schema, TypeRef};
use super::set::Set;
use super::typed::{self, Duplicates};
use super::updater::{Change, Convert, Filter, UpdateError, Updater};
use crate::value::{Map, Str, Value};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

/// Update managers beyond this many are merged into one.
const MAX_UPDATE_MANAGERS: usize = 10;
/// Who owns what the oldest update managers owned.
const OLD_UPDATES: &str = "ancient-changes";
/// Who owns what was there before managed fields were.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The name of changes in progress; no client's name, since names are printable.
const CURRENT: &str = "current-operation";

/// What no manager ever owns.
static IDENTITY: LazyLock<Set> = LazyLock::new(|| {
    let mut set = Set::default();
    for top in ["apiVersion", "kind", "metadata"] {
        set.insert_fields(&[top]);
    }
    let fields = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    for field in fields {
        set.insert_fields(&["metadata", field]);
    }
    set
});

/// What a field manager is made of.
pub struct Config {
    /// The types, and the kind's type in each version that managers may have written in.
    pub schema: Arc<Schema>,
    pub versions: HashMap<String, TypeRef>,
    /// The version of requests and of the trees given to the manager.
    pub api_version: String,
    pub kind: String,
    /// Empty for the main resource.
    pub subresource: String,
    /// The fields writes here cannot change, by version.
    pub reset_fields: HashMap<String, Filter>,
    pub converter: Arc<dyn Convert>,
    /// An object of the kind with nothing set, in canonical form.
    pub empty: Value,
    /// Whether objects were made by their types, so that updates need not check them against the schema.
    pub made_by_type: bool,
}

/// Why an apply was refused.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// 400
    #[error("{0}")]
    BadRequest(String),
    /// 409, reason Conflict, one cause of type FieldManagerConflict per conflict.
    #[error("{message}")]
    Conflict { message: String, conflicts: Vec<Conflict> },
    /// 500: upstream answers a plain error.
    #[error("{0}")]
    Internal(String),
}

impl From<UpdateError> for Error {
    fn from(e: UpdateError) -> Self {
        match e {
            UpdateError::Conflicts(conflicts) => {
                Error::Conflict { message: conflict::summary(&conflicts), conflicts }
            }
            UpdateError::Other(e) => Error::Internal(e),
        }
    }
}

/// What an apply comes to.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The object with its managed fields.
    pub object: Value,
    /// Whether the object changed. If so it has to be brought into canonical form and to get its defaults; if not,
    /// it is the live one and stays without.
    pub changed: bool,
}

/// Keeps the managed fields of one kind, version and subresource.
pub struct FieldManager {
    updater: Updater,
    api_version: String,
    kind: String,
    subresource: String,
    empty: Value,
    made_by_type: bool,
}

const MANAGED_FIELDS: [&str; 2] = ["metadata", "managedFields"];

fn managed_fields(object: &Value) -> Option<&Value> {
    object.get_path(&MANAGED_FIELDS)
}

/// Sets the entries. Metadata that an apply emptied comes back for them.
fn set_managed_fields(object: &mut Value, entries: Option<Value>) {
    match entries {
        None => drop(object.remove_path(&MANAGED_FIELDS)),
        Some(entries) => {
            if let Some(m) = object.as_map_mut() {
                let meta = m.entry("metadata");
                if !matches!(meta, Value::Map(_)) {
                    *meta = Value::Map(Map::new());
                }
                if let Value::Map(meta) = meta {
                    meta.insert("managedFields", entries);
                }
            }
        }
    }
}

/// `namespace/name; group/version, Kind=kind`, as errors name objects.
fn describe(object: &Value) -> String {
    let at = |path: &[&str]| object.str_at(path).unwrap_or_default().to_string();
    let kind = group_version_kind(&at(&["apiVersion"]), &at(&["kind"]));
    format!("{}/{}; {kind}", at(&["metadata", "namespace"]), at(&["metadata", "name"]))
}

/// A kind as Go prints it: the core group has a leading slash.
fn group_version_kind(api_version: &str, kind: &str) -> String {
    let slash = if api_version.contains('/') { "" } else { "/" };
    format!("{slash}{api_version}, Kind={kind}")
}

impl FieldManager {
    pub fn new(c: Config) -> FieldManager {
        let updater = Updater {
            schema: c.schema,
            versions: c.versions,
            converter: c.converter,
            filters: c.reset_fields,
        };
        FieldManager {
            updater,
            api_version: c.api_version,
            kind: c.kind,
            subresource: c.subresource,
            empty: c.empty,
            made_by_type: c.made_by_type,
        }
    }

    /// The object of the kind with nothing set, which new objects are compared with.
    pub fn empty(&self) -> &Value {
        &self.empty
    }

    /// The type of objects of a version.
    pub fn type_of(&self, api_version: &str) -> Option<(&Schema, TypeRef)> {
        Some((&*self.updater.schema, *self.updater.versions.get(api_version)?))
    }

    /// Tracks an update: answers `new` with the managed fields it should have. Both objects are in this manager's
    /// version and canonical; on create, `live` is the empty object. `now` is RFC 3339 with seconds.
    ///
    /// Never fails: if the changes cannot be tracked, the object keeps the live one's entries.
    pub fn update(&self, live: &Value, new: Value, manager: &str, now: &str) -> Value {
        match self.try_update(live, new.clone(), manager, now) {
            Ok(v) => v,
            Err(e) => {
                tracing::error!(kind = %self.kind, error = %e, "managed fields not updated, those of the live object stay");
                let mut new = new;
                set_managed_fields(&mut new, managed_fields(live).filter(|v| !v.is_null()).cloned());
                new
            }
        }
    }

    /// As [`FieldManager::update`], with the error.
    pub fn try_update(
        &self,
        live: &Value,
        mut new: Value,
        manager: &str,
        now: &str,
    ) -> Result<Value, String> {
        if new.map_at(&["metadata"]).is_none() {
            return Ok(new);
        }
        let recorded = managed_fields(live).filter(|v| !v.is_null());
        let sent = managed_fields(&new).filter(|v| !v.is_null());
        if recorded.is_none() && sent.is_none() && self.made_by_type && is_new(live) {
            let id = self.updater_id(manager);
            if let Some(text) = self.updater.added(live, &new, &self.api_version, &IDENTITY) {
                let entries = (text != "{}").then(|| managed::encode_new(&id, text, now));
                set_managed_fields(&mut new, entries);
                return Ok(new);
            }
        }
        let same_entries = sent.is_none() || sent == recorded || !self.subresource.is_empty();
        let managed = || self.decode_live_or_new(live, &new);
        let (mut bare, mut bare_new) = (live.clone(), new.clone());
        set_managed_fields(&mut bare, None);
        set_managed_fields(&mut bare_new, None);
        if !self.made_by_type {
            self.check(&bare, &bare_new).and_then(|()| self.check(&bare_new, &bare))?;
        }
        let change = self.change(&bare, &bare_new)?;
        if same_entries && recorded.is_some() && change.diff.is_same() {
            // Nothing changed, so nobody's entry does.
            set_managed_fields(&mut new, recorded.cloned());
            return Ok(new);
        }
        let managed = self.tracked_update(change, managed(), manager, now)?;
        set_managed_fields(&mut new, managed::encode(&managed));
        Ok(new)
    }

    /// The entries the request sends, if they are good; else those of the live object.
    fn decode_live_or_new(&self, live: &Value, new: &Value) -> Managed {
        let live = || managed::decode(managed_fields(live)).unwrap_or_default();
        if !self.subresource.is_empty() {
            return live();
        }
        let sent = managed_fields(new);
        if is_reset(sent) {
            return Managed::default();
        }
        match managed::decode(sent) {
            Ok(m) if !m.managers.is_empty() => m,
            _ => live(),
        }
    }

    /// Upstream's skipNonApplied, capManagers, buildManagerInfo, managedFieldsUpdater and stripMeta for updates.
    fn tracked_update(
        &self,
        change: Change,
        managed: Managed,
        manager: &str,
        now: &str,
    ) -> Result<Managed, String> {
        if managed.managers.is_empty() && !is_new(change.old) {
            return Ok(managed);
        }
        let managed = self.record_update(change, managed, manager, now)?;
        Ok(cap(managed))
    }

    fn record_update(
        &self,
        change: Change,
        mut managed: Managed,
        manager: &str,
        now: &str,
    ) -> Result<Managed, String> {
        let id = self.updater_id(manager);
        let current = ManagerId::new(CURRENT, "", "", "");
        let new = change.new;
        let managers = self.updater.update(change, managed.managers, &current).map_err(|e| match e {
            UpdateError::Other(e) => format!("failed to update ManagedFields ({}): {e}", describe(new)),
            UpdateError::Conflicts(c) => conflict::summary(&c),
        })?;
        managed.managers = strip(managers, &current);
        if let Some(taken) = managed.managers.remove(&current) {
            let entry = match managed.managers.get(&id) {
                Some(previous) => {
                    let set = taken.set().union(previous.set());
                    taken.with_set(set)
                }
                None => taken,
            };
            managed.managers.insert(id.clone(), entry);
            managed.times.insert(id, Some(now.into()));
        }
        Ok(managed)
    }

    fn updater_id(&self, manager: &str) -> ManagerId {
        let manager = if manager.is_empty() { "unknown" } else { manager };
        ManagerId::new(manager, UPDATE, &self.api_version, &self.subresource)
    }

    /// Checks an object that is written or stored against its type, where it differs from the other one.
    fn check(&self, object: &Value, other: &Value) -> Result<(), String> {
        let Some(ty) = self.updater.versions.get(self.api_version.as_str()) else {
            return Err(format!(
                "no corresponding type for {}",
                group_version_kind(&self.api_version, &self.kind)
            ));
        };
        typed::validate_changed(&self.updater.schema, *ty, object, other, Duplicates::Allowed)
            .map_err(|e| format!("failed to convert new object ({}) to smd typed: {e}", describe(object)))
    }

    /// Merges an applied configuration into the live object.
    ///
    /// `live` is canonical and in this manager's version; for an object that does not exist it is the empty object.
    pub fn apply(
        &self,
        live: &Value,
        config: &Value,
        manager: &str,
        force: bool,
        now: &str,
    ) -> Result<Applied, Error> {
        let managed = managed::decode(managed_fields(live))
            .map_err(|e| Error::Internal(format!("failed to decode managed fields: {e}")))?;
        let at = |key: &str| config.str_at(&[key]).unwrap_or_default();
        if at("apiVersion") != self.api_version || at("kind") != self.kind {
            let kind = group_version_kind(at("apiVersion"), at("kind"));
            return Err(Error::BadRequest(format!("invalid object type: {kind}")));
        }
        let mut bare = live.clone();
        set_managed_fields(&mut bare, None);
        let (new, managed) = match self.try_apply(&bare, config, managed.clone(), manager, force, now) {
            Err(Error::Conflict { conflicts, message }) if manager == last_applied::MANAGER => {
                match last_applied::remaining(&self.updater, &bare, &self.api_version, &conflicts) {
                    None => return Err(Error::Conflict { conflicts, message }),
                    Some(rest) if rest.is_empty() => {
                        self.try_apply(&bare, config, managed, manager, true, now)?
                    }
                    Some(rest) => return Err(UpdateError::Conflicts(rest).into()),
                }
            }
            result => result?,
        };
        let changed = new.is_some();
        let mut object = new.unwrap_or(bare);
        if manager == last_applied::MANAGER {
            last_applied::renew(&mut object, config);
        }
        set_managed_fields(&mut object, managed::encode(&managed));
        Ok(Applied { object, changed })
    }

    fn try_apply(
        &self,
        live: &Value,
        config: &Value,
        mut managed: Managed,
        manager: &str,
        force: bool,
        now: &str,
    ) -> Result<(Option<Value>, Managed), Error> {
        let version = self.api_version.as_str();
        if managed.managers.is_empty() {
            managed = self
                .tracked_first(live, managed, now)
                .map_err(|e| Error::Internal(format!("failed to create manager for existing fields: {e}")))?;
        }
        let manager = if manager.is_empty() { "unknown" } else { manager };
        let id = ManagerId::new(manager, APPLY, version, &self.subresource);
        if matches!(managed_fields(config), Some(Value::List(_))) {
            return Err(Error::BadRequest("metadata.managedFields must be nil".into()));
        }
        let ty = *self.updater.versions.get(version).ok_or_else(|| {
            Error::Internal(format!("no corresponding type for {}", group_version_kind(version, &self.kind)))
        })?;
        let check = |object: &Value, what: &str, duplicates| {
            typed::validate(&self.updater.schema, ty, object, duplicates).map_err(|e| {
                Error::Internal(format!("failed to create typed {what} object ({}): {e}", describe(object)))
            })
        };
        check(config, "patch", Duplicates::Refused)?;
        check(live, "live", Duplicates::Allowed)?;
        let (object, managers) = self.updater.apply(live, config, version, managed.managers, &id, force)?;
        managed.managers = strip(managers, &id);
        if object.is_some() {
            managed.times.insert(id, Some(now.into()));
        }
        Ok((object, managed))
    }

    /// Gives what is there to a manager of its own before the first apply.
    fn tracked_first(&self, live: &Value, managed: Managed, now: &str) -> Result<Managed, String> {
        Ok(cap(self.record_update(self.change(&self.empty, live)?, managed, BEFORE_FIRST_APPLY, now)?))
    }

    fn change<'a>(&'a self, old: &'a Value, new: &'a Value) -> Result<Change<'a>, String> {
        let version = self.api_version.as_str();
        Ok(Change { old, new, version, diff: self.updater.compare(old, new, version)? })
    }
}

/// Whether a live object is that of a create.
fn is_new(live: &Value) -> bool {
    live.str_at(&["metadata", "uid"]).unwrap_or_default().is_empty()
}

/// A request removes all entries by sending an empty list or one empty entry.
fn is_reset(sent: Option<&Value>) -> bool {
    match sent {
        Some(Value::List(l)) => match l.as_slice() {
            [] => true,
            [Value::Map(m)] => m.iter().all(|(_, v)| v.is_null()),
            [Value::Null] => true,
            _ => false,
        },
        _ => false,
    }
}

/// Removes identity fields from what a manager owns.
fn strip(mut managers: managed::Managers, id: &ManagerId) -> managed::Managers {
    if let Some(entry) = managers.remove(id) {
        let set = entry.set().difference(&IDENTITY);
        if !set.is_empty() {
            managers.insert(id.clone(), entry.with_set(set));
        }
    }
    managers
}

/// Merges the oldest update managers until there are no more than allowed.
fn cap(mut managed: Managed) -> Managed {
    let time = |managed: &Managed, id: &ManagerId| managed.times.get(id).cloned().flatten();
    let mut updaters: Vec<(Option<Str>, ManagerId)> = managed
        .managers
        .iter()
        .filter(|(_, e)| !e.applied)
        .map(|(id, _)| (time(&managed, id), id.clone()))
        .collect();
    let mut count = updaters.len();
    if count <= MAX_UPDATE_MANAGERS {
        return managed;
    }
    updaters.sort();
    let mut first_of: BTreeMap<Str, ManagerId> = BTreeMap::new();
    for (when, id) in updaters {
        if count <= MAX_UPDATE_MANAGERS {
            break;
        }
        let Some(entry) = managed.managers.get(&id).cloned() else { continue };
        let bucket = ManagerId::new(OLD_UPDATES, UPDATE, &entry.api_version, "");
        let Some(first) = first_of.get(&entry.api_version) else {
            first_of.insert(entry.api_version.clone(), id);
            continue;
        };
        if !managed.managers.contains_key(&bucket)
            && let Some(moved) = managed.managers.remove(first)
        {
            managed.managers.insert(bucket.clone(), moved);
        }
        let old = managed.managers.get(&bucket).map(|b| b.set().clone()).unwrap_or_default();
        let merged = entry.set().union(&old);
        managed.managers.insert(bucket.clone(), entry.with_set(merged));
        managed.managers.remove(&id);
        count -= 1;
        managed.times.insert(bucket, when);
    }
    managed
}
