//! Reading definitions. [`Internal`] is upstream's internal form, in which what all versions share stands once at the
//! top: paths in error texts follow it. Upstream: `apis/apiextensions/v1/conversion.go`, `apihelpers/helpers.go`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionSpec,
    CustomResourceDefinitionVersion, CustomResourceSubresources, CustomResourceValidation, JSONSchemaProps,
    SelectableField,
};

/// The finalizer under which instances are deleted before their definition.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// A spec in the internal form.
#[derive(Clone, Debug, Default)]
pub struct Internal {
    /// The name of the first version.
    pub version: String,
    /// The schema of all versions.
    pub validation: Option<CustomResourceValidation>,
    /// The subresources of all versions.
    pub subresources: Option<CustomResourceSubresources>,
    /// The printer columns of all versions.
    pub columns: Vec<CustomResourceColumnDefinition>,
    /// The selectable fields of all versions.
    pub selectable: Vec<SelectableField>,
    /// The versions with what is their own.
    pub versions: Vec<CustomResourceDefinitionVersion>,
}

impl Internal {
    /// Moves to the top what all versions have alike.
    pub fn of(spec: &CustomResourceDefinitionSpec) -> Internal {
        let mut out = Internal { versions: spec.versions.clone(), ..Internal::default() };
        for version in &mut out.versions {
            version.additional_printer_columns.take_if(|c| c.is_empty());
            version.selectable_fields.take_if(|f| f.is_empty());
        }
        let Some(first) = out.versions.first().cloned() else { return out };
        out.version = first.name;
        if out.versions.iter().all(|v| v.subresources == first.subresources) {
            out.subresources = first.subresources;
            out.versions.iter_mut().for_each(|v| v.subresources = None);
        }
        if out.versions.iter().all(|v| v.schema == first.schema) {
            out.validation = first.schema;
            out.versions.iter_mut().for_each(|v| v.schema = None);
        }
        if out.versions.iter().all(|v| v.additional_printer_columns == first.additional_printer_columns) {
            out.columns = first.additional_printer_columns.unwrap_or_default();
            out.versions.iter_mut().for_each(|v| v.additional_printer_columns = None);
        }
        if out.versions.iter().all(|v| v.selectable_fields == first.selectable_fields) {
            out.selectable = first.selectable_fields.unwrap_or_default();
            out.versions.iter_mut().for_each(|v| v.selectable_fields = None);
        }
        out
    }

    /// All schemas: the common one, then those of versions.
    pub fn schemas(&self) -> impl Iterator<Item = &JSONSchemaProps> {
        let own = self.versions.iter().map(|v| &v.schema);
        std::iter::once(&self.validation).chain(own).filter_map(|s| s.as_ref()?.open_api_v3_schema.as_ref())
    }
}

/// The schema of a version.
pub fn schema_of<'a>(definition: &'a CustomResourceDefinition, version: &str) -> Option<&'a JSONSchemaProps> {
    let version = definition.spec.versions.iter().find(|v| v.name == version)?;
    version.schema.as_ref()?.open_api_v3_schema.as_ref()
}

/// The name of the version instances are stored in.
pub fn storage_version(definition: &CustomResourceDefinition) -> Option<&str> {
    definition.spec.versions.iter().find(|v| v.storage).map(|v| v.name.as_str())
}

/// Whether a condition of a definition is `True`.
pub fn is_true(definition: &CustomResourceDefinition, condition: &str) -> bool {
    let conditions = definition.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == condition && c.status == "True")
}

/// Groups whose definitions need upstream's approval.
pub fn is_protected_group(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == *domain || group.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
}

/// The annotation that says who approved the definition.
pub const APPROVED: &str = "api-approved.kubernetes.io";

/// What the annotation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approval {
    /// Neither a URL nor a reason.
    Invalid,
    /// A URL.
    Approved,
    /// `unapproved...`
    Bypassed,
    /// Absent.
    Missing,
}

/// Reads the annotation's value. Upstream: `GetAPIApprovalState`.
pub fn approval(annotation: &str) -> (Approval, String) {
    const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
    let must = format!("protected groups must have approval annotation {APPROVED:?}");
    if annotation.is_empty() {
        return (Approval::Missing, format!("{must}, {SEE}"));
    }
    if annotation.starts_with("unapproved") {
        return (Approval::Bypassed, format!("not approved: {}", machinery::golang::quote(annotation)));
    }
    let host = annotation.split_once("://").and_then(|(scheme, rest)| {
        let named = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        named.then(|| rest.split(['/', '?']).next().unwrap_or_default())
    });
    match host {
        Some(host) if !host.is_empty() && !host.contains(' ') => {
            (Approval::Approved, format!("approved in {annotation}"))
        }
        _ => (
            Approval::Invalid,
            format!("{must} with either a URL or a reason starting with \"unapproved\", {SEE}"),
        ),
    }
}
