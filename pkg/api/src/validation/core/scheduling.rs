//! Where pods may run: node selectors, affinity, spreading, tolerations; and the pod's DNS.

use k8s_openapi::api::core::v1::{
    Affinity, HostAlias, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm,
    PodDNSConfig, PodSpec, Toleration, TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::ip::validate_ip;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::{name_is_label, validate_label_name, validate_label_selector};
use crate::validation::{content, dns_subdomain, items, positive, refusals, supported, text};

/// Label values that an old object had wrong, so that a changed one may.
#[derive(Clone, Copy, Default)]
pub(super) struct Lenient {
    /// In required node affinity.
    pub node_values: bool,
    /// In selectors of pod affinity.
    pub selector_values: bool,
    /// In selectors of spread constraints.
    pub spread_selectors: bool,
    /// Keys of spread constraints follow the older rule.
    pub old_match_keys: bool,
    /// `Lt` and `Gt` in tolerations, an alpha feature.
    pub comparisons: bool,
}

/// Terms of a node selector, at least one.
pub fn validate_node_selector(selector: &NodeSelector, any_values: bool, path: &Path) -> Vec<Error> {
    let at = path.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        return vec![Error::required(&at, "must have at least one node selector term")];
    }
    let mut errors = Vec::new();
    for (i, term) in selector.node_selector_terms.iter().enumerate() {
        errors.extend(validate_term(term, any_values, &at.index(i)));
    }
    errors
}

/// Whether the selector names label values that cannot exist.
pub(super) fn has_bad_values(selector: &NodeSelector) -> bool {
    let requirements = selector.node_selector_terms.iter().flat_map(|t| items(&t.match_expressions));
    requirements.flat_map(|r| items(&r.values)).any(|v| !content::label_value(v).is_empty())
}

fn validate_term(term: &NodeSelectorTerm, any_values: bool, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let at = path.child("matchExpressions");
    for (i, requirement) in items(&term.match_expressions).iter().enumerate() {
        errors.extend(validate_requirement(requirement, any_values, &at.index(i)));
    }
    let at = path.child("matchFields");
    for (i, requirement) in items(&term.match_fields).iter().enumerate() {
        errors.extend(validate_field_requirement(requirement, &at.index(i)));
    }
    errors
}

fn validate_requirement(requirement: &NodeSelectorRequirement, any_values: bool, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let values = items(&requirement.values);
    let at = path.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errors.push(Error::required(&at, "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(Error::forbidden(&at, detail));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(Error::required(&at, detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.push(Error::invalid(
            &path.child("operator"),
            Bad::enumerated(other),
            "not a valid selector operator",
        )),
    }
    errors.extend(validate_label_name(&requirement.key, &path.child("key")));
    for (i, value) in values.iter().enumerate().filter(|_| !any_values) {
        errors.extend(refusals(&at.index(i), value, content::label_value(value)));
    }
    errors
}

fn validate_field_requirement(requirement: &NodeSelectorRequirement, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let values = items(&requirement.values);
    let at = path.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.len() == 1 => {}
        "In" | "NotIn" => {
            let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(Error::required(&at, detail));
        }
        other => errors.push(Error::invalid(
            &path.child("operator"),
            Bad::enumerated(other),
            "not a valid selector operator",
        )),
    }
    if requirement.key == "metadata.name" {
        for (i, value) in values.iter().enumerate() {
            errors.extend(dns_subdomain(value, &at.index(i)));
        }
    } else {
        let detail = "not a valid field selector key";
        errors.push(Error::invalid(&path.child("key"), &requirement.key, detail));
    }
    errors
}

