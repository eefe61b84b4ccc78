//! The rules of updates and applies on sets.
//!
//! Upstream: structured-merge-diff merge/update.go (`Updater`). Works on objects as trees; a manager's set belongs
//! to the version it was written in, so objects are converted before they are compared with it.

use super::conflict::Conflict;
use super::managed::{Entry, ManagerId, Managers};
use super::schema::{Schema, TypeRef};
use super::set::Set;
use super::typed::{self, Comparison};
use super::value::equal;
use crate::value::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Why an object could not be converted to a manager's version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConvertError {
    /// The version does not exist any more: what its manager owned is forgotten.
    MissingVersion,
    Failed(String),
}

/// Converts objects between versions of their kind.
pub trait Convert: Send + Sync {
    /// The object in another version, in canonical form.
    fn convert(&self, object: &Value, api_version: &str) -> Result<Value, ConvertError>;
}

/// For kinds with one version: every other one is missing.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoConversion;

impl Convert for NoConversion {
    fn convert(&self, _: &Value, _: &str) -> Result<Value, ConvertError> {
        Err(ConvertError::MissingVersion)
    }
}

/// Which changes count for ownership: upstream's reset fields, or for some subresources only chosen ones.
#[derive(Clone, Debug)]
pub enum Filter {
    /// These paths and all below them are not tracked.
    Exclude(Set),
    /// Only what the patterns match is tracked.
    Include(Pattern),
}

/// A pattern of paths: a prefix whose items may be anything.
#[derive(Clone, Debug)]
pub enum Pattern {
    Any,
    /// The first pattern that fits an element decides; no element stands for any.
    Elements(Vec<(Option<super::PathElement>, Pattern)>),
}

impl Filter {
    pub(super) fn apply(&self, set: &Set) -> Set {
        match self {
            Filter::Exclude(paths) => set.recursive_difference(paths),
            Filter::Include(pattern) => included(set, pattern),
        }
    }
}

fn included(set: &Set, pattern: &Pattern) -> Set {
    let Pattern::Elements(patterns) = pattern else { return set.clone() };
    let matching =
        |pe: &super::PathElement| patterns.iter().find(|(p, _)| p.as_ref().is_none_or(|p| p == pe));
    let child = |(pe, below): &(super::PathElement, Arc<Set>)| {
        let (_, inner) = matching(pe)?;
        Some((pe.clone(), Arc::new(included(below, inner)))).filter(|(_, s)| !s.is_empty())
    };
    Set {
        members: set.members.iter().filter(|m| matching(m).is_some()).cloned().collect(),
        children: set.children.iter().filter_map(child).collect(),
    }
}

/// What went wrong: conflicts are for the user, anything else is an internal error.
#[derive(Debug)]
pub(super) enum UpdateError {
    Conflicts(Vec<Conflict>),
    Other(String),
}

impl From<String> for UpdateError {
    fn from(e: String) -> Self {
        UpdateError::Other(e)
    }
}

/// A write: from one object to another, both in a version, and what that changes.
pub(super) struct Change<'a> {
    pub old: &'a Value,
    pub new: &'a Value,
    pub version: &'a str,
    pub diff: Comparison,
}

/// Everything the rules need to know about a kind.
pub(super) struct Updater {
    pub schema: Arc<Schema>,
    /// The type of the kind in each of its versions.
    pub versions: HashMap<String, TypeRef>,
    pub converter: Arc<dyn Convert>,
    pub filters: HashMap<String, Filter>,
}

/// An object in one version, with what it was converted to.
struct Versioned<'a> {
    updater: &'a Updater,
    object: &'a Value,
    api_version: &'a str,
}

impl Versioned<'_> {
    /// The object in a version; none if the version is missing.
    fn at(&self, api_version: &str) -> Result<Option<(Value, TypeRef)>, String> {
        self.updater.convert(self.object, self.api_version, api_version)
    }
}

