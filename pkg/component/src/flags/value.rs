//! The value of one flag: reading it from text, adding to it on repeated use, printing it as pflag does.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Kind, csv, strconv};
use crate::duration::GoDuration;
use machinery::golang::quote;

/// A parsed value. Kinds that only differ in checks share a variant.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Bool.
    Bool(bool),
    /// Signed integers.
    Int(i64),
    /// Unsigned integers.
    Uint(u64),
    /// Floats.
    Float(f64),
    /// Durations.
    Duration(GoDuration),
    /// Text-like kinds.
    Text(String),
    /// Lists.
    List(Vec<String>),
    /// Maps.
    Map(BTreeMap<String, String>),
    /// Address; `None` is Go's nil.
    Ip(Option<IpAddr>),
    /// Certificate pairs.
    CertKeys(Vec<NamedCertKey>),
}

/// One `--tls-sni-cert-key` value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedCertKey {
    /// Certificate chain file.
    pub cert_file: String,
    /// Key file.
    pub key_file: String,
    /// Names it serves; empty means "those in the certificate".
    pub names: Vec<String>,
}

impl NamedCertKey {
    fn parse(text: &str) -> Result<Self, String> {
        let (pair, names) = match text.split_once(':') {
            Some((_, names)) if names.trim().is_empty() => {
                return Err("empty names list is not allowed".into());
            }
            Some((pair, names)) => (pair, names.trim().split(',').map(|n| n.trim().to_string()).collect()),
            None => (text, Vec::new()),
        };
        match pair.trim().split(',').collect::<Vec<_>>()[..] {
            [cert, key] => Ok(NamedCertKey {
                cert_file: cert.trim().to_string(),
                key_file: key.trim().to_string(),
                names,
            }),
            _ => Err("expected comma separated certificate and key file paths".into()),
        }
    }
}

impl std::fmt::Display for NamedCertKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{}", self.cert_file, self.key_file)?;
        if self.names.is_empty() { Ok(()) } else { write!(f, ":{}", self.names.join(",")) }
    }
}

impl Value {
    /// The value a default text stands for. Tables are tested, so a wrong default falls back to the empty value.
    pub(super) fn from_default(kind: Kind, text: &str) -> Value {
        let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        let empty = match kind {
            Kind::Bool => Value::Bool(false),
            Kind::Int | Kind::Int32 | Kind::Int64 | Kind::Level => Value::Int(0),
            Kind::Uint => Value::Uint(0),
            Kind::Float32 | Kind::Float64 => Value::Float(0.0),
            Kind::Duration => Value::Duration(GoDuration(0)),
            Kind::Strings | Kind::StringArray | Kind::Int32Slice | Kind::Multimap | Kind::ReservedMemory => {
                Value::List(Vec::new())
            }
            Kind::StringToString
            | Kind::MapStringString
            | Kind::MapNoSplit
            | Kind::ConfigurationMap
            | Kind::LangleMap
            | Kind::MapStringBool => Value::Map(BTreeMap::new()),
            Kind::Ip => Value::Ip(None),
            Kind::NamedCertKey => Value::CertKeys(Vec::new()),
            Kind::String
            | Kind::IpPort
            | Kind::Quantity
            | Kind::PortRange
            | Kind::Taints
            | Kind::Version
            | Kind::Vmodule
            | Kind::Named(_) => return Value::Text(text.to_string()),
        };
        if inner.is_empty() || text == "<nil>" {
            return empty;
        }
        let mut value = empty.clone();
        if value.set(kind, inner, true).is_ok() { value } else { empty }
    }