/// `spec.affinity`.
pub(super) fn validate_affinity(affinity: &Affinity, lenient: Lenient, path: &Path) -> Vec<Error> {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let mut errors = Vec::new();
    if let Some(node) = &affinity.node_affinity {
        let at = path.child("nodeAffinity");
        if let Some(selector) = &node.required_during_scheduling_ignored_during_execution {
            errors.extend(validate_node_selector(selector, lenient.node_values, &at.child(REQUIRED)));
        }
        let list = at.child(PREFERRED);
        for (i, term) in items(&node.preferred_during_scheduling_ignored_during_execution).iter().enumerate()
        {
            let at = list.index(i);
            errors.extend(validate_weight(term.weight, &at.child("weight")));
            // Values that no label can have are harmless in a preference.
            errors.extend(validate_term(&term.preference, true, &at.child("preference")));
        }
    }
    let mut pods = |field: &str, required: &[PodAffinityTerm], preferred: &[WeightedPodAffinityTerm]| {
        let at = path.child(field);
        let list = at.child(REQUIRED);
        for (i, term) in required.iter().enumerate() {
            errors.extend(validate_pod_term(term, lenient.selector_values, &list.index(i)));
        }
        let list = at.child(PREFERRED);
        for (i, term) in preferred.iter().enumerate() {
            let at = list.index(i);
            errors.extend(validate_weight(term.weight, &at.child("weight")));
            let own = at.child("podAffinityTerm");
            errors.extend(validate_pod_term(&term.pod_affinity_term, lenient.selector_values, &own));
        }
    };
    if let Some(a) = &affinity.pod_affinity {
        pods(
            "podAffinity",
            items(&a.required_during_scheduling_ignored_during_execution),
            items(&a.preferred_during_scheduling_ignored_during_execution),
        );
    }
    if let Some(a) = &affinity.pod_anti_affinity {
        pods(
            "podAntiAffinity",
            items(&a.required_during_scheduling_ignored_during_execution),
            items(&a.preferred_during_scheduling_ignored_during_execution),
        );
    }
    errors
}

fn validate_weight(weight: i32, path: &Path) -> Option<Error> {
    (!(1..=100).contains(&weight)).then(|| Error::invalid(path, weight, "must be in the range 1-100"))
}

fn lenient_selector(selector: Option<&LabelSelector>, any_values: bool, path: &Path) -> Vec<Error> {
    let mut errors = validate_label_selector(selector, path);
    if any_values {
        // Values of expressions alone are forgiven.
        let mark = path.child("matchExpressions").to_string();
        errors.retain(|e| !(e.field.starts_with(&mark) && e.field.contains("].values[")));
    }
    errors
}

fn validate_pod_term(term: &PodAffinityTerm, any_values: bool, path: &Path) -> Vec<Error> {
    let mut errors = lenient_selector(term.label_selector.as_ref(), any_values, &path.child("labelSelector"));
    let at = path.child("namespaceSelector");
    errors.extend(lenient_selector(term.namespace_selector.as_ref(), any_values, &at));
    for namespace in items(&term.namespaces) {
        errors.extend(refusals(&path.child("namespace"), namespace, name_is_label(namespace, false)));
    }
    errors.extend(validate_match_keys(
        items(&term.match_label_keys),
        items(&term.mismatch_label_keys),
        term.label_selector.as_ref(),
        path,
    ));
    let at = path.child("topologyKey");
    if term.topology_key.is_empty() {
        errors.push(Error::required(&at, "can not be empty"));
    }
    errors.extend(validate_label_name(&term.topology_key, &at));
    errors
}

/// Keys whose values come from the pod itself. The selector holds an expression for each by now.
fn validate_match_keys(
    keys: &[String],
    mismatch: &[String],
    selector: Option<&LabelSelector>,
    path: &Path,
) -> Vec<Error> {
    let mut errors = Vec::new();
    for (field, list) in [("matchLabelKeys", keys), ("mismatchLabelKeys", mismatch)] {
        let at = path.child(field);
        if !list.is_empty() && selector.is_none() {
            errors.push(Error::forbidden(&at, "must not be specified when labelSelector is not set"));
        } else {
            for (i, key) in list.iter().enumerate() {
                errors.extend(validate_label_name(key, &at.index(i)));
            }
        }
    }
    if let Some(selector) = selector {
        let mut seen: Vec<&String> = selector.match_labels.iter().flatten().map(|(k, _)| k).collect();
        for expression in items(&selector.match_expressions) {
            let found = keys.iter().rposition(|k| *k == expression.key);
            if let Some(i) = found.filter(|_| seen.contains(&&expression.key)) {
                let detail = "exists in both matchLabelKeys and labelSelector";
                errors.push(Error::invalid(&path.index(i), &expression.key, detail));
            }
            seen.push(&expression.key);
        }
    }
    let at = path.child("matchLabelKeys");
    for (i, key) in keys.iter().enumerate().filter(|(_, k)| mismatch.contains(k)) {
        let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
        errors.push(Error::invalid(&at.index(i), key, detail));
    }
    errors
}