impl Updater {
    fn convert(&self, object: &Value, from: &str, to: &str) -> Result<Option<(Value, TypeRef)>, String> {
        if from == to {
            return Ok(self.versions.get(to).map(|t| (object.clone(), *t)));
        }
        let Some(ty) = self.versions.get(to) else { return Ok(None) };
        match self.converter.convert(object, to) {
            Ok(v) => Ok(Some((v, *ty))),
            Err(ConvertError::MissingVersion) => Ok(None),
            Err(ConvertError::Failed(e)) => Err(e),
        }
    }

    fn type_of(&self, api_version: &str) -> Result<TypeRef, String> {
        self.versions
            .get(api_version)
            .copied()
            .ok_or_else(|| format!("no corresponding type for {api_version}"))
    }

    fn to_set(&self, ty: TypeRef, object: &Value) -> Result<Set, String> {
        typed::to_set(&self.schema, ty, object).map_err(|e| e.to_string())
    }

    /// Adapts recorded sets to types that changed since; forgets managers of missing versions.
    fn reconcile(&self, live: &Versioned, managers: Managers) -> Result<Managers, String> {
        let mut out = Managers::default();
        for (id, entry) in managers {
            let api_version = &entry.api_version;
            let ty = if api_version == live.api_version {
                self.versions.get(api_version.as_str()).copied()
            } else {
                live.at(api_version)?.map(|(_, ty)| ty)
            };
            let Some(ty) = ty else { continue };
            let adapted = typed::reconcile(&self.schema, ty, entry.set())
                .map_err(|e| format!("errors reconciling field set with schema: {e}"))?;
            let entry = match adapted {
                Some(set) => entry.with_set(set),
                None => entry,
            };
            out.insert(id, entry);
        }
        Ok(out)
    }

    /// Takes what changed from all managers but `workflow`. Answers the managers and what changed in `version`.
    fn take_ownership(
        &self,
        change: Change,
        mut managers: Managers,
        workflow: &ManagerId,
        force: bool,
    ) -> Result<(Managers, Comparison), UpdateError> {
        let Change { old, new, version, diff } = change;
        let compare = |ty: TypeRef, old: &Value, new: &Value| {
            typed::compare(&self.schema, ty, old, new).map_err(|e| format!("failed to compare objects: {e}"))
        };
        let changes = diff.filtered(self.filters.get(version));
        let mut by_version: BTreeMap<String, Option<Comparison>> = BTreeMap::new();
        let mut conflicts: Vec<(ManagerId, Set)> = Vec::new();
        let mut missing = Vec::new();
        for (id, entry) in managers.iter().filter(|(id, _)| *id != workflow) {
            let changes = if entry.api_version == version {
                &changes
            } else {
                if !by_version.contains_key(entry.api_version.as_str()) {
                    let at = |object| self.convert(object, version, &entry.api_version);
                    let both = (
                        at(old).map_err(|e| format!("failed to convert old object: {e}"))?,
                        at(new).map_err(|e| format!("failed to convert new object: {e}"))?,
                    );
                    let changes = match both {
                        (Some((old, ty)), Some((new, _))) => Some(
                            compare(ty, &old, &new)?.filtered(self.filters.get(entry.api_version.as_str())),
                        ),
                        _ => None,
                    };
                    by_version.insert(entry.api_version.to_string(), changes);
                }
                match by_version.get(entry.api_version.as_str()) {
                    Some(Some(changes)) => changes,
                    _ => {
                        missing.push(id.clone());
                        continue;
                    }
                }
            };
            let taken = entry.set().intersection(&changes.modified);
            let taken = taken.union(&entry.set().intersection(&changes.added));
            if !taken.is_empty() {
                conflicts.push((id.clone(), taken));
            }
        }
        if !force && !conflicts.is_empty() {
            let of = |(id, set): (ManagerId, Set)| {
                set.paths()
                    .into_iter()
                    .map(move |path| Conflict { manager: id.clone(), path })
                    .collect::<Vec<_>>()
            };
            return Err(UpdateError::Conflicts(conflicts.into_iter().flat_map(of).collect()));
        }
        for id in missing {
            managers.remove(&id);
        }
        for (id, taken) in conflicts {
            if let Some(entry) = managers.remove(&id) {
                let rest = entry.set().difference(&taken);
                managers.insert(id, entry.with_set(rest));
            }
        }
        for (id, entry) in managers.iter_mut().filter(|(id, _)| *id != workflow) {
            let removed = match by_version.get(entry.api_version.as_str()) {
                _ if entry.api_version == version => &changes.removed,
                Some(Some(changes)) => &changes.removed,
                _ => continue,
            };
            if entry.set().intersects(removed) {
                debug_assert_ne!(id, workflow);
                *entry = entry.clone().with_set(entry.set().difference(removed));
            }
        }
        managers.retain(|_, entry| !entry.set().is_empty());
        Ok((managers, changes))
    }

