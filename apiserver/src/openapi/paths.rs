//! Operations of the built-in resources, by path and method. Start at [`all`]; custom resources are in `custompaths`.
//! Upstream: `k8s.io/apiserver/pkg/endpoints/installer.go`.

use std::collections::BTreeMap;

use registry::api::{Gvk, ResourceRow, SubresourceRow};
use serde_json::{Value, json};

use super::operation::{Operation, capital, group_version};
use super::parameters::{self, Parameter};
use super::schemas::Schemas;

pub(super) const MEDIA: [&str; 3] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
/// What lists and watches can be answered in.
const STREAMS: [&str; 5] = [
    MEDIA[0],
    MEDIA[1],
    MEDIA[2],
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
/// The methods of streams, and what is passed on with any method.
const STREAMED: [&str; 2] = ["get", "post"];
const PROXIED: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];

/// Operations by path.
pub(super) type Paths = BTreeMap<String, Vec<Operation>>;

/// What all operations of a row have in common.
struct Resource<'a> {
    row: &'a ResourceRow,
    /// Group and version as in names, and the tag.
    who: (String, String),
    list: Vec<Parameter>,
}

/// The paths of a row.
pub(super) fn all(row: &ResourceRow, schemas: &mut Schemas, out: &mut Paths) {
    let list = parameters::of(schemas.types, "meta/v1.ListOptions", &[]);
    let it = Resource { row, who: group_version(&row.gvk.group, &row.gvk.version), list };
    let collection = it.scoped("");
    let item = format!("{collection}/{{name}}");
    add(out, &collection, it.collection(schemas));
    add(out, &item, it.item(schemas));
    for sub in &row.subresources {
        let path = format!("{item}/{}", sub.name);
        if sub.name == "proxy" {
            add(out, &format!("{path}/{{path}}"), it.connect(sub, true, schemas));
        }
        let connects = sub.kind.kind.ends_with("Options");
        let made = if connects { it.connect(sub, false, schemas) } else { it.subresource(sub, schemas) };
        add(out, &path, made);
    }
    let everywhere = format!("{}/{}", base(row), row.resource);
    if row.namespaced && it.has("list") {
        add(out, &everywhere, vec![it.list(true, schemas)]);
    }
    if it.has("watch") {
        add(out, &it.scoped("/watch"), vec![it.watch("List", row.namespaced, schemas)]);
        add(out, &format!("{}/{{name}}", it.scoped("/watch")), vec![it.watch("", row.namespaced, schemas)]);
        if row.namespaced {
            let path = format!("{}/watch/{}", base(row), row.resource);
            add(out, &path, vec![it.watch("ListForAllNamespaces", false, schemas)]);
        }
    }
}

fn add(out: &mut Paths, path: &str, operations: Vec<Operation>) {
    if !operations.is_empty() {
        out.entry(path.to_owned()).or_default().extend(operations);
    }
}

/// `/apis/apps/v1`
pub(super) fn base(row: &ResourceRow) -> String {
    let prefix = if row.gvk.group.is_empty() { "/api" } else { "/apis" };
    format!("{prefix}/{}", row.gvk.api_version())
}

