//! Validates definitions, with upstream's error texts. Start at [`validate_new`] and [`validate_update`].
//!
//! Upstream: `apis/apiextensions/validation/validation.go`.

mod ca_bundle;
mod conversion;
mod defaults;
mod fields;
mod props;
mod rules;
mod versions;
mod walk;

use api::validation::content;
use api::validation::field::{Bad, Error, Path};
use api::validation::objectmeta::{name_is_subdomain, validate_immutable};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionNames, CustomResourceDefinitionSpec,
};

use crate::definition::{self, APPROVED, Approval, Internal};
use crate::schema::text;
pub use walk::has as schema_has;

/// What is demanded of a definition; an update may keep what was allowed once.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) recognized_review_version: bool,
    /// The webhook's CA bundle is of use. A definition with a useless one is not established, so that one may stand in
    /// a definition which is not yet, or which has such a one already.
    pub(crate) useful_bundle: bool,
    pub(crate) immutable_names: bool,
    pub(crate) openapi_schema: bool,
    pub(crate) valid_property_type: bool,
    pub(crate) structural: bool,
    pub(crate) pruned_defaults: bool,
    pub(crate) atomic_set: bool,
    pub(crate) map_keys: bool,
    /// Versions whose selectable fields may stay too many; the empty name is that of all.
    pub(crate) too_many_fields: Vec<String>,
    /// Expressions that were stored before.
    pub(crate) known: rules::Known,
    /// Versions whose schemas stay as they were.
    pub(crate) unchanged: Vec<String>,
    /// Rules may cost more than is allowed, one by one: they did before.
    pub(crate) costly_rules: bool,
}

impl Options {
    fn strict() -> Self {
        Options {
            recognized_review_version: true,
            useful_bundle: false,
            immutable_names: false,
            openapi_schema: true,
            valid_property_type: true,
            structural: true,
            pruned_defaults: true,
            atomic_set: true,
            map_keys: true,
            too_many_fields: Vec::new(),
            known: rules::Known::default(),
            unchanged: Vec::new(),
            costly_rules: false,
        }
    }

    fn for_update(new: &Internal, old_definition: &CustomResourceDefinition, old: &Internal) -> Self {
        let conversion = old_definition.spec.conversion.as_ref();
        let reviews = conversion.and_then(|c| Some(&c.webhook.as_ref()?.conversion_review_versions));
        let has = |pred: fn(&walk::Props) -> bool| old.schemas().any(|s| walk::has(s, &pred));
        let established = definition::is_true(old_definition, "Established");
        Options {
            recognized_review_version: reviews.is_none_or(|v| v.is_empty() || conversion::any_recognized(v)),
            useful_bundle: established && conversion.is_none_or(conversion::has_useful_bundle),
            immutable_names: established,
            openapi_schema: fields::all_have_schema(old),
            valid_property_type: !has(walk::has_invalid_type),
            structural: !old.schemas().any(props::is_non_structural),
            pruned_defaults: !old.schemas().any(defaults::has_unpruned),
            atomic_set: !has(walk::has_non_atomic_set),
            map_keys: !has(|s| !props::map_keys(&Path::ROOT, s).is_empty()),
            too_many_fields: fields::too_many_allowed(new, old),
            known: rules::Known::of(old),
            unchanged: rules::unchanged(new, old),
            costly_rules: false,
        }
    }
}

/// Errors of a new definition, beside those of its metadata.
pub fn validate_new(definition: &CustomResourceDefinition) -> Vec<Error> {
    let internal = Internal::of(&definition.spec);
    let mut errors = spec(&definition.spec, &internal, &Options::strict());
    errors.extend(validate_status(definition));
    errors.extend(stored_versions(definition));
    errors.extend(approval(definition, None));
    errors.extend(preserve_unknown(&definition.spec, None));
    errors
}

/// The rule for a definition's name. What a name is generated from is judged as the name is, and never passes.
pub fn name_refusals(definition: &CustomResourceDefinition, name: &str, prefix: bool) -> Vec<String> {
    let mut refusals = name_is_subdomain(name, prefix);
    if name != format!("{}.{}", definition.spec.names.plural, definition.spec.group) {
        refusals.push("must be spec.names.plural+\".\"+spec.group".into());
    }
    refusals
}