    /// What differs between two objects in a version.
    pub fn compare(&self, old: &Value, new: &Value, version: &str) -> Result<Comparison, String> {
        typed::compare(&self.schema, self.type_of(version)?, old, new)
            .map_err(|e| format!("failed to compare objects: {e}"))
    }

    /// The text of the set that an update gives the one manager of a new object, without `identity`; none where that
    /// has to be found by [`Updater::update`]. Managed fields of the objects must be absent or null.
    pub fn added(&self, old: &Value, new: &Value, version: &str, identity: &Set) -> Option<String> {
        let trees = match self.filters.get(version) {
            None => None,
            Some(Filter::Exclude(trees)) => Some(trees),
            Some(Filter::Include(_)) => return None,
        };
        let without = typed::Without { trees, paths: Some(identity) };
        typed::added(&self.schema, *self.versions.get(version)?, old, new, without)
    }

    /// What an update makes of the managers.
    pub fn update(
        &self,
        change: Change,
        managers: Managers,
        manager: &ManagerId,
    ) -> Result<Managers, UpdateError> {
        let version = change.version;
        let versioned = Versioned { updater: self, object: change.old, api_version: version };
        let managers = self.reconcile(&versioned, managers)?;
        let (mut managers, changes) = self.take_ownership(change, managers, manager, true)?;
        let own = managers.remove(manager).map(|e| e.set().clone()).unwrap_or_default();
        let mut set = own.difference(&changes.removed).union(&changes.modified).union(&changes.added);
        if let Some(filter) = self.filters.get(version) {
            set = filter.apply(&set);
        }
        if !set.is_empty() {
            managers.insert(manager.clone(), Entry::new(set, version.into(), false));
        }
        Ok(managers)
    }

    /// Merges an applied configuration: the new object (none if nothing changes) and the managers.
    pub fn apply(
        &self,
        live: &Value,
        config: &Value,
        version: &str,
        managers: Managers,
        manager: &ManagerId,
        force: bool,
    ) -> Result<(Option<Value>, Managers), UpdateError> {
        let versioned = Versioned { updater: self, object: live, api_version: version };
        let mut managers = self.reconcile(&versioned, managers)?;
        let ty = self.type_of(version)?;
        let merged = typed::merge(&self.schema, ty, live, config)
            .map_err(|e| format!("failed to merge config: {e}"))?;
        let mut set = self.to_set(ty, config).map_err(|e| format!("failed to get field set: {e}"))?;
        if let Some(filter) = self.filters.get(version) {
            set = filter.apply(&set);
        }
        let last = managers.insert(manager.clone(), Entry::new(set, version.into(), true));
        let new = self
            .prune(merged, version, &managers, last.as_ref())
            .map_err(|e| format!("failed to prune fields: {e}"))?;
        let change = Change { old: live, new: &new, version, diff: self.compare(live, &new, version)? };
        let (managers, _) = self.take_ownership(change, managers, manager, force)?;
        let changed = !equal(live, &new);
        Ok((changed.then_some(new), managers))
    }

