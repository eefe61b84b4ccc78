//! Label selectors: requirements on a set of labels.
//!
//! After apimachinery `pkg/labels/selector.go` and `LabelSelectorAsSelector` of meta/v1, error texts included.
//! [`parse`] reads the text form of query parameters, [`Selector::from_value`] and [`Selector::from_parts`] the API type.

mod parse;
#[cfg(test)]
mod tests;

use crate::value::{Map, Str, Value};
use crate::{content, golang};
use std::collections::{BTreeMap, HashMap};
use std::fmt;

pub use parse::parse;

/// A selector's text or requirement is not acceptable; upstream's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// Read access to a set of labels.
pub trait Labels {
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Labels for HashMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Labels for Map {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

/// A value that is no map has no labels.
impl Labels for Value {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

impl<K: AsRef<str>, V: AsRef<str>> Labels for [(K, V)] {
    fn label(&self, key: &str) -> Option<&str> {
        self.iter().find(|(k, _)| k.as_ref() == key).map(|(_, v)| v.as_ref())
    }
}

impl<K: AsRef<str>, V: AsRef<str>> Labels for Vec<(K, V)> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_slice().label(key)
    }
}

impl<L: Labels> Labels for Option<L> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_ref()?.label(key)
    }
}

impl<L: Labels + ?Sized> Labels for &L {
    fn label(&self, key: &str) -> Option<&str> {
        (**self).label(key)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Equals,
    DoubleEquals,
    NotEquals,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    key: Str,
    operator: Operator,
    values: Vec<Str>,
}

impl Requirement {
    /// Checks key and values, and their number, against the operator.
    pub fn new(key: &str, operator: Operator, values: Vec<Str>) -> Result<Self, Error> {
        use Operator::*;
        let mut errs = Vec::new();
        if let Some(e) = parse::key_error(key, "key") {
            errs.push(e);
        }
        let list = || serde_json::to_string(&values).unwrap_or_default();
        let mut wrong = |text: &str| errs.push(format!("values: Invalid value: {}: {text}", list()));
        match operator {
            In | NotIn if values.is_empty() => {
                wrong("for 'in', 'notin' operators, values set can't be empty");
            }
            Equals | DoubleEquals | NotEquals if values.len() != 1 => {
                wrong("exact-match compatibility requires one single value");
            }
            Exists | DoesNotExist if !values.is_empty() => {
                wrong("values set must be empty for exists and does not exist");
            }
            GreaterThan | LessThan => {
                if values.len() != 1 {
                    wrong("for 'Gt', 'Lt' operators, exactly one value is required");
                }
                for (i, v) in values.iter().enumerate().filter(|(_, v)| v.parse::<i64>().is_err()) {
                    let text = "for 'Gt', 'Lt' operators, the value must be an integer";
                    errs.push(format!("values[{i}]: Invalid value: {}: {text}", golang::quote(v)));
                }
            }
            _ => {}
        }
        for (i, v) in values.iter().enumerate() {
            let wrong = content::label_value(v);
            if !wrong.is_empty() {
                let (v, wrong) = (golang::quote(v), wrong.join("; "));
                errs.push(format!("values[{i}][{key}]: Invalid value: {v}: {wrong}"));
            }
        }
        match errs.is_empty() {
            true => Ok(Self { key: key.into(), operator, values }),
            false => Err(Error(golang::aggregate(&errs))),
        }
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn operator(&self) -> Operator {
        self.operator
    }

    pub fn values(&self) -> &[Str] {
        &self.values
    }

    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        let value = labels.label(&self.key);
        let has = |v: &str| self.values.iter().any(|x| x == v);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(has),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(has),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let want = self.values.first().and_then(|v| v.parse::<i64>().ok());
                match value.and_then(|v| v.parse::<i64>().ok()).zip(want) {
                    Some((have, want)) if self.operator == Operator::GreaterThan => have > want,
                    Some((have, want)) => have < want,
                    None => false,
                }
            }
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<&str> = self.values.iter().map(Str::as_str).collect();
        sorted.sort_unstable();
        let (key, values) = (&self.key, sorted.join(","));
        match self.operator {
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Exists => write!(f, "{key}"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// A conjunction of requirements, or the selector that matches nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Sorted by key. `None` matches nothing.
    requirements: Option<Vec<Requirement>>,
}

impl Default for Selector {
    /// Matches everything.
    fn default() -> Self {
        Self::everything()
    }
}

impl Selector {
    pub fn everything() -> Self {
        Self { requirements: Some(Vec::new()) }
    }

    pub fn nothing() -> Self {
        Self { requirements: None }
    }

    /// The conjunction of `requirements`.
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements: Some(requirements) }
    }