impl Resource<'_> {
    fn has(&self, verb: &str) -> bool {
        self.row.verbs.iter().any(|v| v == verb)
    }

    fn scoped(&self, prefix: &str) -> String {
        let scope = if self.row.namespaced { "namespaces/{namespace}/" } else { "" };
        format!("{}{prefix}/{scope}{}", base(self.row), self.row.resource)
    }

    /// `readCoreV1NamespacedPodStatus`: of these, what is done and what to.
    fn id(&self, verb: &str, what: &str, namespaced: bool, suffix: &str) -> String {
        let scope = if namespaced { "Namespaced" } else { "" };
        format!("{verb}{}{what}{scope}{}{suffix}", self.who.0, self.row.gvk.kind)
    }

    /// The parts of the path and `pretty`, and what options add.
    fn parameters(&self, item: bool, options: &[Parameter]) -> Vec<Parameter> {
        let mut all = vec![parameters::pretty()];
        all.extend(self.in_path(item, self.row.namespaced));
        all.extend_from_slice(options);
        all
    }

    fn in_path(&self, item: bool, namespaced: bool) -> Vec<Parameter> {
        let parts = [(namespaced, "namespace"), (item, "name")];
        parts.into_iter().filter(|(on, _)| *on).map(|(_, name)| parameters::in_path(name)).collect()
    }

    fn operation(&self, method: &'static str, id: String, action: &'static str, answer: Value) -> Operation {
        Operation {
            method,
            id,
            tag: self.who.1.clone(),
            action: Some((action, self.row.gvk.clone())),
            consumes: vec!["*/*"],
            produces: MEDIA.to_vec(),
            parameters: Vec::new(),
            body: None,
            answer,
            codes: &[200],
        }
    }

    fn list(&self, everywhere: bool, schemas: &mut Schemas) -> Operation {
        let kind = &self.row.gvk;
        let listed = Gvk { kind: format!("{}List", kind.kind), ..kind.clone() };
        let suffix = if everywhere { "ForAllNamespaces" } else { "" };
        let namespaced = self.row.namespaced && !everywhere;
        let mut made = self.operation(
            "get",
            self.id("list", "", namespaced, suffix),
            "list",
            schemas.reference(&listed),
        );
        made.produces = STREAMS.to_vec();
        made.parameters = self.in_path(false, namespaced);
        made.parameters.push(parameters::pretty());
        made.parameters.extend_from_slice(&self.list);
        made
    }

    fn watch(&self, suffix: &str, namespaced: bool, schemas: &mut Schemas) -> Operation {
        let action = if suffix.is_empty() { "watch" } else { "watchlist" };
        let id = self.id("watch", "", namespaced, suffix);
        let mut made = self.operation("get", id, action, schemas.meta("WatchEvent"));
        made.produces = STREAMS.to_vec();
        made.parameters = self.in_path(suffix.is_empty(), namespaced);
        made.parameters.push(parameters::pretty());
        made.parameters.extend_from_slice(&self.list);
        made
    }

    fn collection(&self, schemas: &mut Schemas) -> Vec<Operation> {
        let mut out = Vec::new();
        if self.has("list") {
            out.push(self.list(false, schemas));
        }
        if self.has("create") {
            out.push(self.create(&self.row.gvk, "", schemas));
        }
        if self.has("deletecollection") {
            let id = self.id("delete", "Collection", self.row.namespaced, "");
            let mut made = self.operation("delete", id, "deletecollection", schemas.meta("Status"));
            let except = ["watch", "allowWatchBookmarks"];
            let mut options = parameters::of(schemas.types, "meta/v1.DeleteOptions", &[]);
            options.extend(parameters::of(schemas.types, "meta/v1.ListOptions", &except));
            made.parameters = self.parameters(false, &options);
            made.body = Some((schemas.meta("DeleteOptions"), false));
            out.push(made);
        }
        out
    }

    /// On a collection, or on an item's subresource.
    fn create(&self, kind: &Gvk, sub: &str, schemas: &mut Schemas) -> Operation {
        let object = schemas.reference(kind);
        let id = self.id("create", "", self.row.namespaced, &capital(sub));
        let mut made = self.operation("post", id, "post", object.clone());
        let options = parameters::of(schemas.types, "meta/v1.CreateOptions", &[]);
        made.parameters = self.parameters(!sub.is_empty(), &options);
        made.body = Some((object, true));
        made.codes = &[200, 201, 202];
        made.action = Some(("post", kind.clone()));
        made
    }

    fn item(&self, schemas: &mut Schemas) -> Vec<Operation> {
        self.on_item(&self.row.gvk, &self.row.verbs, "", schemas)
    }

    fn subresource(&self, sub: &SubresourceRow, schemas: &mut Schemas) -> Vec<Operation> {
        let kind = if sub.kind.kind.is_empty() { &self.row.gvk } else { &sub.kind };
        let mut out = self.on_item(kind, &sub.verbs, &sub.name, schemas);
        if sub.verbs.iter().any(|v| v == "create") {
            out.push(self.create(kind, &sub.name, schemas));
        }
        if sub.name == "log" {
            out.iter_mut().for_each(|log| {
                log.produces.insert(0, "text/plain");
                log.answer = json!({"type": "string"});
                log.parameters.extend(parameters::of(schemas.types, "core/v1.PodLogOptions", &[]));
            });
        }
        out
    }

    fn on_item(&self, kind: &Gvk, verbs: &[String], sub: &str, schemas: &mut Schemas) -> Vec<Operation> {
        let mut out = Vec::new();
        for verb in verbs {
            let (method, prefix, options) = match verb.as_str() {
                "get" => ("get", "read", None),
                "update" => ("put", "replace", Some("UpdateOptions")),
                "patch" => ("patch", "patch", Some("PatchOptions")),
                "delete" => ("delete", "delete", Some("DeleteOptions")),
                _ => continue,
            };
            let object = if sub == "log" { Value::Null } else { schemas.reference(kind) };
            let id = self.id(prefix, "", self.row.namespaced, &capital(sub));
            let mut made = self.operation(method, id, method, object.clone());
            let options = options
                .map(|o| parameters::of(schemas.types, &format!("meta/v1.{o}"), &[]))
                .unwrap_or_default();
            made.parameters = self.parameters(true, &options);
            made.action = Some((method, kind.clone()));
            match method {
                "put" => (made.body, made.codes) = (Some((object, true)), &[200, 201]),
                "patch" => {
                    (made.body, made.codes) = (Some((schemas.meta("Patch"), true)), &[200, 201]);
                    made.consumes = PATCHES.to_vec();
                }
                "delete" => {
                    (made.body, made.codes) = (Some((schemas.meta("DeleteOptions"), false)), &[200, 202]);
                    if !self.returns_deleted() {
                        made.answer = schemas.meta("Status");
                    }
                }
                _ => {}
            }
            out.push(made);
        }
        out
    }

    /// What is said of it: a namespace is answered with too, but its storage does not say so
    /// (`pkg/registry/core/namespace/storage` wraps its store).
    fn returns_deleted(&self) -> bool {
        let (kind, resource) = (&self.row.gvk, self.row.resource.as_str());
        let row = ::api::resources::resource(&kind.group, &kind.version, resource);
        resource != "namespaces" && row.is_some_and(|r| r.returns_deleted)
    }

    /// Streams, and requests that are passed on.
    fn connect(&self, sub: &SubresourceRow, with_path: bool, schemas: &mut Schemas) -> Vec<Operation> {
        let methods: &[&'static str] = if sub.name == "proxy" { &PROXIED } else { &STREAMED };
        let suffix = capital(&sub.name) + if with_path { "WithPath" } else { "" };
        let text = json!({"type": "string"});
        let mut all = parameters::of(schemas.types, &format!("core/v1.{}", sub.kind.kind), &[]);
        all.extend(self.in_path(true, self.row.namespaced));
        all.extend(with_path.then(|| parameters::in_path("path")));
        let made = methods.iter().copied().map(|method| {
            let id = self.id("connect", &capital(method), self.row.namespaced, &suffix);
            let mut made = self.operation(method, id, "connect", text.clone());
            made.action = Some(("connect", sub.kind.clone()));
            made.produces = vec!["*/*"];
            made.parameters = all.clone();
            made
        });
        made.collect()
    }
}
