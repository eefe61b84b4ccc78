//! Expressions of the Common Expression Language, over an object.

use crate::{inputs, text};
use cel::{Activation, Budget, DeclSizes, DeclType, Env, Library, Schema, Type, Version};
use std::sync::OnceLock;

const SCHEMA: &str = r#"{"type":"object","properties":{"name":{"type":"string","maxLength":20},
    "count":{"type":"integer"},"tags":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"string"}},
    "items":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"items":{"type":"object",
    "properties":{"k":{"type":"string"},"v":{"type":"integer"}}}},"labels":{"type":"object",
    "additionalProperties":{"type":"string"}},"when":{"type":"string","format":"date-time"},
    "took":{"type":"string","format":"duration"},"raw":{"type":"string","format":"byte"},
    "port":{"x-kubernetes-int-or-string":true}}}"#;
const OBJECT: &str = r#"{"name":"web","count":3,"tags":["a","b"],"items":[{"k":"one","v":1}],"labels":{"x":"1"},
    "when":"2020-01-02T03:04:05Z","took":"1m","raw":"aGk=","port":80}"#;

struct Setting {
    env: Env,
    sizes: DeclSizes,
    schema: Schema,
    object: machinery::Value,
}

fn setting() -> &'static Setting {
    static SETTING: OnceLock<Setting> = OnceLock::new();
    SETTING.get_or_init(|| {
        let read = |text: &str| machinery::json::parse(text.as_bytes()).expect("JSON");
        let schema = Schema::parse(&read(SCHEMA));
        let root = DeclType::from_schema(&schema, false).expect("a type").named("selfType");
        let env = Env::builder(Version::Stored)
            .variable("object", Type::Dyn)
            .variable("s", Type::String)
            .variable("i", Type::Int)
            .variable("l", Type::list(Type::Int))
            .declare("self", &root)
            .library(Library::Bindings)
            .patch_types()
            .build();
        Setting { env, sizes: DeclSizes::new([("self", root)]), schema, object: read(OBJECT) }
    })
}

/// An expression and an object, one of our own if there is none. What compiles is evaluated within the API server's
/// budget, and must not cost more than it; the tree of what it makes must be writable.
pub fn cel(data: &[u8]) {
    let [source, object] = inputs(data);
    let setting = setting();
    let program = match setting.env.compile(&text(source), None) {
        Ok(program) => program,
        Err(e) => return drop(e.to_string()),
    };
    let range = program.cost_estimate(&setting.sizes);
    assert!(range.min <= range.max, "{range:?}");
    let object = machinery::json::parse(object).unwrap_or_else(|_| setting.object.clone());
    let s = text(data);
    let activation = Activation::new()
        .bind_tree("object", &object)
        .bind("s", Ok(cel::Val::from(s.as_str())))
        .bind("i", Ok(cel::Val::Int(7)))
        .bind("l", Ok(cel::Val::list(vec![cel::Val::Int(3), cel::Val::Int(1)])))
        .bind_typed("self", &object, &setting.schema);
    let (result, cost) = program.eval_with_cost(&activation, &Budget::cost(Budget::PER_CALL));
    match result {
        Ok(value) => {
            assert!(cost <= Budget::PER_CALL, "{cost}");
            let _ = (value.display(), value.to_json(), value.as_made().map(|made| (made.to_tree(), made.misplaced())));
        }
        Err(e) => drop(e.to_string()),
    }
}
