//! A definition compiled: its versions as resources, their schemas, and what else requests need of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::api::resources::{ResourceRow, RowKind};
use apiextensions::conditions;
use apiextensions::rules::Validator;
use apiextensions::schema::{Schema, default};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionVersion,
    CustomResourceSubresourceScale,
};
use machinery::Value;
use storage::store::Store;
use tokio_util::sync::CancellationToken;

use super::codec::Schemas;
use super::convert::{Way, Webhook};
use super::rows::{self, Description};
use super::strategy::CustomResources;
use crate::api;
use crate::core::{Resource, published};
use crate::managed_fields::Managers;
use crate::store::cache;
use crate::strategy::typed;

/// The resources of one definition.
pub struct Family {
    definition: CustomResourceDefinition,
    uid: String,
    spec: Value,
    accepted: Value,
    versions: Vec<Arc<Resource>>,
    state: Arc<State>,
}

/// What changes without the resources being compiled anew.
#[derive(Default)]
pub(crate) struct State {
    /// Names were accepted, or the definition is established: requests are answered.
    answering: AtomicBool,
    /// Established: discovery lists it.
    established: AtomicBool,
    /// On its way out: nothing is created.
    terminating: AtomicBool,
    /// Fired when the resources are replaced or gone: their watches end.
    pub(crate) ended: CancellationToken,
}

impl State {
    pub(crate) fn is_terminating(&self) -> bool {
        self.terminating.load(Ordering::Acquire)
    }
}

/// One version of a custom resource: what its requests need beside the row.
pub struct Version {
    /// The schemas of all versions.
    pub(crate) schemas: Arc<Schemas>,
    /// Served to clients, not only stored.
    served: bool,
    /// The scale subresource.
    pub(crate) scale: Option<CustomResourceSubresourceScale>,
    /// Printer columns.
    pub columns: Arc<[Column]>,
    /// Said with every answer.
    pub(crate) warning: Option<String>,
    pub(crate) list_kind: String,
    pub(crate) state: Arc<State>,
    /// The paths of the replicas field by version, for field managers.
    pub(crate) replicas: HashMap<String, Option<Vec<String>>>,
}

/// A printer column.
pub type Column = CustomResourceColumnDefinition;

impl Family {
    /// Compiles a definition.
    pub(crate) fn build(
        definition: &Value,
        store: &Arc<dyn Store>,
        prefix: &str,
        way: &Way,
    ) -> Result<Self, String> {
        let typed: CustomResourceDefinition = typed(definition).map_err(|e| e.to_string())?;
        let accepted = typed.status.as_ref().and_then(|s| s.accepted_names.clone()).unwrap_or_default();
        let state = Arc::new(State::default());
        let mut family = Family {
            uid: crate::meta::uid(definition).to_owned(),
            spec: definition.get("spec").cloned().unwrap_or_default(),
            accepted: definition.get_path(&["status", "acceptedNames"]).cloned().unwrap_or_default(),
            versions: Vec::new(),
            state,
            definition: typed,
        };
        family.follow(definition);
        if accepted.plural.is_empty() || accepted.kind.is_empty() {
            // Nothing is served before names were accepted.
            return Ok(family);
        }
        let schemas = Arc::new(compile(&family.definition, &accepted.kind, way)?);
        let versions = family.definition.spec.versions.clone();
        for version in versions.iter().filter(|v| v.served || v.storage) {
            let resource = family.resource(version, &schemas, store, prefix)?;
            family.versions.push(Arc::new(resource));
        }
        Ok(family)
    }

    /// Whether these are the resources of the definition as it is now.
    pub(crate) fn is_of(&self, definition: &Value) -> bool {
        let same =
            |ours: &Value, path: &[&str]| definition.get_path(path).is_some_and(|v| v.semantic_eq(ours));
        crate::meta::uid(definition) == self.uid
            && same(&self.spec, &["spec"])
            && definition
                .get_path(&["status", "acceptedNames"])
                .cloned()
                .unwrap_or_default()
                .semantic_eq(&self.accepted)
    }