/// The rule before selectors held the keys. Upstream: `ValidateMatchLabelKeysInTopologySpread`.
fn validate_old_match_keys(keys: &[String], selector: Option<&LabelSelector>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if !keys.is_empty() && selector.is_none() {
        errors.push(Error::forbidden(path, "must not be specified when labelSelector is not set"));
    }
    let selects = |key: &String| {
        selector.is_some_and(|s| {
            s.match_labels.as_ref().is_some_and(|l| l.contains_key(key))
                || items(&s.match_expressions).iter().any(|e| e.key == *key)
        })
    };
    for (i, key) in keys.iter().enumerate() {
        errors.extend(validate_label_name(key, &path.index(i)));
        if selects(key) {
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.push(Error::invalid(&path.index(i), key, detail));
        }
    }
    errors
}

/// `spec.topologySpreadConstraints`.
pub(super) fn validate_spread(
    list: &[TopologySpreadConstraint],
    lenient: Lenient,
    path: &Path,
) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, constraint) in list.iter().enumerate() {
        let at = path.index(i);
        errors.extend(positive(i64::from(constraint.max_skew), &at.child("maxSkew")));
        if constraint.topology_key.is_empty() {
            errors.push(Error::required(&at.child("topologyKey"), "can not be empty"));
        }
        let action = constraint.when_unsatisfiable.as_str();
        errors.extend(supported(
            action,
            &["DoNotSchedule", "ScheduleAnyway"],
            &at.child("whenUnsatisfiable"),
        ));
        let same = |c: &TopologySpreadConstraint| {
            c.topology_key == constraint.topology_key && c.when_unsatisfiable == action
        };
        if list[i + 1..].iter().any(same) {
            let pair = format!("{{{}, {action}}}", constraint.topology_key);
            errors.push(Error::duplicate(&at.child("{topologyKey, whenUnsatisfiable}"), pair));
        }
        if let Some(domains) = constraint.min_domains {
            let at = at.child("minDomains");
            errors.extend(positive(i64::from(domains), &at));
            if action != "DoNotSchedule" {
                let detail =
                    format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.push(Error::invalid(&at, domains, detail));
            }
        }
        for (field, policy) in [
            ("nodeAffinityPolicy", &constraint.node_affinity_policy),
            ("nodeTaintsPolicy", &constraint.node_taints_policy),
        ] {
            errors
                .extend(policy.as_deref().and_then(|p| supported(p, &["Honor", "Ignore"], &at.child(field))));
        }
        let (keys, selector) = (items(&constraint.match_label_keys), constraint.label_selector.as_ref());
        errors.extend(if lenient.old_match_keys {
            validate_old_match_keys(keys, selector, &at.child("matchLabelKeys"))
        } else {
            validate_match_keys(keys, &[], selector, &at)
        });
        if !lenient.spread_selectors {
            errors.extend(validate_label_selector(selector, &at.child("labelSelector")));
        }
    }
    errors
}

/// What the old spec had wrong.
pub(super) fn lenient(old: &PodSpec) -> Lenient {
    let affinity = old.affinity.as_ref();
    let node = affinity
        .and_then(|a| a.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref());
    let spread = items(&old.topology_spread_constraints);
    let broken = |f: fn(&TopologySpreadConstraint) -> Vec<Error>| spread.iter().any(|c| !f(c).is_empty());
    Lenient {
        node_values: node.is_some_and(has_bad_values),
        selector_values: affinity.is_some_and(has_bad_selectors),
        spread_selectors: broken(|c| validate_label_selector(c.label_selector.as_ref(), &Path::ROOT)),
        old_match_keys: broken(|c| {
            let keys = items(&c.match_label_keys);
            validate_match_keys(keys, &[], c.label_selector.as_ref(), &Path::ROOT)
        }),
        comparisons: items(&old.tolerations).iter().any(|t| matches!(text(&t.operator), "Lt" | "Gt")),
    }
}

fn has_bad_selectors(affinity: &Affinity) -> bool {
    let pods = affinity.pod_affinity.iter().flat_map(|a| {
        let preferred = items(&a.preferred_during_scheduling_ignored_during_execution);
        let preferred = preferred.iter().map(|w| &w.pod_affinity_term);
        items(&a.required_during_scheduling_ignored_during_execution).iter().chain(preferred)
    });
    let anti = affinity.pod_anti_affinity.iter().flat_map(|a| {
        let preferred = items(&a.preferred_during_scheduling_ignored_during_execution);
        let preferred = preferred.iter().map(|w| &w.pod_affinity_term);
        items(&a.required_during_scheduling_ignored_during_execution).iter().chain(preferred)
    });
    pods.chain(anti).any(|term| {
        !validate_label_selector(term.label_selector.as_ref(), &Path::ROOT).is_empty()
            || !validate_label_selector(term.namespace_selector.as_ref(), &Path::ROOT).is_empty()
    })
}

