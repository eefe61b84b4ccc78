//! Priority levels. That `limited`, `exempt` and `queuing` go with the types is told by the types' own rules.

use k8s_openapi::api::flowcontrol::v1::{
    LimitResponse, LimitedPriorityLevelConfiguration, PriorityLevelConfiguration,
    PriorityLevelConfigurationSpec, QueuingConfiguration,
};

use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::{name_is_subdomain, validate_kube_object_meta};
use crate::validation::{items, semantic_eq, text};

const QUEUES_MAX: i32 = 10_000_000;
/// `shufflesharding.MaxHashBits`.
const HASH_BITS: u32 = 60;
const ROUND_TRIP_ANNOTATION: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";

/// `ValidatePriorityLevelConfiguration`.
pub fn validate(level: &PriorityLevelConfiguration) -> Vec<Error> {
    let metadata = Path::new("metadata");
    let mut errors = validate_kube_object_meta(&level.metadata, false, name_is_subdomain, &metadata);
    if level.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(ROUND_TRIP_ANNOTATION)) {
        let detail = format!("annotation '{ROUND_TRIP_ANNOTATION}' is forbidden");
        errors.push(Error::forbidden(&metadata.child("annotations"), detail));
    }
    let (spec, path) = (&level.spec, Path::new("spec"));
    let name = text(&level.metadata.name);
    errors.extend(validate_spec(name, spec, &path));
    errors.extend(validate_mandatory(name, spec, &path));
    errors.extend(validate_status(level));
    errors
}

/// Updates are judged as new objects are.
pub fn validate_update(new: &PriorityLevelConfiguration, _old: &PriorityLevelConfiguration) -> Vec<Error> {
    validate(new)
}

/// `ValidatePriorityLevelConfigurationStatusUpdate`.
pub fn validate_status_update(
    new: &PriorityLevelConfiguration,
    _old: &PriorityLevelConfiguration,
) -> Vec<Error> {
    validate_status(new)
}

fn validate_status(level: &PriorityLevelConfiguration) -> Vec<Error> {
    let all = level.status.iter().flat_map(|s| items(&s.conditions));
    super::conditions(all.map(|c| c.type_.as_str()))
}

/// The levels that are always there (`MandatoryPriorityLevelConfigurations`).
fn validate_mandatory(name: &str, spec: &PriorityLevelConfigurationSpec, path: &Path) -> Option<Error> {
    let (fixed, but) = match name {
        "exempt" => {
            let fixed = PriorityLevelConfigurationSpec {
                type_: "Exempt".into(),
                exempt: spec.exempt.clone(),
                limited: None,
            };
            (fixed, " except the 'spec.exempt' field")
        }
        "catch-all" => {
            let limited = LimitedPriorityLevelConfiguration {
                nominal_concurrency_shares: Some(5),
                lendable_percent: Some(0),
                limit_response: LimitResponse { type_: "Reject".into(), queuing: None },
                borrowing_limit_percent: None,
            };
            let type_ = "Limited".into();
            (PriorityLevelConfigurationSpec { type_, limited: Some(limited), exempt: None }, "")
        }
        _ => return None,
    };
    (!semantic_eq(&fixed, spec)).then(|| {
        let detail = format!("spec of '{name}'{but} must equal the fixed value");
        Error::invalid(path, Bad::json(spec), detail)
    })
}

fn validate_spec(name: &str, spec: &PriorityLevelConfigurationSpec, path: &Path) -> Vec<Error> {
    let (kind, at) = (spec.type_.as_str(), path.child("type"));
    let mut errors = Vec::new();
    if (name == "exempt") != (kind == "Exempt") {
        let detail = "must be 'Exempt' if and only if `name` is 'exempt'";
        errors.push(Error::invalid(&at, Bad::enumerated(kind), detail));
    }
    match (kind, &spec.exempt, &spec.limited) {
        ("Exempt", Some(exempt), _) => {
            let at = path.child("exempt");
            errors.extend(shares(exempt.nominal_concurrency_shares, &at));
            errors.extend(lendable(exempt.lendable_percent, &at));
        }
        ("Limited", _, Some(limited)) => errors.extend(validate_limited(limited, &path.child("limited"))),
        ("", _, _) => errors.push(Error::required(&at, "").covered()),
        ("Exempt" | "Limited", _, _) => {}
        (other, _, _) => {
            errors.push(Error::not_supported(&at, Bad::enumerated(other), &["Exempt", "Limited"]))
        }
    }
    errors
}

fn shares(value: Option<i32>, path: &Path) -> Option<Error> {
    let value = value.filter(|n| *n < 0)?;
    Some(Error::invalid(&path.child("nominalConcurrencyShares"), value, "must be a non-negative integer"))
}

fn lendable(value: Option<i32>, path: &Path) -> Option<Error> {
    let value = value.filter(|n| !(0..=100).contains(n))?;
    Some(Error::invalid(&path.child("lendablePercent"), value, "must be between 0 and 100, inclusive"))
}

fn validate_limited(limited: &LimitedPriorityLevelConfiguration, path: &Path) -> Vec<Error> {
    let mut errors: Vec<Error> = shares(limited.nominal_concurrency_shares, path).into_iter().collect();
    let (response, at) = (&limited.limit_response, path.child("limitResponse"));
    match (response.type_.as_str(), &response.queuing) {
        ("Queue", Some(queuing)) => errors.extend(validate_queuing(queuing, &at.child("queuing"))),
        ("", _) => errors.push(Error::required(&at.child("type"), "").covered()),
        ("Queue" | "Reject", _) => {}
        (other, _) => {
            errors.push(Error::not_supported(&at.child("type"), Bad::enumerated(other), &["Queue", "Reject"]))
        }
    }
    errors.extend(lendable(limited.lendable_percent, path));
    if let Some(percent) = limited.borrowing_limit_percent.filter(|n| *n < 0) {
        let detail = "if specified, must be a non-negative integer";
        errors.push(Error::invalid(&path.child("borrowingLimitPercent"), percent, detail));
    }
    errors
}

fn validate_queuing(queuing: &QueuingConfiguration, path: &Path) -> Vec<Error> {
    let number = |n: Option<i32>| n.unwrap_or(0);
    let (length, queues, hand) =
        (number(queuing.queue_length_limit), number(queuing.queues), number(queuing.hand_size));
    let mut errors = Vec::new();
    if length <= 0 {
        errors.push(Error::invalid(&path.child("queueLengthLimit"), length, "must be positive"));
    }
    let at = path.child("queues");
    if queues <= 0 {
        errors.push(Error::invalid(&at, queues, "must be positive"));
    } else if queues > QUEUES_MAX {
        errors.push(Error::invalid(&at, queues, format!("must not be greater than {QUEUES_MAX}")));
    }
    let at = path.child("handSize");
    if hand <= 0 {
        errors.push(Error::invalid(&at, hand, "must be positive"));
    } else if hand > queues {
        let detail = format!("should not be greater than queues ({queues})");
        errors.push(Error::invalid(&at, hand, detail));
    } else if (f64::from(queues).log2() * f64::from(hand)).ceil() > f64::from(HASH_BITS) {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        errors.push(Error::invalid(&at, hand, detail));
    }
    errors
}
