//! Expressions that say which devices are meant. Upstream: dynamic-resource-allocation/cel/compile.go.

use hashbrown::HashMap;
use parking_lot::Mutex;

use cel::{Activation, Budget, DeclType, Env, EvalError, Library, MapBuilder, Program, QuantityVal};
use cel::{Semver, Type, Val, Version};
use k8s_openapi::api::resource::v1::{Device, DeviceAttribute};

use super::supply::quantity;

/// Upstream: resourceapi.CELSelectorExpressionMaxCost.
const MOST_COST: u64 = 1_000_000;
/// Expressions that are kept compiled; there are as many as kinds of devices.
const KEPT: usize = 1000;

type Compiled = Result<Program, String>;

/// Compiled expressions, each compiled once.
pub struct Programs {
    env: Env,
    known: Mutex<HashMap<String, Compiled, foldhash::fast::RandomState>>,
}

impl Default for Programs {
    fn default() -> Self {
        Self { env: environment(), known: Mutex::default() }
    }
}

fn environment() -> Env {
    let text = || DeclType::simple(Type::String, 64);
    let by_name = |value: DeclType| DeclType::map(text(), DeclType::map(text(), value, 32), 32);
    let fields = [
        ("driver", text()),
        ("allowMultipleAllocations", DeclType::simple(Type::Bool, 1)),
        ("attributes", by_name(DeclType::simple(Type::Dyn, 64))),
        ("capacity", by_name(DeclType::simple(Type::object("kubernetes.Quantity"), 64))),
    ];
    let fields = fields.into_iter().map(|(name, t)| (name.into(), t)).collect();
    let device = DeclType::object("kubernetes.DRADevice", fields);
    Env::builder(Version::Stored).library(Library::Bindings).declare("device", &device).build()
}

/// Why an expression has no answer.
pub enum Failed {
    Compile(String),
    Run(String),
}

impl Programs {
    fn get(&self, expression: &str) -> Compiled {
        let mut known = self.known.lock();
        if let Some(found) = known.get(expression) {
            return found.clone();
        }
        let compiled = self.compile(expression);
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(expression.into(), compiled.clone());
        compiled
    }

    fn compile(&self, expression: &str) -> Compiled {
        let program = self.env.compile(expression, None).map_err(|e| e.to_string())?;
        match program.output_type() {
            Type::Bool | Type::Dyn => Ok(program),
            other => Err(format!("must evaluate to bool or the unknown type, not {other}")),
        }
    }

    /// Whether an expression means a device.
    pub fn matches(&self, expression: &str, driver: &str, device: &Device) -> Result<bool, Failed> {
        let program = self.get(expression).map_err(Failed::Compile)?;
        let device = value(driver, device).map_err(Failed::Run)?;
        let activation = Activation::new().bind("device", Ok(device));
        let answer = program.eval(&activation, &Budget::cost(MOST_COST));
        let answer = answer.map_err(|e| Failed::Run(explained(&e)))?;
        answer.as_bool().ok_or_else(|| {
            let kind = answer.type_name();
            Failed::Run(format!("CEL result of type {kind} could not be converted to bool: type conversion error from '{kind}' to 'bool'"))
        })
    }
}

/// Upstream: EnhanceRuntimeError.
fn explained(error: &EvalError) -> String {
    let text = error.to_string();
    if text.contains("no such key:") {
        return format!(
            "{text}. consider using CEL optional chaining (.? followed by orValue()) or guarding the check with has() for optional fields"
        );
    }
    text
}

/// A device as expressions see it.
fn value<'a>(driver: &'a str, device: &'a Device) -> Result<Val<'a>, String> {
    let mut attributes = Vec::new();
    for (name, attribute) in device.attributes.iter().flatten() {
        let value = attribute_value(attribute).map_err(|e| format!("attribute {name}: {e}"))?;
        attributes.push((name.as_str(), value));
    }
    let amount = |q| Val::object(QuantityVal(quantity(q)));
    let capacity = device.capacity.iter().flatten().map(|(n, c)| (n.as_str(), amount(&c.value)));
    let mut map = MapBuilder::default();
    map.set("driver".into(), driver.into());
    let multiple = device.allow_multiple_allocations.unwrap_or(false);
    map.set("allowMultipleAllocations".into(), multiple.into());
    map.set("attributes".into(), by_domain(driver, attributes));
    map.set("capacity".into(), by_domain(driver, capacity));
    Ok(map.build())
}

/// Values by domain, then by name. A name without a domain is the driver's; a domain that is not there is empty.
fn by_domain<'a>(driver: &'a str, values: impl IntoIterator<Item = (&'a str, Val<'a>)>) -> Val<'a> {
    let mut domains: Vec<(&str, MapBuilder<'a>)> = Vec::new();
    for (name, value) in values {
        let (domain, id) = name.split_once('/').unwrap_or((driver, name));
        let at = domains.iter().position(|(d, _)| *d == domain).unwrap_or_else(|| {
            domains.push((domain, MapBuilder::default()));
            domains.len() - 1
        });
        domains[at].1.set(id.into(), value);
    }
    let mut map = MapBuilder::default();
    for (domain, values) in domains {
        map.set(domain.into(), values.build());
    }
    map.set_default(MapBuilder::default().build());
    map.build()
}

/// Upstream: getAttributeValue.
fn attribute_value(attribute: &DeviceAttribute) -> Result<Val<'_>, String> {
    let version = |text: &str| {
        let parsed = Semver::parse(text).map_err(|e| format!("parse semantic version: {e}"));
        parsed.map(Val::object)
    };
    let a = attribute;
    if let Some(list) = &a.ints {
        return Ok(Val::list(list.iter().map(|i| Val::Int(*i)).collect()));
    }
    if let Some(list) = &a.bools {
        return Ok(Val::list(list.iter().map(|b| Val::Bool(*b)).collect()));
    }
    if let Some(list) = &a.strings {
        return Ok(Val::list(list.iter().map(|s| s.as_str().into()).collect()));
    }
    if let Some(list) = &a.versions {
        return Ok(Val::list(list.iter().map(|v| version(v)).collect::<Result<_, _>>()?));
    }
    match (a.int, a.bool, &a.string, &a.version) {
        (Some(int), ..) => Ok(Val::Int(int)),
        (_, Some(bool), ..) => Ok(Val::Bool(bool)),
        (_, _, Some(text), _) => Ok(text.as_str().into()),
        (.., Some(text)) => version(text),
        _ => Err("unsupported attribute value".into()),
    }
}