/// Tolerations.
pub(crate) fn validate_tolerations(list: &[Toleration], comparisons: bool, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, toleration) in list.iter().enumerate() {
        errors.extend(validate_toleration(toleration, comparisons, &path.index(i)));
    }
    errors
}

fn validate_toleration(toleration: &Toleration, comparisons: bool, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let (key, operator) = (text(&toleration.key), text(&toleration.operator));
    let (value, effect) = (text(&toleration.value), text(&toleration.effect));
    let at = path.child("operator");
    if !key.is_empty() {
        errors.extend(validate_label_name(key, &path.child("key")));
    } else if operator != "Exists" {
        let detail =
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.push(Error::invalid(&at, operator, detail));
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(Error::invalid(&path.child("effect"), effect, detail));
    }
    match operator {
        "Equal" | "" => {
            let texts = content::label_value(value);
            if !texts.is_empty() {
                errors.push(Error::invalid(&at, value, texts.join(";")));
            }
        }
        "Exists" if !value.is_empty() => {
            errors.push(Error::invalid(&at, value, "value must be empty when `operator` is 'Exists'"));
        }
        "Exists" => {}
        "Lt" | "Gt" if !comparisons => {
            errors.push(Error::not_supported(
                &at,
                Bad::enumerated(operator),
                &["Equal", "Exists", "Lt", "Gt"],
            ));
        }
        "Lt" | "Gt" => {
            if value.parse::<i64>().map(|n| n.to_string()).ok().as_deref() != Some(value) {
                let detail = "must be a valid decimal integer in canonical form";
                errors.push(Error::invalid(&path.child("value"), value, detail));
            }
        }
        other => errors.push(Error::not_supported(&at, Bad::enumerated(other), &["Equal", "Exists"])),
    }
    if !effect.is_empty() {
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        errors.extend(supported(effect, &effects, &path.child("effect")));
    }
    errors
}

/// `spec.dnsConfig`. Limits are those of resolvers in C libraries.
pub(super) fn validate_dns(config: Option<&PodDNSConfig>, policy: &str, path: &Path) -> Vec<Error> {
    let at = path.child("nameservers");
    if policy == "None" {
        if config.is_none() {
            return vec![Error::required(path, "must provide `dnsConfig` when `dnsPolicy` is None")];
        }
        if config.is_some_and(|c| items(&c.nameservers).is_empty()) {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return vec![Error::required(&at, detail)];
        }
    }
    let Some(config) = config else { return Vec::new() };
    let mut errors = Vec::new();
    let servers = items(&config.nameservers);
    if servers.len() > 3 {
        errors.push(Error::invalid(&at, Bad::json(&servers), "must not have more than 3 nameservers"));
    }
    for (i, server) in servers.iter().enumerate() {
        errors.extend(validate_ip(server, &[], &at.index(i)));
    }
    let (at, searches) = (path.child("searches"), items(&config.searches));
    if searches.len() > 32 {
        errors.push(Error::invalid(&at, Bad::json(&searches), "must not have more than 32 search paths"));
    }
    if searches.join(" ").len() > 2048 {
        let detail = "must not have more than 2048 characters (including spaces) in the search list";
        errors.push(Error::invalid(&at, Bad::json(&searches), detail));
    }
    for (i, search) in searches.iter().enumerate().filter(|(_, s)| *s != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        errors.extend(refusals(&at.index(i), search, content::dns_subdomain_with_underscore(search)));
    }
    let at = path.child("options");
    for (i, option) in items(&config.options).iter().enumerate() {
        if text(&option.name).is_empty() {
            errors.push(Error::required(&at.index(i), "must not be empty"));
        }
    }
    errors
}

/// `spec.hostAliases`.
pub(super) fn validate_host_aliases(aliases: &[HostAlias], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, alias) in aliases.iter().enumerate() {
        let at = path.index(i);
        errors.extend(validate_ip(&alias.ip, &[], &at.child("ip")));
        let names = at.child("hostnames");
        for (j, name) in items(&alias.hostnames).iter().enumerate() {
            errors.extend(dns_subdomain(name, &names.index(j)));
        }
    }
    errors
}
