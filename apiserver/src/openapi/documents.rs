//! The documents: which there are, and what stands in them. Start at [`v3`] or [`v2`].
//! Upstream: `apiserver/pkg/server/routes/openapi.go`, which makes a document of each web service.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use registry::api::ResourceRow;
use serde_json::{Map, Value, json};

use super::operation::path_item;
use super::paths::{self, Paths};
use super::schemas::{Schemas, Scope};
use super::{Dialect, custompaths, fixed, path_of};

/// The version 3 documents. Groups of custom resources have none of their own.
pub(super) fn names(rows: &[Arc<ResourceRow>], openid: bool) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = fixed::ALWAYS.map(str::to_owned).into();
    all.extend(fixed::OPENID.iter().filter(|_| openid).map(|name| (*name).to_owned()));
    for row in rows {
        if row.custom.is_none() && !row.gvk.group.is_empty() {
            all.insert(format!("apis/{}", row.gvk.group));
        }
        all.insert(path_of(row));
    }
    all
}

fn info(dialect: Dialect) -> Map<String, Value> {
    let mut out = Map::new();
    match dialect {
        Dialect::V2 => out.insert("swagger".to_owned(), json!("2.0")),
        Dialect::V3 => out.insert("openapi".to_owned(), json!("3.0.0")),
    };
    let version = format!("1.{}", component::version::MINOR);
    out.insert("info".to_owned(), json!({"title": "Kubernetes", "version": version}));
    out
}

fn security() -> Value {
    json!({"BearerToken": {"description": "Bearer Token authentication", "in": "header", "name": "authorization",
        "type": "apiKey"}})
}

/// Paths as they are made: operations of one row at a time are enough to hold.
struct Written {
    paths: Map<String, Value>,
    /// The parameters that version 2 shares.
    shared: Map<String, Value>,
}

impl Written {
    fn new() -> Self {
        Self { paths: Map::new(), shared: Map::new() }
    }

    fn fixed(&mut self, name: &str, schemas: &mut Schemas) {
        let operation = fixed::operation(name, schemas);
        self.write(&Paths::from([(format!("/{name}/"), vec![operation])]), schemas.dialect);
    }

    fn row(&mut self, row: &ResourceRow, schemas: &mut Schemas) {
        let mut made = Paths::new();
        match &row.custom {
            Some(custom) => custompaths::all(row, custom, schemas, &mut made),
            None => paths::all(row, schemas, &mut made),
        }
        self.write(&made, schemas.dialect);
    }

    fn write(&mut self, made: &Paths, dialect: Dialect) {
        for (path, operations) in made {
            self.paths.insert(path.clone(), path_item(operations, dialect, &mut self.shared));
        }
    }
}

/// A document of [`names`].
pub(super) fn v3(rows: &[Arc<ResourceRow>], name: &str) -> Bytes {
    let own: Vec<&Arc<ResourceRow>> = rows.iter().filter(|r| path_of(r) == name).collect();
    let custom = own.iter().any(|r| r.custom.is_some());
    let scope = match own.first() {
        Some(_) if custom => Scope::Client,
        Some(row) => Scope::Version(&row.gvk.group, &row.gvk.version),
        None => Scope::Version("", "v1"),
    };
    let mut schemas = Schemas::new(Dialect::V3, &scope);
    let mut written = Written::new();
    let mut out = info(Dialect::V3);
    let mut components = Map::new();
    if custom {
        out.insert("info".to_owned(), json!({"title": "Kubernetes CRD Swagger", "version": "v0.1.0"}));
    } else {
        written.fixed(name, &mut schemas);
        components.insert("securitySchemes".to_owned(), security());
    }
    own.iter().for_each(|row| written.row(row, &mut schemas));
    out.insert("paths".to_owned(), Value::Object(written.paths));
    let schemas = schemas.finish();
    if !schemas.is_empty() {
        components.insert("schemas".to_owned(), Value::Object(schemas));
    }
    out.insert("components".to_owned(), Value::Object(components));
    Value::Object(out).to_string().into()
}

/// The document of everything.
pub(super) fn v2(rows: &[Arc<ResourceRow>], openid: bool) -> Bytes {
    let mut schemas = Schemas::new(Dialect::V2, &Scope::All);
    let mut written = Written::new();
    let custom: BTreeSet<String> = rows.iter().filter(|r| r.custom.is_some()).map(|r| path_of(r)).collect();
    for name in names(rows, openid).iter().filter(|name| !custom.contains(*name)) {
        written.fixed(name, &mut schemas);
    }
    rows.iter().for_each(|row| written.row(row, &mut schemas));
    let mut out = info(Dialect::V2);
    out.insert("paths".to_owned(), Value::Object(written.paths));
    out.insert("definitions".to_owned(), Value::Object(schemas.finish()));
    out.insert("parameters".to_owned(), Value::Object(written.shared));
    out.insert("securityDefinitions".to_owned(), security());
    out.insert("security".to_owned(), json!([{"BearerToken": []}]));
    Value::Object(out).to_string().into()
}
