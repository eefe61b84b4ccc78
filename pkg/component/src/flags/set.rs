//! A set of flags with their values: parsing arguments and typed reading.
//!
//! Readers take a flag's name; asking for a name or type that is not in the daemon's own static table is a programming
//! error that the daemon's table test catches, so readers return the kind's empty value instead of an error.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use super::value::{NamedCertKey, Value};
use super::{Command, Flag, Section};
use crate::duration::GoDuration;
use machinery::golang::quote;

/// Why the command line was refused; the texts are pflag's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// No such flag.
    #[error("unknown flag: --{0}")]
    Unknown(String),
    /// No such letter.
    #[error("unknown shorthand flag: '{0}' in -{1}")]
    UnknownShort(char, String),
    /// A value was needed.
    #[error("flag needs an argument: --{0}")]
    NeedsValue(String),
    /// A value was needed by a letter.
    #[error("flag needs an argument: '{0}' in -{1}")]
    ShortNeedsValue(char, String),
    /// Not of the form of a flag.
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    /// The value does not fit.
    #[error("invalid argument {} for {} flag: {cause}", quote(.value), quote(.flag))]
    Invalid {
        /// `--name` or `-n, --name`.
        flag: String,
        /// As typed.
        value: String,
        /// Why not.
        cause: String,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) flag: Flag,
    pub(super) section: usize,
    pub(super) value: Value,
    pub(super) changed: bool,
}

/// Flags and their values.
#[derive(Debug, Clone)]
pub struct FlagSet {
    pub(super) name: &'static str,
    pub(super) titles: Vec<&'static str>,
    pub(super) entries: Vec<Entry>,
    by_name: HashMap<&'static str, usize>,
    warnings: Vec<String>,
}

/// `_` counts as `-`. Upstream: cliflag.WordSepNormalizeFunc.
fn normalised(name: &str) -> String {
    name.replace('_', "-")
}

impl FlagSet {
    pub(super) fn new(command: &Command) -> Self {
        let mut set = FlagSet {
            name: command.name,
            titles: Vec::new(),
            entries: Vec::new(),
            by_name: HashMap::new(),
            warnings: Vec::new(),
        };
        for section in command.sections.iter().chain([&crate::app::OWN_SECTION]) {
            set.add_section(section);
        }
        for (name, default) in command.defaults {
            if let Some(&at) = set.by_name.get(name) {
                let entry = &mut set.entries[at];
                entry.flag.default = default;
                entry.value = Value::from_default(entry.flag.kind, default);
            }
        }
        set
    }

    /// Adds a group; the first record of a name wins, and a repeated title continues its group.
    fn add_section(&mut self, section: &Section) {
        let at = self.titles.iter().position(|t| *t == section.title).unwrap_or_else(|| {
            self.titles.push(section.title);
            self.titles.len() - 1
        });
        for flag in section.flags {
            if self.by_name.contains_key(flag.name) {
                continue;
            }
            self.by_name.insert(flag.name, self.entries.len());
            let value = Value::from_default(flag.kind, flag.default);
            self.entries.push(Entry { flag: *flag, section: at, value, changed: false });
        }
    }

    /// Reads arguments (without the program name); returns those that are no flags.
    ///
    /// # Errors
    /// pflag's error for the first argument that does not fit.
    pub fn parse<I>(&mut self, args: I) -> Result<Vec<String>, FlagError>
    where
        I: IntoIterator<Item = String>,
    {
        let mut args = args.into_iter();
        let mut positional = Vec::new();
        while let Some(arg) = args.next() {
            if arg == "--" {
                positional.extend(args);
                break;
            }
            if let Some(long) = arg.strip_prefix("--") {
                self.parse_long(&arg, long, &mut args)?;
            } else if arg.len() > 1 && arg.starts_with('-') {
                self.parse_short(&arg[1..], &mut args)?;
            } else {
                positional.push(arg);
            }
        }
        Ok(positional)
    }

