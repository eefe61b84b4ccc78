//! Node selectors and label selectors, compiled.
//! Upstream: component-helpers/scheduling/corev1/nodeaffinity/nodeaffinity.go.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use machinery::labels::{Labels, Operator, Requirement, Selector};

/// Compiled terms, any of which may match. A term that cannot be parsed, or is empty, matches nothing.
#[derive(Clone, Debug, Default)]
pub struct NodeSelector {
    terms: Vec<Term>,
    names: Option<BTreeSet<String>>,
}

#[derive(Clone, Debug)]
struct Term {
    labels: Selector,
    /// (must be, names).
    names: Vec<(bool, Vec<String>)>,
}

impl NodeSelector {
    pub fn new<'a>(terms: impl IntoIterator<Item = &'a NodeSelectorTerm>) -> Self {
        let terms: Vec<&NodeSelectorTerm> = terms.into_iter().collect();
        Self { names: names(&terms), terms: terms.into_iter().filter_map(term).collect() }
    }

    /// The only names that can match, if every term names some. Upstream: nodeaffinity.PreFilter.
    pub fn names(&self) -> Option<&BTreeSet<String>> {
        self.names.as_ref()
    }

    /// Whether a node with these labels and this name matches.
    pub fn matches(&self, labels: &impl Labels, name: &str) -> bool {
        self.terms.iter().any(|t| {
            t.names.iter().all(|(must, names)| names.iter().any(|n| n == name) == *must)
                && t.labels.matches(labels)
        })
    }
}

fn names(terms: &[&NodeSelectorTerm]) -> Option<BTreeSet<String>> {
    let of = |term: &NodeSelectorTerm| {
        let fields = term.match_fields.iter().flatten();
        let named = fields.filter(|f| f.key == "metadata.name" && f.operator == "In");
        let sets = named.map(|f| f.values.iter().flatten().cloned().collect::<BTreeSet<String>>());
        sets.reduce(|a, b| a.intersection(&b).cloned().collect())
    };
    let mut all = None;
    for term in terms {
        all.get_or_insert_with(BTreeSet::new).extend(of(term)?);
    }
    all
}

fn term(term: &NodeSelectorTerm) -> Option<Term> {
    let (labels, fields) = (term.match_expressions.iter().flatten(), term.match_fields.iter().flatten());
    let requirements: Vec<Requirement> = labels.map(requirement).collect::<Option<_>>()?;
    let names = fields
        .map(|f| {
            let values = f.values.clone().unwrap_or_default();
            match (f.key.as_str(), f.operator.as_str()) {
                ("metadata.name", "In") => Some((true, values)),
                ("metadata.name", "NotIn") => Some((false, values)),
                _ => None,
            }
        })
        .collect::<Option<Vec<_>>>()?;
    if requirements.is_empty() && names.is_empty() {
        return None;
    }
    Some(Term { labels: Selector::new(requirements), names })
}

/// The operator of a node selector that a text names.
pub fn node_operator(text: &str) -> Option<Operator> {
    Some(match text {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        _ => return None,
    })
}

fn requirement(r: &NodeSelectorRequirement) -> Option<Requirement> {
    let operator = node_operator(&r.operator)?;
    let values = r.values.iter().flatten().map(|v| v.as_str().into()).collect();
    Requirement::new(&r.key, operator, values).ok()
}

/// Compiles a label selector; absent matches nothing, as does one that cannot be parsed.
pub fn label_selector(selector: Option<&LabelSelector>) -> Selector {
    let Some(selector) = selector else { return Selector::nothing() };
    let equal = selector.match_labels.iter().flatten();
    let mut requirements = Vec::new();
    for (key, value) in equal {
        match Requirement::new(key, Operator::In, vec![value.as_str().into()]) {
            Ok(r) => requirements.push(r),
            Err(_) => return Selector::nothing(),
        }
    }
    for e in selector.match_expressions.iter().flatten() {
        let operator = match e.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => return Selector::nothing(),
        };
        let values = e.values.iter().flatten().map(|v| v.as_str().into()).collect();
        match Requirement::new(&e.key, operator, values) {
            Ok(r) => requirements.push(r),
            Err(_) => return Selector::nothing(),
        }
    }
    if requirements.is_empty() { Selector::everything() } else { Selector::new(requirements) }
}
