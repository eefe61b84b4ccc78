//! Server-side apply: who owns which field, what an apply changes, and what it conflicts with.
//!
//! Upstream is two libraries: structured-merge-diff v6 (sets of paths, typed walks, merge and update rules) and
//! apimachinery util/managedfields (the chain around it that keeps `metadata.managedFields`). Both work here on
//! trees in canonical form: what Go's encoder would print, always-present empty structs included.
//!
//! Start at [`FieldManager`]: one per kind, version and subresource. Below it, from the top: [`managed`] (the
//! entries and their encoding), `updater` (rules), [`typed`] (walks of a value along its type), [`schema`], [`Set`].
//!
//! Not here: conversion between versions (a [`Convert`] given by the caller), defaults and pruning of the
//! result (the caller's next steps), permission checks.

mod conflict;
mod fields_v1;
mod last_applied;
pub mod managed;
mod manager;
mod path;
mod scale;
pub mod schema;
mod set;
mod structural;
mod table;
#[cfg(test)]
mod tables;
mod timestamps;
pub mod typed;
mod unowned;
mod updater;
mod value;

pub use conflict::Conflict;
pub use manager::{Applied, Config, Error, FieldManager};
pub use path::{Path, PathElement};
pub use scale::{ReplicasPaths, to_parent, to_subresource};
pub use schema::{Schema, TypeRef};
pub use set::Set;
pub use structural::{UNTYPED, from_structural};
pub use table::TableTypes;
pub use timestamps::keep_unchanged_times;
pub use unowned::merge_unowned;
pub use updater::{Convert, ConvertError, Filter, NoConversion, Pattern};
