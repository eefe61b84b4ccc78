//! Server-side apply of the built-in kinds: the types it works on.

use crate::types;
use machinery::apply::{Schema, TableTypes, TypeRef};
use machinery::schema::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

struct Types {
    schema: Arc<Schema>,
    structs: HashMap<TypeId, TypeRef>,
}

static TYPES: LazyLock<Types> = LazyLock::new(|| {
    let table = types();
    // Documents and what they are made of; configuration files are not applied.
    let kinds = table.types().filter(|id| table.get(*id).kind);
    let t = TableTypes::new(table, Schema::default(), kinds);
    Types { schema: Arc::new(t.schema), structs: t.structs }
});

/// The schema of all built-in kinds.
pub fn schema() -> Arc<Schema> {
    TYPES.schema.clone()
}

/// The type of a kind in [`schema`].
pub fn type_of(api_version: &str, kind: &str) -> Option<TypeRef> {
    TYPES.structs.get(&types().kind(api_version, kind)?).copied()
}

/// A schema that knows ObjectMeta, to add the types of a custom resource to, and the type of ObjectMeta in it.
pub fn custom_schema() -> (Schema, TypeRef) {
    let table = types();
    let id = table.by_name("meta/v1.ObjectMeta");
    let t = TableTypes::new(table, Schema::default(), id);
    let meta = id.and_then(|id| t.structs.get(&id).copied());
    (t.schema, meta.unwrap_or(machinery::apply::UNTYPED.into()))
}