    fn parse_long(
        &mut self,
        arg: &str,
        long: &str,
        args: &mut impl Iterator<Item = String>,
    ) -> Result<(), FlagError> {
        if long.starts_with(['-', '=']) {
            return Err(FlagError::Syntax(arg.to_string()));
        }
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (long, None),
        };
        let Some(&at) = self.by_name.get(normalised(name).as_str()) else {
            return Err(FlagError::Unknown(name.to_string()));
        };
        let value = match value.or_else(|| self.entries[at].flag.no_value.map(String::from)) {
            Some(value) => value,
            None => args.next().ok_or_else(|| FlagError::NeedsValue(name.to_string()))?,
        };
        self.set_at(at, &value)
    }

    fn parse_short(
        &mut self,
        letters: &str,
        args: &mut impl Iterator<Item = String>,
    ) -> Result<(), FlagError> {
        let mut rest = letters;
        while let Some(letter) = rest.chars().next() {
            let after = &rest[letter.len_utf8()..];
            let Some(at) = self.entries.iter().position(|e| e.flag.short == Some(letter)) else {
                return Err(FlagError::UnknownShort(letter, rest.to_string()));
            };
            let value = if after.len() > 1 && after.starts_with('=') {
                std::mem::take(&mut rest);
                after[1..].to_string()
            } else if let Some(value) = self.entries[at].flag.no_value {
                rest = after;
                value.to_string()
            } else if !after.is_empty() {
                std::mem::take(&mut rest);
                after.to_string()
            } else {
                let shown = std::mem::take(&mut rest).to_string();
                args.next().ok_or(FlagError::ShortNeedsValue(letter, shown))?
            };
            self.set_at(at, &value)?;
        }
        Ok(())
    }

    fn set_at(&mut self, at: usize, value: &str) -> Result<(), FlagError> {
        let entry = &mut self.entries[at];
        let flag = entry.flag;
        entry.value.set(flag.kind, value, !entry.changed).map_err(|cause| FlagError::Invalid {
            flag: flag.short.map_or(format!("--{}", flag.name), |s| format!("-{s}, --{}", flag.name)),
            value: value.to_string(),
            cause,
        })?;
        let first = !std::mem::replace(&mut entry.changed, true);
        if let Some(why) = flag.deprecated {
            self.warnings.push(format!("Flag --{} has been deprecated, {why}", flag.name));
        }
        if let Some(why) = flag.no_effect.filter(|_| first) {
            self.warnings.push(format!("Flag --{} has no effect, {why}", flag.name));
        }
        Ok(())
    }

    /// Sets one flag as the command line would.
    ///
    /// # Errors
    /// As [`FlagSet::parse`].
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), FlagError> {
        match self.by_name.get(normalised(name).as_str()) {
            Some(&at) => self.set_at(at, value),
            None => Err(FlagError::Unknown(name.to_string())),
        }
    }

    /// Lines for standard error gathered while parsing (deprecations, flags without effect), in order.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Binary name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Every flag with its value as text, by name: for `/flagz` and start-up logs.
    pub fn rendered(&self) -> BTreeMap<&'static str, String> {
        self.entries.iter().map(|e| (e.flag.name, e.value.display(e.flag.kind))).collect()
    }

    /// Every flag's record.
    pub fn records(&self) -> impl Iterator<Item = &Flag> {
        self.entries.iter().map(|e| &e.flag)
    }

    fn value(&self, name: &str) -> Option<&Value> {
        let found = self.by_name.get(name).map(|&at| &self.entries[at].value);
        debug_assert!(found.is_some(), "flag --{name} is not in the table of {}", self.name);
        found
    }

    /// Whether the table has the flag.
    pub fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Whether the command line set the flag.
    pub fn changed(&self, name: &str) -> bool {
        self.by_name.get(name).is_some_and(|&at| self.entries[at].changed)
    }

    /// Bool flags.
    pub fn bool(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Bool(true)))
    }

    /// Text-like flags (String, Quantity, PortRange, IpPort, Version, Vmodule, Taints, Named).
    pub fn string(&self, name: &str) -> &str {
        match self.value(name) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    /// A text flag, `None` when empty.
    pub fn non_empty(&self, name: &str) -> Option<&str> {
        Some(self.string(name)).filter(|s| !s.is_empty())
    }

    /// Integer flags.
    pub fn int(&self, name: &str) -> i64 {
        match self.value(name) {
            Some(Value::Int(i)) => *i,
            Some(Value::Uint(u)) => i64::try_from(*u).unwrap_or(i64::MAX),
            _ => 0,
        }
    }

    /// Float flags.
    pub fn float(&self, name: &str) -> f64 {
        match self.value(name) {
            Some(Value::Float(f)) => *f,
            _ => 0.0,
        }
    }

    /// Duration flags as Go has them.
    pub fn go_duration(&self, name: &str) -> GoDuration {
        match self.value(name) {
            Some(Value::Duration(d)) => *d,
            _ => GoDuration(0),
        }
    }

    /// Duration flags; a negative span reads as zero.
    pub fn duration(&self, name: &str) -> Duration {
        self.go_duration(name).to_std()
    }

    /// List flags.
    pub fn list(&self, name: &str) -> &[String] {
        match self.value(name) {
            Some(Value::List(list)) => list,
            _ => &[],
        }
    }

    /// Map flags (bool maps hold "true"/"false").
    pub fn map(&self, name: &str) -> BTreeMap<String, String> {
        match self.value(name) {
            Some(Value::Map(map)) => map.clone(),
            _ => BTreeMap::new(),
        }
    }

    /// Address flags.
    pub fn ip(&self, name: &str) -> Option<IpAddr> {
        match self.value(name) {
            Some(Value::Ip(ip)) => *ip,
            _ => None,
        }
    }

    /// Certificate pair flags.
    pub fn cert_keys(&self, name: &str) -> &[NamedCertKey] {
        match self.value(name) {
            Some(Value::CertKeys(list)) => list,
            _ => &[],
        }
    }

    /// Feature gate settings in order, `component:` prefixes kept.
    pub fn gate_settings(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Some(Value::List(list)) => list.clone(),
            Some(Value::Map(map)) => map.iter().map(|(k, v)| format!("{k}={v}")).collect(),
            _ => Vec::new(),
        }
    }
}