/// Errors of a changed definition, beside those of its metadata.
pub fn validate_update(new: &CustomResourceDefinition, old: &CustomResourceDefinition) -> Vec<Error> {
    let (internal, old_internal) = (Internal::of(&new.spec), Internal::of(&old.spec));
    let options = Options::for_update(&internal, old, &old_internal);
    let mut errors = spec(&new.spec, &internal, &options);
    let root = Path::new("spec");
    let names = root.child("names");
    if options.immutable_names {
        if new.spec.scope != old.spec.scope {
            let bad = Bad::enumerated(&new.spec.scope);
            errors.push(Error::invalid(&root.child("scope"), bad, "field is immutable"));
        }
        errors.extend(validate_immutable(&new.spec.names.kind, &old.spec.names.kind, &names.child("kind")));
    }
    errors.extend(validate_immutable(&new.spec.group, &old.spec.group, &root.child("group")));
    errors.extend(validate_immutable(&new.spec.names.plural, &old.spec.names.plural, &names.child("plural")));
    errors.extend(validate_status(new));
    errors.extend(stored_versions(new));
    errors.extend(approval(new, Some(old)));
    errors.extend(preserve_unknown(&new.spec, Some(&old.spec)));
    errors
}

/// Errors of the status of a definition.
pub fn validate_status(definition: &CustomResourceDefinition) -> Vec<Error> {
    let names = definition.status.as_ref().and_then(|s| s.accepted_names.as_ref());
    let path = Path::new("status");
    names.map(|n| accepted_names(&path.child("acceptedNames"), n)).unwrap_or_default()
}

fn spec(spec: &CustomResourceDefinitionSpec, internal: &Internal, options: &Options) -> Vec<Error> {
    let root = Path::new("spec");
    let mut options = options.clone();
    let mut errors = group_and_scope(&root, spec);
    let preserve = spec.preserve_unknown_fields == Some(true);
    options.structural |= !preserve;
    if options.openapi_schema {
        fields::require_schemas(&root, internal, None, &mut errors);
    } else if !preserve {
        let why = "because otherwise all fields are pruned";
        fields::require_schemas(&root, internal, Some(why), &mut errors);
    }
    let has = |pred: fn(&walk::Props) -> bool| internal.schemas().any(|s| walk::has(s, &pred));
    if has(|s| s.default.as_ref().is_some_and(|d| !d.0.is_null())) {
        options.structural = true;
        if preserve {
            let why = "must be false in order to use defaults in the schema";
            errors.push(Error::invalid(&root.child("preserveUnknownFields"), true, why));
        }
    }
    options.structural |= has(walk::has_extension);
    versions::validate(&root, spec, internal, &options, &mut errors);
    let names = root.child("names");
    for (field, value) in [
        ("plural", spec.names.plural.as_str()),
        ("singular", text(&spec.names.singular)),
        ("kind", spec.names.kind.as_str()),
        ("listKind", text(&spec.names.list_kind)),
    ] {
        if value.is_empty() {
            errors.push(Error::required(&names.child(field), ""));
        }
    }
    errors.extend(accepted_names(&names, &spec.names));
    versions::common(&root, internal, &options, &mut errors);
    conversion::validate(&root, spec, &options, &mut errors);
    errors
}

fn group_and_scope(root: &Path<'_>, spec: &CustomResourceDefinitionSpec) -> Vec<Error> {
    let (path, group) = (root.child("group"), spec.group.as_str());
    let refusals = content::dns_subdomain(group);
    let mut errors = Vec::new();
    if group.is_empty() {
        errors.push(Error::required(&path, ""));
    } else if !refusals.is_empty() {
        errors.push(Error::invalid(&path, group, refusals.join(",")));
    } else if !group.contains('.') {
        errors.push(Error::invalid(&path, group, "should be a domain with at least one dot"));
    }
    errors.extend(enumerated(&root.child("scope"), &spec.scope, &["Cluster", "Namespaced"]));
    errors
}

/// `validateEnumStrings` of a required field.
pub(crate) fn enumerated(path: &Path<'_>, value: &str, accepted: &[&str]) -> Option<Error> {
    match value {
        "" => Some(Error::required(path, "")),
        value if accepted.contains(&value) => None,
        value => Some(Error::not_supported(path, value, accepted)),
    }
}

/// `ValidateCustomResourceDefinitionNames`.
fn accepted_names(path: &Path<'_>, names: &CustomResourceDefinitionNames) -> Vec<Error> {
    let mut errors = Vec::new();
    let (singular, list_kind) = (text(&names.singular), text(&names.list_kind));
    for (field, value) in [("plural", names.plural.as_str()), ("singular", singular)] {
        let refusals = content::dns1035_label(value);
        if !value.is_empty() && !refusals.is_empty() {
            errors.push(Error::invalid(&path.child(field), value, refusals.join(",")));
        }
    }
    for (field, value) in [("kind", names.kind.as_str()), ("listKind", list_kind)] {
        let refusals = content::dns1035_label(&value.to_lowercase());
        if !value.is_empty() && !refusals.is_empty() {
            let why = format!("may have mixed case, but should otherwise match: {}", refusals.join(","));
            errors.push(Error::invalid(&path.child(field), value, why));
        }
    }
    let labels = |field: &str, list: &Option<Vec<String>>, errors: &mut Vec<Error>| {
        let parent = path.child(field);
        for (index, value) in list.iter().flatten().enumerate() {
            let refusals = content::dns1035_label(value);
            if !refusals.is_empty() {
                errors.push(Error::invalid(&parent.index(index), value, refusals.join(",")));
            }
        }
    };
    labels("shortNames", &names.short_names, &mut errors);
    if !names.kind.is_empty() && names.kind == list_kind {
        let why = "kind and listKind may not be the same";
        errors.push(Error::invalid(&path.child("listKind"), list_kind, why));
    }
    labels("categories", &names.categories, &mut errors);
    errors
}