    /// Takes note of conditions.
    pub(crate) fn follow(&self, definition: &Value) {
        let is = |kind: &str| conditions::is_true(definition, kind);
        let leaving = is("Terminating") || !crate::meta::deletion_timestamp(definition).is_empty();
        self.state.established.store(is("Established"), Ordering::Release);
        self.state.answering.store(is("Established") || is("NamesAccepted"), Ordering::Release);
        self.state.terminating.store(leaving, Ordering::Release);
    }

    /// Ends the watches of the resources.
    pub(crate) fn end(&self) {
        self.state.ended.cancel();
    }

    /// A version that clients may use.
    pub(crate) fn served(&self, version: &str) -> Option<Arc<Resource>> {
        if !self.state.answering.load(Ordering::Acquire) {
            return None;
        }
        let served = |r: &&Arc<Resource>| {
            r.row.kind.version == version && r.custom.as_ref().is_some_and(|custom| custom.served)
        };
        self.versions.iter().find(served).cloned()
    }

    /// All versions that clients may use.
    pub(crate) fn all_served(&self) -> Vec<Arc<Resource>> {
        self.versions.iter().filter_map(|r| self.served(r.row.kind.version)).collect()
    }

    /// The version instances are stored in, served or not.
    pub(crate) fn stored(&self) -> Option<Arc<Resource>> {
        let stored = |r: &&Arc<Resource>| r.row.stored.as_ref().is_some_and(|s| s.kind == r.row.kind);
        self.versions.iter().find(stored).cloned()
    }

    /// What discovery lists of it.
    pub(crate) fn published(&self) -> Vec<Arc<api::ResourceRow>> {
        if !self.state.established.load(Ordering::Acquire) {
            return Vec::new();
        }
        let terminating = self.state.is_terminating();
        let served = self.versions.iter().filter(|r| r.custom.as_ref().is_some_and(|c| c.served));
        let row = |resource: &Arc<Resource>| {
            if !terminating {
                return Arc::clone(&resource.published);
            }
            let mut row = (*resource.published).clone();
            row.verbs.retain(|v| !matches!(v.as_str(), "create" | "patch" | "update"));
            Arc::new(row)
        };
        served.map(row).collect()
    }

    /// The definition behind it, typed.
    pub fn definition(&self) -> &CustomResourceDefinition {
        &self.definition
    }

    fn resource(
        &self,
        version: &CustomResourceDefinitionVersion,
        schemas: &Arc<Schemas>,
        store: &Arc<dyn Store>,
        prefix: &str,
    ) -> Result<Resource, String> {
        let row = self.row(version)?;
        let scale = version.subresources.as_ref().and_then(|s| s.scale.clone());
        let custom = Arc::new(Version {
            schemas: Arc::clone(schemas),
            served: version.served,
            scale,
            columns: columns(version).into(),
            warning: self.warning(version),
            list_kind: self.list_kind(),
            state: Arc::clone(&self.state),
            replicas: self.replicas(),
        });
        Ok(Resource {
            row,
            published: Arc::new(self.published_row(row, version)),
            strategy: Arc::new(CustomResources::new(row, version, &custom)),
            managers: Managers::default(),
            source: Some(cache::custom(store, prefix, row, &custom)),
            custom: Some(custom),
        })
    }

    fn published_row(
        &self,
        row: &ResourceRow,
        version: &CustomResourceDefinitionVersion,
    ) -> api::ResourceRow {
        let schema = apiextensions::definition::schema_of(&self.definition, &version.name);
        let root = ::api::validation::field::Path::ROOT;
        let structural = schema.filter(|s| apiextensions::schema::structural::validate(&root, s).is_empty());
        let custom = api::CustomRow {
            list_kind: self.list_kind(),
            schema: structural.and_then(|s| serde_json::to_value(s).ok()),
            preserve: self.definition.spec.preserve_unknown_fields == Some(true),
            selectable: row.fields.iter().map(|f| (*f).to_owned()).collect(),
        };
        let mut out = api::ResourceRow { custom: Some(Arc::new(custom)), ..published(row) };
        // Discovery lists the status first.
        out.subresources.sort_by(|a, b| b.name.cmp(&a.name));
        out
    }

