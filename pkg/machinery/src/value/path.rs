//! Access by path of field names, the way strategies and controllers read and write trees.

use super::{List, Map, Value};

/// A write by path met something that is not a map.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("cannot set {path}: {at} is {found}, not an object")]
pub struct PathError {
    path: String,
    at: String,
    found: &'static str,
}

impl Value {
    /// The value at `path`, descending through maps. An empty path is the value itself.
    pub fn get_path(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(self, |v, key| v.get(key))
    }

    pub fn get_path_mut(&mut self, path: &[&str]) -> Option<&mut Value> {
        path.iter().try_fold(self, |v, key| v.get_mut(key))
    }

    pub fn str_at(&self, path: &[&str]) -> Option<&str> {
        self.get_path(path)?.as_str()
    }

    pub fn i64_at(&self, path: &[&str]) -> Option<i64> {
        self.get_path(path)?.as_i64()
    }

    pub fn bool_at(&self, path: &[&str]) -> Option<bool> {
        self.get_path(path)?.as_bool()
    }

    pub fn list_at(&self, path: &[&str]) -> Option<&List> {
        self.get_path(path)?.as_list()
    }

    pub fn map_at(&self, path: &[&str]) -> Option<&Map> {
        self.get_path(path)?.as_map()
    }

    /// The value at `path`, created as `Null` where absent; missing or null parents become maps.
    pub fn entry_path(&mut self, path: &[&str]) -> Result<&mut Value, PathError> {
        let mut at = self;
        for (i, key) in path.iter().enumerate() {
            if at.is_null() {
                *at = Value::Map(Map::new());
            }
            let found = at.type_name();
            let error = || PathError { path: path.join("."), at: path[..i].join("."), found };
            at = at.as_map_mut().ok_or_else(error)?.entry(key);
        }
        Ok(at)
    }

    /// Sets the value at `path`, creating parents; returns what stood there.
    pub fn set_path(&mut self, path: &[&str], value: impl Into<Value>) -> Result<Option<Value>, PathError> {
        let Some((last, parents)) = path.split_last() else {
            return Ok(Some(std::mem::replace(self, value.into())));
        };
        let parent = self.entry_path(parents)?;
        if parent.is_null() {
            *parent = Value::Map(Map::new());
        }
        let found = parent.type_name();
        match parent.as_map_mut() {
            Some(m) => Ok(m.insert(*last, value)),
            None => Err(PathError { path: path.join("."), at: parents.join("."), found }),
        }
    }

    /// Removes the entry at `path` and returns it. Parents stay, even when they became empty.
    pub fn remove_path(&mut self, path: &[&str]) -> Option<Value> {
        let (last, parents) = path.split_last()?;
        // Look before taking `&mut`, which would copy shared parents for nothing.
        self.get_path(path)?;
        self.get_path_mut(parents)?.as_map_mut()?.remove(last)
    }
}
