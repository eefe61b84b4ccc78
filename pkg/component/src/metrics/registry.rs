//! Which metrics exist, which of them are shown.
//!
//! Hidden: deprecated metrics one minor version after their deprecation, unless `--show-hidden-metrics-for-version`
//! names the previous version. Disabled: `--disabled-metrics`. Allow lists: `--allow-metric-labels`.
//! Upstream: component-base/metrics/{registry,version_parser,opts}.go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::RwLock;

use super::children::{Child, Family};
use super::collect::{Collect, Metrics};

/// A name is registered twice.
#[derive(Debug, thiserror::Error)]
#[error("metric {0} is registered already; give it another name")]
pub struct DuplicateName(&'static str);

/// The "Metrics" flags.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--show-hidden-metrics-for-version`, checked.
    pub show_hidden: bool,
    /// `--disabled-metrics`.
    pub disabled: BTreeSet<String>,
    /// `--allow-metric-labels`: (metric, label) to the values kept.
    pub allowed: BTreeMap<(String, String), BTreeSet<String>>,
}

impl Options {
    /// From the shared flags. Flags the daemon does not have are skipped.
    ///
    /// # Errors
    /// Upstream's texts.
    pub fn from_flags(flags: &crate::flags::FlagSet) -> Result<Self, Vec<String>> {
        let mut options = Options::default();
        let mut errors = Vec::new();
        if flags.has("show-hidden-metrics-for-version")
            && let Some(version) = flags.non_empty("show-hidden-metrics-for-version")
        {
            let previous = format!("1.{}", crate::version::MINOR - 1);
            if version == previous {
                options.show_hidden = true;
            } else {
                errors.push(format!(
                    "--show-hidden-metrics-for-version must be omitted or have the value '{previous}'. \
                     Only the previous minor version is allowed"
                ));
            }
        }
        if flags.has("disabled-metrics") {
            options.disabled = flags.list("disabled-metrics").iter().cloned().collect();
        }
        if flags.has("allow-metric-labels") {
            for (key, values) in flags.map("allow-metric-labels") {
                match options.allow(&key, &values) {
                    Ok(()) => {}
                    Err(e) => errors.push(e),
                }
            }
        }
        if errors.is_empty() { Ok(options) } else { Err(errors) }
    }

    /// Adds one allow list: `metric,label` and `v1,v2`.
    ///
    /// # Errors
    /// Upstream's text for a key that is no pair.
    pub fn allow(&mut self, key: &str, values: &str) -> Result<(), String> {
        let parts: Vec<&str> = key.split(',').collect();
        let [metric, label] = parts[..] else {
            return Err(format!(
                "invalid allow metric labels key {}, expected <metric>,<label>",
                machinery::golang::quote(key)
            ));
        };
        let values = values.trim_matches('\'').split(',').map(String::from).collect();
        self.allowed.insert((metric.to_string(), label.to_string()), values);
        Ok(())
    }
}

/// Options in force, as families see them.
#[derive(Debug, Default)]
pub(super) struct Shared {
    options: ArcSwap<Options>,
}

impl Shared {
    pub(super) fn has_allow_lists(&self, metric: &str) -> bool {
        let options = self.options.load();
        !options.allowed.is_empty() && options.allowed.keys().any(|(m, _)| m == metric)
    }

    pub(super) fn allowed(&self, metric: &str, label: &str, value: &str) -> bool {
        let options = self.options.load();
        let list = options.allowed.get(&(metric.to_string(), label.to_string()));
        list.is_none_or(|values| values.contains(value))
    }
}

struct Entry {
    collect: Arc<dyn Collect>,
    name: Option<&'static str>,
    deprecated_since: Option<u32>,
}

/// A set of metrics. Cheap to clone.
#[derive(Clone, Default)]
pub struct Registry {
    entries: Arc<RwLock<Vec<Entry>>>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("entries", &self.entries.read().len()).finish()
    }
}

/// What `/metrics` shows.
pub fn default_registry() -> &'static Registry {
    static DEFAULT: OnceLock<Registry> = OnceLock::new();
    DEFAULT.get_or_init(Registry::default)
}

impl Registry {
    /// Adds a family.
    ///
    /// # Errors
    /// The name is taken.
    pub fn register<C: Child>(&self, family: &Family<C>) -> Result<(), DuplicateName> {
        let opts = family.opts();
        let mut entries = self.entries.write();
        if entries.iter().any(|e| e.name == Some(opts.name)) {
            return Err(DuplicateName(opts.name));
        }
        family.attach(self.shared.clone());
        entries.push(Entry {
            collect: Arc::new(family.clone()),
            name: Some(opts.name),
            deprecated_since: opts.deprecated_since,
        });
        Ok(())
    }

    /// Adds a source asked at each scrape; it must not block.
    pub fn register_collector(&self, collect: Arc<dyn Collect>) {
        self.entries.write().push(Entry { collect, name: None, deprecated_since: None });
    }

    /// Applies the "Metrics" flags.
    pub fn configure(&self, options: Options) {
        self.shared.options.store(Arc::new(options));
    }

    /// Every visible family, by name.
    pub fn gather(&self) -> Vec<Metrics> {
        let options = self.shared.options.load_full();
        let mut out = Vec::new();
        for entry in self.entries.read().iter() {
            let hidden = entry.deprecated_since.is_some_and(|minor| minor < crate::version::MINOR);
            if !hidden || options.show_hidden {
                entry.collect.collect(&mut out);
            }
        }
        out.retain(|family| !options.disabled.contains(&family.name));
        out.sort_by(|a, b| a.name.cmp(&b.name));
        out
    }

    /// The text format 0.0.4 of everything visible.
    pub fn text(&self) -> String {
        super::text::prometheus(&self.gather())
    }
}