    /// Applies one use of the flag; `first` replaces the default of list and map kinds.
    pub(super) fn set(&mut self, kind: Kind, text: &str, first: bool) -> Result<(), String> {
        let extend = |this: &mut Value, items: Vec<String>| match this {
            Value::List(list) if !first => list.extend(items),
            other => *other = Value::List(items),
        };
        let merge = |this: &mut Value, items: BTreeMap<String, String>| match this {
            Value::Map(map) if !first => map.extend(items),
            other => *other = Value::Map(items),
        };
        match kind {
            Kind::Bool => *self = Value::Bool(strconv::parse_bool(text)?),
            Kind::Int | Kind::Int64 => *self = Value::Int(strconv::parse_int(text, 64)?),
            Kind::Int32 => *self = Value::Int(strconv::parse_int(text, 32)?),
            Kind::Level => *self = Value::Int(parse_level(text)?),
            Kind::Uint => *self = Value::Uint(strconv::parse_uint(text)?),
            Kind::Float32 => *self = Value::Float(strconv::parse_float(text, 32)?),
            Kind::Float64 => *self = Value::Float(strconv::parse_float(text, 64)?),
            Kind::Duration => {
                *self = Value::Duration(GoDuration::parse(text).map_err(|e| e.to_string())?);
            }
            Kind::String | Kind::Named(_) => *self = Value::Text(text.to_string()),
            Kind::Strings => extend(self, csv::split(text)?),
            Kind::StringArray | Kind::ReservedMemory => extend(self, vec![text.to_string()]),
            Kind::Int32Slice => {
                let items = text.split(',').map(|d| strconv::parse_int(d, 32).map(|v| v.to_string()));
                extend(self, items.collect::<Result<_, _>>()?);
            }
            Kind::StringToString => merge(self, parse_string_to_string(text)?),
            Kind::MapStringString => {
                merge(self, parse_map(text, '=', "malformed pair, expect string=string")?)
            }
            Kind::MapNoSplit => {
                let (k, v) = text.split_once('=').ok_or("malformed pair, expect string=string")?;
                merge(self, BTreeMap::from([(k.trim().to_string(), v.trim().to_string())]));
            }
            Kind::ConfigurationMap => merge(self, parse_configuration(text)),
            Kind::LangleMap => merge(self, parse_map(text, '<', "malformed pair, expect string<string")?),
            Kind::MapStringBool => merge(self, parse_bools(text)?),
            Kind::Multimap => {
                extend(self, text.split(',').filter(|p| !p.is_empty()).map(|p| p.trim().into()).collect())
            }
            Kind::Ip if text.is_empty() => {}
            Kind::Ip => *self = Value::Ip(Some(parse_ip(text)?)),
            Kind::IpPort => *self = Value::Text(parse_ip_port(text)?),
            Kind::Quantity => *self = Value::Text(parse_quantity(text)?),
            Kind::PortRange => *self = Value::Text(parse_port_range(text)?),
            Kind::NamedCertKey => {
                let pair = NamedCertKey::parse(text)?;
                match self {
                    Value::CertKeys(list) if !first => list.push(pair),
                    other => *other = Value::CertKeys(vec![pair]),
                }
            }
            Kind::Taints => match self {
                Value::Text(have) if !first && !have.is_empty() => *have = format!("{have},{text}"),
                other => *other = Value::Text(text.to_string()),
            },
            Kind::Version => *self = Value::Text(parse_version(text)?),
            Kind::Vmodule => *self = Value::Text(check_vmodule(text)?),
        }
        Ok(())
    }

    /// pflag's `String()`.
    pub(super) fn display(&self, kind: Kind) -> String {
        match self {
            Value::Bool(b) => b.to_string(),
            Value::Int(i) => i.to_string(),
            Value::Uint(u) => u.to_string(),
            Value::Float(f) => strconv::format_float(*f, if kind == Kind::Float32 { 32 } else { 64 }),
            Value::Duration(d) => d.to_string(),
            Value::Text(t) => t.clone(),
            Value::List(l) if kind == Kind::Multimap => {
                let mut pairs: Vec<String> =
                    l.iter().map(|p| if p.contains(':') { p.clone() } else { format!(":{p}") }).collect();
                pairs.sort_by(|a, b| a.split(':').next().cmp(&b.split(':').next()));
                pairs.join(",")
            }
            Value::List(l) if kind == Kind::ReservedMemory => l.join(","),
            Value::List(l) => format!("[{}]", csv::join(l)),
            Value::Map(m) => {
                let separator = if kind == Kind::LangleMap { '<' } else { '=' };
                let pairs: Vec<String> = m.iter().map(|(k, v)| format!("{k}{separator}{v}")).collect();
                if kind == Kind::StringToString {
                    format!("[{}]", csv::join(&pairs))
                } else {
                    pairs.join(",")
                }
            }
            Value::Ip(ip) => ip.map_or("<nil>".into(), |ip| ip.to_string()),
            Value::CertKeys(l) => {
                format!("[{}]", l.iter().map(ToString::to_string).collect::<Vec<_>>().join(";"))
            }
        }
    }
}

/// Base 10, not negative, 32 bits signed. Upstream: component-base logs/api/v1 VerbosityLevelPflag.
fn parse_level(text: &str) -> Result<i64, String> {
    let error = |what: &str| Err(format!("strconv.ParseUint: parsing {}: {what}", quote(text)));
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return error("invalid syntax");
    }
    match text.parse::<i64>() {
        Ok(level) if level <= i64::from(i32::MAX) => Ok(level),
        _ => error("value out of range"),
    }
}

fn parse_string_to_string(text: &str) -> Result<BTreeMap<String, String>, String> {
    let malformed = |pair: &str| format!("{pair} must be formatted as key=value");
    let pairs = match text.matches('=').count() {
        0 => return Err(malformed(text)),
        1 => vec![text.trim_matches('"').to_string()],
        _ => csv::split(text)?,
    };
    pairs
        .iter()
        .map(|pair| pair.split_once('=').map(|(k, v)| (k.into(), v.into())).ok_or_else(|| malformed(pair)))
        .collect()
}