    fn list_kind(&self) -> String {
        let names = self.definition.status.as_ref().and_then(|s| s.accepted_names.as_ref());
        names.and_then(|n| n.list_kind.clone()).unwrap_or_default()
    }

    fn row(&self, version: &CustomResourceDefinitionVersion) -> Result<&'static ResourceRow, String> {
        let spec = &self.definition.spec;
        let names =
            self.definition.status.as_ref().and_then(|s| s.accepted_names.clone()).unwrap_or_default();
        let stored = apiextensions::definition::storage_version(&self.definition);
        let offers = version.subresources.as_ref();
        let fields = version.selectable_fields.iter().flatten();
        Ok(rows::row(Description {
            group: spec.group.clone(),
            version: version.name.clone(),
            stored_version: stored.ok_or("no version is stored")?.to_owned(),
            kind: names.kind,
            plural: names.plural,
            singular: names.singular.unwrap_or_default(),
            short_names: names.short_names.unwrap_or_default(),
            categories: names.categories.unwrap_or_default(),
            namespaced: spec.scope == "Namespaced",
            status: offers.is_some_and(|s| s.status.is_some()),
            scale: offers.is_some_and(|s| s.scale.is_some()),
            fields: fields.map(|f| f.json_path.trim_start_matches('.').to_owned()).collect(),
        }))
    }

    /// Upstream: `defaultDeprecationWarning`.
    fn warning(&self, version: &CustomResourceDefinitionVersion) -> Option<String> {
        if version.deprecated != Some(true) {
            return None;
        }
        let spec = &self.definition.spec;
        let default = || format!("{}/{} {} is deprecated", spec.group, version.name, spec.names.kind);
        Some(version.deprecation_warning.clone().unwrap_or_else(default))
    }

    fn replicas(&self) -> HashMap<String, Option<Vec<String>>> {
        let spec = &self.definition.spec;
        let path = |version: &CustomResourceDefinitionVersion| {
            let scale = version.subresources.as_ref()?.scale.as_ref()?;
            Some(split(&scale.spec_replicas_path))
        };
        spec.versions.iter().map(|v| (format!("{}/{}", spec.group, v.name), path(v))).collect()
    }
}

/// A simple path's segments.
pub(crate) fn split(path: &str) -> Vec<String> {
    path.trim_start_matches('.').split('.').map(str::to_owned).collect()
}

fn compile(definition: &CustomResourceDefinition, kind: &str, way: &Way) -> Result<Schemas, String> {
    let mut by_version = HashMap::new();
    let preserve = definition.spec.preserve_unknown_fields == Some(true);
    for version in &definition.spec.versions {
        let Some(schema) = apiextensions::definition::schema_of(definition, &version.name) else { continue };
        match Schema::new(schema) {
            Ok(mut schema) => {
                if !preserve {
                    default::prune_defaults(&mut schema)?;
                }
                by_version.insert(version.name.clone(), schema);
            }
            Err(_) if preserve => {}
            Err(why) => return Err(why),
        }
    }
    let rules = by_version
        .iter()
        .filter_map(|(name, schema): (&String, &Schema)| Some((name.clone(), Validator::new(schema, true)?)));
    let rules = rules.collect();
    let documents = definition.spec.versions.iter().filter_map(|v| {
        let schema = apiextensions::definition::schema_of(definition, &v.name)?;
        Some((v.name.clone(), machinery::value::to_value(schema).ok()?))
    });
    let kind = RowKind { group: rows::text(&definition.spec.group), version: "", kind: rows::text(kind) };
    let versions = definition.spec.versions.iter().map(|v| v.name.clone()).collect();
    Ok(Schemas {
        versions,
        kind,
        preserve,
        by_version,
        rules,
        documents: documents.collect(),
        webhook: Webhook::of(definition, way),
    })
}

/// The columns after the name; the age alone where the definition names none.
fn columns(version: &CustomResourceDefinitionVersion) -> Vec<Column> {
    let own = version.additional_printer_columns.clone().unwrap_or_default();
    if !own.is_empty() {
        return own;
    }
    vec![Column {
        name: "Age".into(),
        type_: "date".into(),
        json_path: ".metadata.creationTimestamp".into(),
        ..Column::default()
    }]
}
