//! Operations of custom resources, by path and method: fewer forms, and fewer answers than built-in ones.
//! Upstream: `apiextensions-apiserver/pkg/controller/openapi/builder/builder.go`.

use registry::api::{CustomRow, ResourceRow};
use serde_json::Value;

use super::custom;
use super::operation::{Operation, capital, group_version};
use super::parameters;
use super::paths::{Paths, base};
use super::schemas::Schemas;

const MEDIA: [&str; 2] = ["application/json", "application/yaml"];
const PATCHES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

struct Resource<'a> {
    row: &'a ResourceRow,
    who: (String, String),
}

/// The paths of a row that a definition made.
pub(super) fn all(row: &ResourceRow, custom: &CustomRow, schemas: &mut Schemas, out: &mut Paths) {
    let it = Resource { row, who: group_version(&row.gvk.group, &row.gvk.version) };
    let scope = if row.namespaced { "namespaces/{namespace}/" } else { "" };
    let collection = format!("{}/{scope}{}", base(row), row.resource);
    let (object, list) = (custom::object(row, custom, schemas), custom::list(row, custom, schemas));
    if row.namespaced {
        let mut made = it.operation("get", "list", "ListOptions", "list", list.clone(), schemas);
        made.id = format!("list{}{}ForAllNamespaces", it.who.0, row.gvk.kind);
        out.insert(format!("{}/{}", base(row), row.resource), vec![made]);
    }
    let status = schemas.meta("Status");
    let mut gone =
        it.operation("delete", "delete", "ListOptions", "deletecollection", status.clone(), schemas);
    gone.id = it.id("delete", "Collection", "");
    let mut create = it.operation("post", "create", "CreateOptions", "post", object.clone(), schemas);
    (create.body, create.codes) = (Some((object.clone(), true)), &[200, 201, 202]);
    let mut operations =
        vec![it.operation("get", "list", "ListOptions", "list", list, schemas), create, gone];
    operations.iter_mut().for_each(|o| o.parameters.extend(it.in_path(false)));
    out.insert(collection.clone(), operations);

    let mut operations = it.item("", &object, schemas);
    let mut delete = it.operation("delete", "delete", "DeleteOptions", "delete", status, schemas);
    (delete.body, delete.codes) = (Some((schemas.meta("DeleteOptions"), false)), &[200, 202]);
    delete.parameters.extend(it.in_path(true));
    operations.push(delete);
    let item = format!("{collection}/{{name}}");
    out.insert(item.clone(), operations);
    for sub in &row.subresources {
        let object = if sub.name == "scale" { schemas.reference(&sub.kind) } else { object.clone() };
        out.insert(format!("{item}/{}", sub.name), it.item(&sub.name, &object, schemas));
    }
}

impl Resource<'_> {
    fn id(&self, verb: &str, what: &str, suffix: &str) -> String {
        let scope = if self.row.namespaced { "Namespaced" } else { "" };
        format!("{verb}{}{what}{scope}{}{suffix}", self.who.0, self.row.gvk.kind)
    }

    fn in_path(&self, item: bool) -> Vec<parameters::Parameter> {
        let parts = [(self.row.namespaced, "namespace"), (item, "name")];
        parts.into_iter().filter(|(on, _)| *on).map(|(_, name)| parameters::in_path(name)).collect()
    }

    fn operation(
        &self,
        method: &'static str,
        verb: &str,
        options: &str,
        action: &'static str,
        answer: Value,
        schemas: &Schemas,
    ) -> Operation {
        let mut all = parameters::of(schemas.types, &format!("meta/v1.{options}"), &[]);
        all.push(parameters::pretty());
        Operation {
            method,
            id: self.id(verb, "", ""),
            tag: self.who.1.clone(),
            action: Some((action, self.row.gvk.clone())),
            consumes: MEDIA.to_vec(),
            produces: MEDIA.to_vec(),
            parameters: all,
            body: None,
            answer,
            codes: &[200],
        }
    }

    /// Reading and writing an item or a subresource of it.
    fn item(&self, sub: &str, object: &Value, schemas: &mut Schemas) -> Vec<Operation> {
        let answer = || object.clone();
        let get = self.operation("get", "read", "GetOptions", "get", answer(), schemas);
        let mut put = self.operation("put", "replace", "UpdateOptions", "put", answer(), schemas);
        (put.body, put.codes) = (Some((answer(), true)), &[200, 201]);
        let mut patch = self.operation("patch", "patch", "PatchOptions", "patch", answer(), schemas);
        (patch.body, patch.consumes) = (Some((schemas.meta("Patch"), true)), PATCHES.to_vec());
        let mut all = vec![get, put, patch];
        for operation in &mut all {
            operation.id += &capital(sub);
            operation.parameters.extend(self.in_path(true));
        }
        all
    }
}