    /// Removes what the manager applied last time, does not apply now, and nobody else owns.
    fn prune(
        &self,
        merged: Value,
        version: &str,
        managers: &Managers,
        last: Option<&Entry>,
    ) -> Result<Value, String> {
        let Some(last) = last.filter(|l| !l.set().is_empty()) else { return Ok(merged) };
        let last_version = last.api_version.as_str();
        let converted = self
            .convert(&merged, version, last_version)
            .map_err(|e| format!("failed to convert merged object to last applied version: {e}"))?;
        let Some((converted, ty)) = converted else { return Ok(merged) };
        let last_set = last.set().with_named_fields(&self.schema, Some(ty));
        let pruned = typed::remove(&self.schema, ty, &converted, &last_set);
        let (pruned, at) = self
            .add_back_owned(&converted, pruned, last_version, managers)
            .map_err(|e| format!("failed add back owned items: {e}"))?;
        let pruned = self
            .add_back_dangling(&converted, &pruned, &at, last, ty)
            .map_err(|e| format!("failed add back dangling items: {e}"))?;
        match self.convert(&pruned, last_version, version)? {
            Some((v, _)) => Ok(v),
            None => Err(format!("no corresponding type for {version}")),
        }
    }

    /// Puts back what some manager owns. Answers the object and the version it is in.
    fn add_back_owned(
        &self,
        merged: &Value,
        pruned: Value,
        pruned_version: &str,
        managers: &Managers,
    ) -> Result<(Value, String), String> {
        let mut owned: BTreeMap<&str, Set> = BTreeMap::new();
        for entry in managers.values() {
            let set = owned.entry(entry.api_version.as_str()).or_default();
            *set = set.union(entry.set());
        }
        let (mut merged, mut pruned, mut at) = (merged.clone(), pruned, pruned_version.to_string());
        // The version at hand comes first: conversion may need what was pruned.
        let first = owned.remove_entry(pruned_version);
        for (version, set) in first.into_iter().chain(owned) {
            let convert = |v: &Value, what: &str| {
                self.convert(v, &at, version)
                    .map_err(|e| format!("failed to convert {what} object at version {version}: {e}"))
            };
            let (Some((m, ty)), Some((p, _))) = (convert(&merged, "merged")?, convert(&pruned, "pruned")?)
            else {
                continue;
            };
            let named = |s: &Set| s.with_named_fields(&self.schema, Some(ty));
            let merged_set = self.to_set(ty, &m).map_err(|e| {
                format!("failed to create field set from merged object at version {version}: {e}")
            })?;
            let pruned_set = self.to_set(ty, &p).map_err(|e| {
                format!("failed to create field set from pruned object at version {version}: {e}")
            })?;
            let gone = named(&merged_set).difference(&named(&pruned_set).union(&named(&set)));
            pruned = typed::remove(&self.schema, ty, &m, &gone);
            merged = m;
            at = version.to_string();
        }
        Ok((pruned, at))
    }

    /// Puts back what was pruned without having been owned by the applying manager.
    fn add_back_dangling(
        &self,
        merged: &Value,
        pruned: &Value,
        pruned_version: &str,
        last: &Entry,
        ty: TypeRef,
    ) -> Result<Value, String> {
        let converted = self
            .convert(pruned, pruned_version, &last.api_version)
            .map_err(|e| format!("failed to convert pruned object to last applied version: {e}"))?;
        let Some((converted, _)) = converted else { return Ok(merged.clone()) };
        let named = |s: &Set| s.with_named_fields(&self.schema, Some(ty));
        let pruned_set = self.to_set(ty, &converted).map_err(|e| {
            format!("failed to create field set from pruned object in last applied version: {e}")
        })?;
        let merged_set = self.to_set(ty, merged).map_err(|e| {
            format!("failed to create field set from merged object in last applied version: {e}")
        })?;
        let gone = named(&merged_set).difference(&named(&pruned_set)).intersection(&named(last.set()));
        Ok(typed::remove(&self.schema, ty, merged, &gone))
    }
}