fn stored_versions(definition: &CustomResourceDefinition) -> Vec<Error> {
    let status = Path::new("status");
    let path = status.child("storedVersions");
    let stored = definition.status.as_ref().and_then(|s| s.stored_versions.clone()).unwrap_or_default();
    if stored.is_empty() {
        let bad = Bad::Raw("null".into());
        return vec![Error::invalid(&path, bad, "must have at least one stored version")];
    }
    // Of what is noted twice the last note counts, and each note stands for one version: of two storage versions of
    // one name the second is not noted.
    let last = |i: usize| !stored[i + 1..].contains(&stored[i]);
    let mut noted: Vec<usize> = (0..stored.len()).filter(|i| last(*i)).collect();
    let mut errors = Vec::new();
    for version in &definition.spec.versions {
        let note = noted.iter().position(|i| stored[*i] == version.name);
        match note {
            Some(note) => drop(noted.remove(note)),
            None if version.storage => {
                let why = format!("must have the storage version {}", version.name);
                errors.push(Error::invalid(&path, Bad::json(&stored), why));
            }
            None => {}
        }
    }
    for index in noted {
        let name = &stored[index];
        let why = format!(
            "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
        );
        errors.push(Error::invalid(&path.index(index), name, why));
    }
    errors
}

fn approval(new: &CustomResourceDefinition, old: Option<&CustomResourceDefinition>) -> Option<Error> {
    if !definition::is_protected_group(&new.spec.group) {
        return None;
    }
    let annotation = |of: &CustomResourceDefinition| {
        of.metadata.annotations.as_ref().and_then(|a| a.get(APPROVED)).cloned().unwrap_or_default()
    };
    let value = annotation(new);
    let (state, why) = definition::approval(&value);
    if old.is_some_and(|old| definition::approval(&annotation(old)).0 == state) {
        return None;
    }
    let metadata = Path::new("metadata");
    let annotations = metadata.child("annotations");
    let path = annotations.key(APPROVED);
    match state {
        Approval::Invalid => Some(Error::invalid(&path, value, why)),
        Approval::Missing => Some(Error::required(&path, why)),
        Approval::Approved | Approval::Bypassed => None,
    }
}

fn preserve_unknown(
    new: &CustomResourceDefinitionSpec,
    old: Option<&CustomResourceDefinitionSpec>,
) -> Option<Error> {
    let preserves = |spec: &CustomResourceDefinitionSpec| spec.preserve_unknown_fields == Some(true);
    if old.is_some_and(preserves) || !preserves(new) {
        return None;
    }
    let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
    let spec = Path::new("spec");
    Some(Error::invalid(&spec.child("preserveUnknownFields"), true, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition(versions: &[&str], stored: &[&str]) -> CustomResourceDefinition {
        let version = |name: &&str| json!({"name": name, "served": true, "storage": true});
        let versions: Vec<_> = versions.iter().map(version).collect();
        serde_json::from_value(json!({
            "metadata": {"name": "bars.a.b"},
            "spec": {"group": "a.b", "scope": "Cluster", "names": {"plural": "bars", "kind": "Bar"},
                "versions": versions},
            "status": {"storedVersions": stored},
        }))
        .unwrap()
    }

    #[test]
    fn each_note_of_a_stored_version_stands_for_one_version() {
        let check = |versions: &[&str], stored: &[&str], want: &[&str]| {
            let errors = stored_versions(&definition(versions, stored));
            let told: Vec<String> = errors
                .iter()
                .map(|e| format!("{} {}", e.field, e.detail.split(';').next().unwrap()))
                .collect();
            assert_eq!(told, want);
        };
        check(&["v1"], &["v1", "v1"], &[]);
        check(&["v1", "v1"], &["v1"], &["status.storedVersions must have the storage version v1"]);
        let gone = "status.storedVersions[2] missing from spec.versions";
        check(&["v1"], &["v0", "v1", "v0"], &[gone]);
    }

    #[test]
    fn names_are_the_plural_and_the_group() {
        let definition = definition(&["v1"], &[]);
        assert!(name_refusals(&definition, "bars.a.b", false).is_empty());
        assert_eq!(name_refusals(&definition, "bars.a-", true).len(), 1);
        assert_eq!(name_refusals(&definition, "Bars", false).len(), 2);
    }
}