    /// Equality with each of `labels`, unchecked (upstream's `SelectorFromSet`). Empty matches everything.
    pub fn from_set<K: AsRef<str>, V: AsRef<str>>(labels: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::new(labels.into_iter().map(|(k, v)| equals(k.as_ref(), v.as_ref())).collect())
    }

    /// As [`Selector::from_set`], with keys and values checked.
    pub fn from_validated_set<K: AsRef<str>, V: AsRef<str>>(
        labels: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, Error> {
        let one = |(k, v): (K, V)| Requirement::new(k.as_ref(), Operator::Equals, vec![v.as_ref().into()]);
        Ok(Self::new(labels.into_iter().map(one).collect::<Result<_, _>>()?))
    }

    /// The selector of the API type's parts: `matchLabels` and `matchExpressions` (key, operator, values).
    /// Both absent matches everything; an absent LabelSelector is [`Selector::nothing`], the caller's decision.
    pub fn from_parts<'a>(
        match_labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        match_expressions: impl IntoIterator<Item = (&'a str, &'a str, Vec<Str>)>,
    ) -> Result<Self, Error> {
        let mut all = Vec::new();
        for (k, v) in match_labels {
            all.push(Requirement::new(k, Operator::Equals, vec![v.into()])?);
        }
        for (key, op, values) in match_expressions {
            let operator = match op {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(Error(format!(
                        "{} is not a valid label selector operator",
                        golang::quote(other)
                    )));
                }
            };
            all.push(Requirement::new(key, operator, values)?);
        }
        Ok(Self::new(all))
    }

    /// The selector of a LabelSelector tree; `Null` or absent (`None`) matches nothing, an empty one everything.
    pub fn from_value(selector: Option<&Value>) -> Result<Self, Error> {
        let Some(Value::Map(m)) = selector else { return Ok(Self::nothing()) };
        let labels = m.get("matchLabels").and_then(Value::as_map).into_iter().flatten();
        let expressions = m.get("matchExpressions").and_then(Value::as_list).into_iter().flatten();
        Self::from_parts(
            labels.map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default())),
            expressions.map(|e| {
                let text = |k| e.get(k).and_then(Value::as_str).unwrap_or_default();
                let values = e.get("values").and_then(Value::as_list).into_iter().flatten();
                let values = values.filter_map(Value::as_str).map(Str::from).collect();
                (text("key"), text("operator"), values)
            }),
        )
    }

    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        self.requirements.as_ref().is_some_and(|all| all.iter().all(|r| r.matches(labels)))
    }

    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether it is the selector that matches nothing.
    pub fn is_nothing(&self) -> bool {
        self.requirements.is_none()
    }

    /// The requirements; `None` for the selector that matches nothing.
    pub fn requirements(&self) -> Option<&[Requirement]> {
        self.requirements.as_deref()
    }

    /// Both this selector and `more`.
    #[must_use]
    pub fn and(self, more: impl IntoIterator<Item = Requirement>) -> Self {
        match self.requirements {
            None => self,
            Some(r) => Self::new(r.into_iter().chain(more).collect()),
        }
    }

    /// The value `key` must have, if the selector demands exactly one.
    pub fn requires_exact_match(&self, key: &str) -> Option<&str> {
        let r = self.requirements.as_ref()?.iter().find(|r| r.key == key)?;
        match (r.operator, r.values.as_slice()) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, [one]) => Some(one),
            _ => None,
        }
    }
}

fn equals(key: &str, value: &str) -> Requirement {
    Requirement { key: key.into(), operator: Operator::Equals, values: vec![value.into()] }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().flatten().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{r}")?;
        }
        Ok(())
    }
}