fn parse_map(text: &str, separator: char, malformed: &str) -> Result<BTreeMap<String, String>, String> {
    text.split(',')
        .filter(|s| !s.is_empty())
        .map(|s| {
            let (k, v) = s.split_once(separator).ok_or(malformed)?;
            Ok((k.trim().to_string(), v.trim().to_string()))
        })
        .collect()
}

/// Pairs, of which some may have no value.
fn parse_configuration(text: &str) -> BTreeMap<String, String> {
    let pair = |s: &str| {
        let (k, v) = s.split_once('=').unwrap_or((s, ""));
        (k.trim().to_string(), v.trim().to_string())
    };
    text.split(',').filter(|s| !s.is_empty()).map(pair).collect()
}

fn parse_bools(text: &str) -> Result<BTreeMap<String, String>, String> {
    let pairs = parse_map(text, '=', "malformed pair, expect string=bool")?;
    let check = |(k, v): (String, String)| match strconv::parse_bool(&v) {
        Ok(b) => Ok((k, b.to_string())),
        Err(e) => Err(format!("invalid value of {k}: {v}, err: {e}")),
    };
    pairs.into_iter().map(check).collect()
}

fn parse_ip(text: &str) -> Result<IpAddr, String> {
    net::parse_ip(text.trim()).ok_or_else(|| format!("failed to parse IP: {}", quote(text)))
}

/// Upstream: pkg/util/flag IPPortVar.Set.
fn parse_ip_port(text: &str) -> Result<String, String> {
    if text.is_empty() || net::parse_ip(text).is_some() {
        return Ok(text.to_string());
    }
    let split = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:"),
        None => text.split_once(':'),
    };
    let Some((host, port)) = split else {
        let why = format!("address {text}: missing port in address");
        return Err(format!("{} is not in a valid format (ip or ip:port): {why}", quote(text)));
    };
    if !text.starts_with('[') && port.contains(':') {
        let why = format!("address {text}: too many colons in address");
        return Err(format!("{} is not in a valid format (ip or ip:port): {why}", quote(text)));
    }
    if net::parse_ip(host).is_none() {
        return Err(format!("{} is not a valid IP address", quote(host)));
    }
    match port.parse::<i64>() {
        Err(_) => Err(format!("{} is not a valid number", quote(port))),
        Ok(p) if !(1..=65535).contains(&p) => Err(format!("{} is not a valid port number", quote(port))),
        Ok(_) => Ok(text.to_string()),
    }
}

/// The form of a resource quantity; the number's range is checked where it is used.
fn parse_quantity(text: &str) -> Result<String, String> {
    const FORM: &str =
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let number = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (digits, suffix) = rest.split_at(number);
    let suffixes = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|e| e.parse::<i16>().is_ok());
    if digits.parse::<f64>().is_ok() && (suffixes.contains(&suffix) || exponent) {
        Ok(text.to_string())
    } else {
        Err(FORM.into())
    }
}

/// Upstream: apimachinery net.ParsePortRange; printed as `low-high`.
fn parse_port_range(text: &str) -> Result<String, String> {
    let value = text.trim();
    if value.is_empty() {
        return Ok(String::new());
    }
    let number =
        |t: &str| t.parse::<i64>().map_err(|_| format!("strconv.Atoi: parsing {}: invalid syntax", quote(t)));
    let (low, high) = if let Some((low, high)) = value.split_once('-') {
        (number(low)?, number(high)?)
    } else if let Some((low, size)) = value.split_once('+') {
        let low = number(low)?;
        (low, low.saturating_add(number(size)?))
    } else {
        let one = number(value)?;
        (one, one)
    };
    if low > 65535 || high > 65535 {
        return Err(format!("the port range cannot be greater than 65535: {text}"));
    }
    if high < low {
        return Err(format!("end port cannot be less than start port: {text}"));
    }
    if low < 0 {
        return Err(format!("the port range cannot be negative: {text}"));
    }
    Ok(format!("{low}-{high}"))
}

/// Upstream: verflag versionValue.Set and version.SetDynamicVersion.
fn parse_version(text: &str) -> Result<String, String> {
    if text == "raw" {
        return Ok(text.into());
    }
    if text.starts_with('v') {
        return crate::version::check_dynamic(text).map(|()| text.to_string());
    }
    strconv::parse_bool(text).map(|b| b.to_string())
}

/// Upstream: component-base logs/api/v1 VModuleConfigurationPFlag.Set.
fn check_vmodule(text: &str) -> Result<String, String> {
    for pair in text.split(',').filter(|p| !p.is_empty()) {
        let valid = pair.split_once('=').filter(|(pattern, level)| !pattern.is_empty() && !level.is_empty());
        let Some((_, level)) = valid else {
            return Err(format!("{} does not have the pattern=N format", quote(pair)));
        };
        parse_level(level).map_err(|e| format!("parsing verbosity in {}: {e}", quote(pair)))?;
    }
    Ok(text.to_string())
}
