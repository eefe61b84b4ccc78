//! The versions of a definition, and what they share.

use api::validation::content;
use api::validation::field::{Bad, Error, Path};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinitionSpec, CustomResourceDefinitionVersion, CustomResourceSubresources,
};

use super::{Options, fields, props};
use crate::definition::Internal;
use crate::schema::Schema;

fn has_status(subresources: &Option<CustomResourceSubresources>) -> bool {
    subresources.as_ref().is_some_and(|s| s.status.is_some())
}

/// Each version, and how they fit together.
pub(super) fn validate(
    root: &Path<'_>,
    spec: &CustomResourceDefinitionSpec,
    internal: &Internal,
    options: &Options,
    errors: &mut Vec<Error>,
) {
    let path = root.child("versions");
    let own_subresources = internal.versions.iter().any(|v| v.subresources.is_some());
    for (index, version) in internal.versions.iter().enumerate() {
        let at = path.index(index);
        let refusals = content::dns1035_label(&version.name);
        if !refusals.is_empty() {
            errors.push(Error::invalid(&at.child("name"), &version.name, refusals.join(",")));
        }
        // Of versions of one name the first one's count.
        let named = internal.versions.iter().find(|v| v.name == version.name).unwrap_or(version);
        let status = match own_subresources {
            true => has_status(&named.subresources),
            false => has_status(&internal.subresources),
        };
        one(&at, version, status, options, errors);
    }
    let names: Vec<&str> = spec.versions.iter().map(|v| v.name.as_str()).collect();
    if names.iter().enumerate().any(|(i, n)| names[..i].contains(n)) {
        let why = "must contain unique version names";
        errors.push(Error::invalid(&path, fields::versions_text(internal), why));
    }
    if spec.versions.iter().filter(|v| v.storage).count() != 1 {
        let bad = match spec.versions.is_empty() {
            true => Bad::Raw("[]".into()),
            false => fields::versions_text(internal),
        };
        errors.push(Error::invalid(&path, bad, "must have exactly one version marked as storage version"));
    }
    let refusals = content::dns1035_label(&internal.version);
    if !internal.version.is_empty() && !refusals.is_empty() {
        errors.push(Error::invalid(&root.child("version"), &internal.version, refusals.join(",")));
    }
}

fn one(
    at: &Path<'_>,
    version: &CustomResourceDefinitionVersion,
    status: bool,
    options: &Options,
    errors: &mut Vec<Error>,
) {
    let deprecated = version.deprecated.unwrap_or(false);
    for why in deprecation(deprecated, version.deprecation_warning.as_deref()) {
        let bad = Bad::json(&version.deprecation_warning);
        errors.push(Error::invalid(&at.child("deprecationWarning"), bad, why));
    }
    let costly_rules = options.costly_rules || options.unchanged.contains(&version.name);
    let own = Options { costly_rules, ..options.clone() };
    errors.extend(props::validation(&at.child("schema"), &version.schema, status, &own));
    fields::subresources(&at.child("subresources"), &version.subresources, errors);
    let columns = at.child("additionalPrinterColumns");
    for (index, column) in version.additional_printer_columns.iter().flatten().enumerate() {
        fields::column(&columns.index(index), column, errors);
    }
    let selectable = version.selectable_fields.as_deref().unwrap_or_default();
    if selectable.is_empty() {
        return;
    }
    let path = at.child("selectableFields");
    let Some(schema) = version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()) else {
        let why = "may only be set when `version.schema.openAPIV3Schema` is not included";
        errors.push(Error::invalid(&path, "", why));
        return;
    };
    match Schema::new(schema) {
        Ok(schema) => fields::selectable(&path, selectable, &schema, options, &version.name, errors),
        Err(why) => errors.push(Error::invalid(&at.child("schema.openAPIV3Schema"), "", why)),
    }
}

fn deprecation(deprecated: bool, warning: Option<&str>) -> Vec<String> {
    let Some(warning) = warning else { return Vec::new() };
    if !deprecated {
        return vec!["can only be set for deprecated versions".into()];
    }
    let mut out = Vec::new();
    if warning.len() > 256 {
        out.push("must be <= 256 characters long".into());
    }
    if warning.is_empty() {
        out.push("must not be an empty string".into());
    }
    // Go prints letters, marks, numbers, punctuation, symbols and the plain space.
    let unprintable = |c: char| c.is_control() || (c.is_whitespace() && c != ' ');
    if let Some((at, _)) = warning.char_indices().find(|(_, c)| unprintable(*c)) {
        out.push(format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        ));
    }
    out
}

/// What stands once for all versions.
pub(super) fn common(root: &Path<'_>, spec: &Internal, options: &Options, errors: &mut Vec<Error>) {
    let status = has_status(&spec.subresources) || spec.versions.iter().any(|v| has_status(&v.subresources));
    let costly_rules = options.costly_rules || options.unchanged.contains(&spec.version);
    let own = Options { costly_rules, ..options.clone() };
    errors.extend(props::validation(&root.child("validation"), &spec.validation, status, &own));
    fields::subresources(&root.child("subresources"), &spec.subresources, errors);
    let columns = root.child("additionalPrinterColumns");
    for (index, column) in spec.columns.iter().enumerate() {
        fields::column(&columns.index(index), column, errors);
    }
    if spec.selectable.is_empty() {
        return;
    }
    let path = root.child("selectableFields");
    let Some(validation) = &spec.validation else {
        errors.push(Error::invalid(&path, "", "may only be set when validations.schema is included"));
        return;
    };
    let Some(schema) = &validation.open_api_v3_schema else {
        // Upstream cannot follow paths without a schema; that one is missing is told already.
        let empty = spec.selectable.iter().enumerate().filter(|(_, f)| f.json_path.is_empty());
        errors.extend(empty.map(|(i, _)| Error::required(&path.index(i).child("jsonPath"), "")));
        return;
    };
    match Schema::new(schema) {
        Ok(schema) => fields::selectable(&path, &spec.selectable, &schema, options, "", errors),
        Err(why) => errors.push(Error::invalid(&root.child("schema.openAPIV3Schema"), "", why)),
    }
}
