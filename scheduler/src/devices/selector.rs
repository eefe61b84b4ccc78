//! Expressions about devices: which ones are meant, and what attributes of theirs are computed.
//! Upstream: dynamic-resource-allocation/cel/compile.go.

use std::borrow::Cow;
use std::sync::LazyLock;

use hashbrown::HashMap;
use parking_lot::Mutex;

use cel::{Activation, Budget, DeclType, Env, EvalError, Library, MapBuilder, Program, QuantityVal};
use cel::{Semver, Type, Val, Version};
use k8s_openapi::api::resource::v1::DeviceAttribute;

use super::constraint::{Item, Values};
use super::slice::Device;
use super::supply::quantity;

/// Upstream: resourceapi.CELSelectorExpressionMaxCost.
const MOST_COST: u64 = 1_000_000;
/// Expressions that are kept compiled; there are as many as kinds of devices.
const KEPT: usize = 1000;

type Compiled = Result<Program, String>;
type Known = Mutex<HashMap<String, Compiled, foldhash::fast::RandomState>>;

/// Compiled expressions, each compiled once.
pub struct Programs {
    /// Most clusters have no expressions.
    env: LazyLock<Env>,
    selectors: Known,
    /// What computes attributes.
    deriving: Known,
}

/// Says what is wrong with an expression that evaluates to this.
type Judge = fn(&Type) -> Option<String>;

impl Default for Programs {
    fn default() -> Self {
        Self { env: LazyLock::new(environment), selectors: Known::default(), deriving: Known::default() }
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
    fn get(&self, known: &Known, expression: &str, judge: Judge) -> Compiled {
        let mut known = known.lock();
        if let Some(found) = known.get(expression) {
            return found.clone();
        }
        let compiled = self.env.compile(expression, None).map_err(|e| e.to_string());
        let compiled = compiled.and_then(|program| match judge(program.output_type()) {
            None => Ok(program),
            Some(problem) => Err(problem),
        });
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(expression.into(), compiled.clone());
        compiled
    }

    /// Whether an expression means a device.
    pub fn matches(&self, expression: &str, driver: &str, device: &Device) -> Result<bool, Failed> {
        let program = self.get(&self.selectors, expression, tells).map_err(Failed::Compile)?;
        let device = value(driver, device).map_err(Failed::Run)?;
        let activation = Activation::new().bind("device", Ok(device));
        let answer = program.eval(&activation, &Budget::cost(MOST_COST));
        let answer = answer.map_err(|e| Failed::Run(explained(&e)))?;
        answer.as_bool().ok_or_else(|| {
            let kind = answer.type_name();
            Failed::Run(format!("CEL result of type {kind} could not be converted to bool: type conversion error from '{kind}' to 'bool'"))
        })
    }

    /// The values of an attribute that an expression computes, as constraints see them: without `lists` one of several
    /// values has none that can be compared. Upstream: EvaluateDerivedAttribute.
    pub fn derive<'v>(
        &self,
        expression: &str,
        driver: &str,
        device: &Device,
        lists: bool,
    ) -> Result<Values<'v>, Failed> {
        let program = self.get(&self.deriving, expression, derives).map_err(Failed::Compile)?;
        let device = value(driver, device).map_err(Failed::Run)?;
        let activation = Activation::new().bind("device", Ok(device));
        let answer = program.eval(&activation, &Budget::cost(MOST_COST));
        let answer = answer.map_err(|e| Failed::Run(e.to_string()))?;
        computed(&answer, lists).map_err(Failed::Run)
    }
}

fn tells(output: &Type) -> Option<String> {
    let ok = matches!(output, Type::Bool | Type::Dyn);
    (!ok).then(|| format!("must evaluate to bool or the unknown type, not {output}"))
}

/// Upstream: isAllowedDerivedAttributeType.
fn derives(output: &Type) -> Option<String> {
    let scalar = |t: &Type| match t {
        Type::Bool | Type::Int | Type::String | Type::Any | Type::Dyn => true,
        other => *other == Type::object("kubernetes.Semver"),
    };
    let ok = scalar(output) || matches!(output, Type::List(item) if scalar(item));
    (!ok).then(|| {
        format!("must evaluate to a primitive scalar (string, integer, boolean, semver) or a list of these scalars, not {output}")
    })
}

/// Upstream: valToDeviceAttribute.
fn computed<'v>(answer: &Val<'_>, lists: bool) -> Result<Values<'v>, String> {
    if let Some(item) = item(answer) {
        return Ok(Values::from_iter([item]));
    }
    let Val::List(list) = answer else {
        return Err(format!("unsupported CEL return type: {}", go_type(answer)));
    };
    let mut all = Values::new();
    for (i, value) in list.iter().enumerate() {
        let value = value.map_err(|e| e.to_string())?;
        let kind = all.first().map(std::mem::discriminant);
        match item(&value) {
            Some(item) if kind.is_none_or(|k| k == std::mem::discriminant(&item)) => all.push(item),
            _ => return Err(misfit(all.first(), i, go_type(&value))),
        }
    }
    Ok(if lists { all } else { Values::new() })
}

fn misfit(first: Option<&Item<'_>>, at: usize, found: &str) -> String {
    let wanted = match first {
        None => return format!("unsupported list element type: {found}"),
        Some(Item::Int(_)) => "int",
        Some(Item::Bool(_)) => "bool",
        Some(Item::Text(_)) => "string",
        Some(Item::Version(_)) => "semver",
    };
    format!("expected list element at index {at} to be {wanted}, got {found}")
}

fn item<'v>(value: &Val<'_>) -> Option<Item<'v>> {
    let version = || Some(Item::Version(Cow::Owned(value.as_object::<Semver>()?.to_string())));
    match value {
        Val::Bool(b) => Some(Item::Bool(*b)),
        Val::Int(i) => Some(Item::Int(*i)),
        Val::Str(text) => Some(Item::Text(Cow::Owned(text.to_string()))),
        _ => version(),
    }
}

/// How upstream calls the type of a value in errors.
fn go_type<'v>(value: &'v Val<'_>) -> &'v str {
    match value {
        Val::Null => "structpb.NullValue",
        Val::Bool(_) => "bool",
        Val::Int(_) => "int64",
        Val::Uint(_) => "uint64",
        Val::Double(_) => "float64",
        Val::Str(_) => "string",
        Val::Bytes(_) => "[]uint8",
        Val::Duration(_) => "time.Duration",
        Val::Timestamp(_) => "time.Time",
        Val::List(_) => "[]ref.Val",
        Val::Map(_) => "map[ref.Val]ref.Val",
        Val::Object(object) if object.type_name() == "kubernetes.Semver" => "semver.Version",
        Val::Object(object) if object.type_name() == "kubernetes.Quantity" => "*resource.Quantity",
        other => other.type_name(),
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
