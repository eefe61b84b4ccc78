//! Feature gates: every gate of v1.37 with its history, switched by `--feature-gates` and component configuration.
//!
//! [`Gates`] is a small value (a bit per gate) that daemons build once at start and pass on; [`enabled`] reads the
//! process-wide copy that [`install`] stores, for code too deep to be handed one.
//! Does not do: other components' gates (`wardle:...`), changing gates while running.
//! Upstream: k8s.io/component-base/featuregate/feature_gate.go, compatibility/registry.go.

mod table;

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

pub use table::Gate;
use table::TABLE;

/// Maturity of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Off by default, may vanish.
    Alpha,
    /// Well tested.
    Beta,
    /// Always on, or soon so.
    Ga,
    /// On its way out.
    Deprecated,
    /// Not yet existing at the emulated version.
    PreAlpha,
}

impl Stage {
    /// As upstream prints it (GA is the empty text).
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
            Stage::Ga => "",
            Stage::Deprecated => "DEPRECATED",
            Stage::PreAlpha => "PRE-ALPHA",
        }
    }
}

/// What a gate is from one minor version on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    minor: u8,
    stage: Stage,
    default: bool,
    locked: bool,
}

/// Why a gate setting was refused; upstream's texts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GateError(String);

const WORDS: usize = TABLE.len().div_ceil(64);
const CURRENT: u8 = crate::version::MINOR as u8;

/// The state of every gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gates {
    bits: [u64; WORDS],
    emulated: u8,
}

impl Default for Gates {
    fn default() -> Self {
        Gates::at(CURRENT)
    }
}

fn spec(gate: Gate, emulated: u8) -> Spec {
    let history = TABLE[gate as usize].2;
    let found = history.iter().rev().find(|s| s.minor <= emulated).copied();
    found.unwrap_or(Spec { minor: 0, stage: Stage::PreAlpha, default: false, locked: false })
}

fn by_name(name: &str) -> Option<Gate> {
    static INDEX: OnceLock<HashMap<&'static str, Gate>> = OnceLock::new();
    INDEX.get_or_init(|| TABLE.iter().map(|row| (row.0, row.1)).collect()).get(name).copied()
}

impl Gate {
    /// Upstream's name.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].0
    }

    /// The gate of that name.
    pub fn from_name(name: &str) -> Option<Gate> {
        by_name(name)
    }
}

impl Gates {
    /// The defaults of minor version 1.`emulated`.
    pub fn at(emulated: u8) -> Self {
        let mut gates = Gates { bits: [0; WORDS], emulated };
        for row in TABLE {
            gates.put(row.1, spec(row.1, emulated).default);
        }
        gates
    }

    fn put(&mut self, gate: Gate, on: bool) {
        let (word, bit) = (gate as usize / 64, gate as usize % 64);
        self.bits[word] = self.bits[word] & !(1 << bit) | (u64::from(on) << bit);
    }

    /// Whether a gate is on.
    pub fn enabled(&self, gate: Gate) -> bool {
        self.bits[gate as usize / 64] >> (gate as usize % 64) & 1 == 1
    }

    /// Applies `name=bool` or `kube:name=bool` settings together, as one `--feature-gates` does. Returns the warnings
    /// to log (settings of GA and deprecated gates).
    ///
    /// # Errors
    /// Upstream's text for an unknown gate, a locked gate, a bad boolean, a broken dependency.
    pub fn set<S: AsRef<str>>(&mut self, settings: &[S]) -> Result<Vec<String>, GateError> {
        self.set_map(&parse(settings)?)
    }

    /// Applies settings from a configuration file's `featureGates`.
    ///
    /// # Errors
    /// As [`Gates::set`].
    pub fn set_map(&mut self, settings: &BTreeMap<String, bool>) -> Result<Vec<String>, GateError> {
        let (mut next, mut warnings, mut errors) = (*self, Vec::new(), Vec::new());
        let mut set: BTreeMap<Gate, bool> = BTreeMap::new();
        for (name, &value) in settings {
            let Some(gate) = by_name(name) else {
                return Err(GateError(format!("unrecognized feature gate: {name}")));
            };
            let spec = spec(gate, self.emulated);
            if spec.locked && spec.default != value {
                let locked = spec.default;
                errors.push(format!(
                    "cannot set feature gate {name} to {value}, feature is locked to {locked}"
                ));
                continue;
            }
            match spec.stage {
                Stage::PreAlpha => {
                    let (at, compat) = (self.emulated, self.emulated.saturating_sub(1));
                    errors.push(format!(
                        "cannot set feature gate {name} to {value}, feature is PreAlpha at emulated version 1.{at}, \
                         min compatibility version 1.{compat}"
                    ));
                    continue;
                }
                Stage::Deprecated => warnings.push(warning("deprecated", name, value)),
                Stage::Ga => warnings.push(warning("GA", name, value)),
                Stage::Alpha | Stage::Beta => {}
            }
            set.insert(gate, value);
        }
        if !errors.is_empty() {
            return Err(aggregate(errors));
        }
        // The two group gates move what was not named.
        for (group, stage) in [(Gate::AllAlpha, Stage::Alpha), (Gate::AllBeta, Stage::Beta)] {
            if let Some(&value) = set.get(&group) {
                let members =
                    TABLE.iter().map(|row| row.1).filter(|g| *g != Gate::AllAlpha && *g != Gate::AllBeta);
                for gate in members.filter(|g| spec(*g, self.emulated).stage == stage && !set.contains_key(g))
                {
                    next.put(gate, value);
                }
            }
        }
        for (gate, value) in set {
            next.put(gate, value);
        }
        let broken = next.broken_dependencies();
        if !broken.is_empty() {
            return Err(aggregate(broken));
        }
        *self = next;
        Ok(warnings)
    }

    fn broken_dependencies(&self) -> Vec<String> {
        let broken = |row: &(&str, Gate, &[Spec], &[Gate])| {
            let off: Vec<&str> = row.3.iter().filter(|d| !self.enabled(**d)).map(|d| d.name()).collect();
            (self.enabled(row.1) && !off.is_empty()).then(|| {
                format!(
                    "{} is enabled, but depends on features that are disabled: [{}]",
                    row.0,
                    off.join(" ")
                )
            })
        };
        TABLE.iter().filter_map(broken).collect()
    }

    /// Every gate with its stage and state, for metrics and `/statusz`.
    pub fn iter(&self) -> impl Iterator<Item = (Gate, Stage, bool)> + '_ {
        TABLE.iter().map(|row| (row.1, spec(row.1, self.emulated).stage, self.enabled(row.1)))
    }
}

fn warning(stage: &str, name: &str, value: bool) -> String {
    format!(
        "Warning: setting {stage} feature gate. It will be removed in a future release. featureGate={name} value={value}"
    )
}

/// Upstream: utilerrors.NewAggregate.
fn aggregate(mut errors: Vec<String>) -> GateError {
    let mut seen = std::collections::HashSet::new();
    errors.retain(|e| seen.insert(e.clone()));
    match errors.len() {
        1 => GateError(errors.remove(0)),
        _ => GateError(format!("[{}]", errors.join(", "))),
    }
}

fn parse<S: AsRef<str>>(settings: &[S]) -> Result<BTreeMap<String, bool>, GateError> {
    let mut out = BTreeMap::new();
    let (mut prefixed, mut bare) = (false, false);
    for setting in settings.iter().flat_map(|s| s.as_ref().split(',')).filter(|s| !s.is_empty()) {
        let setting = match setting.split_once(':') {
            None => {
                bare = true;
                setting
            }
            Some((component, rest)) if component.trim() == "kube" => {
                prefixed = true;
                rest
            }
            Some((component, _)) => return Err(GateError(format!("component not registered: {component}"))),
        };
        let Some((name, value)) = setting.split_once('=') else {
            return Err(GateError(format!("missing bool value for {}", setting.trim())));
        };
        let (name, value) = (name.trim(), value.trim());
        let on = crate::flags::strconv::parse_bool(value)
            .map_err(|why| GateError(format!("invalid value of {name}={value}, err: {why}")))?;
        out.insert(name.to_string(), on);
    }
    if prefixed && bare {
        let text =
            "set kube feature gates with default empty prefix or kube: prefix consistently, do not mix use";
        return Err(GateError(text.into()));
    }
    Ok(out)
}

/// The lines that `--help` lists under `--feature-gates`.
pub(crate) fn help(prefixed: bool) -> String {
    let prefix = if prefixed { "kube:" } else { "" };
    let line = |row: &(&str, Gate, &[Spec], &[Gate])| {
        let spec = spec(row.1, CURRENT);
        let listed = matches!(spec.stage, Stage::Alpha | Stage::Beta);
        listed.then(|| {
            format!("\n{prefix}{}=true|false ({} - default={})", row.0, spec.stage.as_str(), spec.default)
        })
    };
    TABLE.iter().filter_map(line).collect()
}

static INSTALLED: OnceLock<Gates> = OnceLock::new();

/// Makes `gates` the process-wide state; the first call wins.
pub fn install(gates: Gates) {
    let _ = INSTALLED.set(gates);
}

/// Process-wide state of a gate; the defaults before [`install`].
pub fn enabled(gate: Gate) -> bool {
    static DEFAULTS: OnceLock<Gates> = OnceLock::new();
    INSTALLED.get().unwrap_or_else(|| DEFAULTS.get_or_init(Gates::default)).enabled(gate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_indexed_by_gate() {
        for (at, row) in TABLE.iter().enumerate() {
            assert_eq!(row.1 as usize, at);
        }
    }

    #[test]
    fn settings() {
        let check = |settings: &[&str], expected: Result<&[(Gate, bool)], &str>| {
            let mut gates = Gates::default();
            match (gates.set(settings), expected) {
                (Ok(_), Ok(states)) => {
                    for (gate, on) in states {
                        assert_eq!(gates.enabled(*gate), *on, "{settings:?} {gate:?}");
                    }
                }
                (Err(e), Err(text)) => assert_eq!(e.to_string(), text),
                (got, want) => panic!("{settings:?}: {got:?}, wanted {want:?}"),
            }
        };
        check(&[], Ok(&[(Gate::WatchList, true), (Gate::AllAlpha, false)]));
        check(&["WatchList=false,kube:X"], Err("missing bool value for X"));
        check(&["WatchList=false", "APIResponseCompression=0"], Ok(&[(Gate::WatchList, false)]));
        check(&["kube:WatchList=f"], Ok(&[(Gate::WatchList, false)]));
        check(&["Nope=true"], Err("unrecognized feature gate: Nope"));
        check(&["wardle:Nope=true"], Err("component not registered: wardle"));
        check(
            &["WatchList=maybe"],
            Err(
                r#"invalid value of WatchList=maybe, err: strconv.ParseBool: parsing "maybe": invalid syntax"#,
            ),
        );
        check(
            &["NFTablesProxyMode=false"],
            Err("cannot set feature gate NFTablesProxyMode to false, feature is locked to true"),
        );
        check(
            &["AllAlpha=true", "GenericWorkload=true", "StorageVersionAPI=false"],
            Ok(&[(Gate::APIServingWithRoutine, true), (Gate::StorageVersionAPI, false)]),
        );
    }
}
