//! The v2 document as gnostic's protobuf, which clients that validate by v2 insist on.
//!
//! What our documents say is written, in gnostic's field numbers; the rest of the format has no counterpart here.
//! Upstream: `github.com/google/gnostic-models/openapiv2/OpenAPIv2.proto`.

use serde_json::Value;

/// A message being written.
#[derive(Default)]
struct Message(Vec<u8>);

const BYTES: u32 = 2;

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, tag: u32, wire: u32) {
        self.varint(u64::from((tag << 3) | wire));
    }

    fn bytes(&mut self, tag: u32, bytes: &[u8]) {
        self.key(tag, BYTES);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, tag: u32, text: &str) {
        if !text.is_empty() {
            self.bytes(tag, text.as_bytes());
        }
    }

    fn message(&mut self, tag: u32, inner: Message) {
        self.bytes(tag, &inner.0);
    }

    /// A field that may be absent.
    fn given(&mut self, tag: u32, value: Option<&Value>, write: fn(&Value) -> Message) {
        if let Some(value) = value {
            self.message(tag, write(value));
        }
    }

    fn scalar(&mut self, tag: u32, value: &Value, double: bool) {
        match value {
            Value::String(text) => self.text(tag, text),
            Value::Bool(true) => {
                self.key(tag, 0);
                self.varint(1);
            }
            Value::Number(n) if double => {
                self.key(tag, 1);
                self.0.extend_from_slice(&n.as_f64().unwrap_or_default().to_le_bytes());
            }
            Value::Number(n) => {
                self.key(tag, 0);
                self.varint(n.as_i64().unwrap_or_default() as u64);
            }
            _ => {}
        }
    }

    fn each(&mut self, tag: u32, list: Option<&Value>, write: fn(&Value) -> Message) {
        for item in list.and_then(Value::as_array).into_iter().flatten() {
            self.message(tag, write(item));
        }
    }

    fn texts(&mut self, tag: u32, list: Option<&Value>) {
        for item in list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            self.bytes(tag, item.as_bytes());
        }
    }

    /// Members of an object by name, those that `keep` chooses.
    fn named(&mut self, tag: u32, of: Option<&Value>, keep: fn(&str) -> bool, write: fn(&Value) -> Message) {
        for (name, value) in of.and_then(Value::as_object).into_iter().flatten().filter(|(n, _)| keep(n)) {
            let mut pair = Message::default();
            pair.text(1, name);
            pair.message(2, write(value));
            self.message(tag, pair);
        }
    }

    fn extensions(&mut self, tag: u32, of: &Value) {
        self.named(tag, Some(of), |name| name.starts_with("x-"), any);
    }
}

/// A document in gnostic's form.
pub(super) fn document(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, text(document, "swagger"));
    out.given(2, document.get("info"), |info| {
        let mut out = Message::default();
        out.text(1, text(info, "title"));
        out.text(2, text(info, "version"));
        out
    });
    out.given(8, document.get("paths"), |paths| {
        let mut out = Message::default();
        out.extensions(1, paths);
        out.named(2, Some(paths), |name| name.starts_with('/'), path_item);
        out
    });
    out.given(9, document.get("definitions"), properties);
    out.given(10, document.get("parameters"), |all| {
        let mut out = Message::default();
        out.named(1, Some(all), |_| true, parameter);
        out
    });
    out.each(12, document.get("security"), |requirement| {
        let mut out = Message::default();
        out.named(1, Some(requirement), |_| true, strings);
        out
    });
    out.given(13, document.get("securityDefinitions"), |all| {
        let mut out = Message::default();
        out.named(1, Some(all), |_| true, api_key);
        out
    });
    out.0
}

fn text<'v>(of: &'v Value, field: &str) -> &'v str {
    of.get(field).and_then(Value::as_str).unwrap_or("")
}

/// Any value is YAML, and JSON is YAML.
fn any(value: &Value) -> Message {
    let mut out = Message::default();
    out.text(2, &value.to_string());
    out
}

fn strings(list: &Value) -> Message {
    let mut out = Message::default();
    out.texts(1, Some(list));
    out
}

fn properties(all: &Value) -> Message {
    let mut out = Message::default();
    out.named(1, Some(all), |_| true, schema);
    out
}

fn api_key(security: &Value) -> Message {
    let (mut out, mut key) = (Message::default(), Message::default());
    for (tag, field) in [(1, "type"), (2, "name"), (3, "in"), (4, "description")] {
        key.text(tag, text(security, field));
    }
    out.message(2, key);
    out
}

fn path_item(item: &Value) -> Message {
    let mut out = Message::default();
    let methods = ["get", "put", "post", "delete", "options", "head", "patch"];
    for (tag, method) in (2..).zip(methods) {
        out.given(tag, item.get(method), operation);
    }
    out.each(9, item.get("parameters"), parameters_item);
    out.extensions(10, item);
    out
}

fn operation(operation: &Value) -> Message {
    let mut out = Message::default();
    out.texts(1, operation.get("tags"));
    out.text(3, text(operation, "description"));
    out.text(5, text(operation, "operationId"));
    out.texts(6, operation.get("produces"));
    out.texts(7, operation.get("consumes"));
    out.each(8, operation.get("parameters"), parameters_item);
    out.given(9, operation.get("responses"), |responses| {
        let mut out = Message::default();
        out.named(1, Some(responses), |name| !name.starts_with("x-"), response);
        out
    });
    out.texts(10, operation.get("schemes"));
    out.extensions(13, operation);
    out
}

fn response(response: &Value) -> Message {
    let (mut out, mut inner) = (Message::default(), Message::default());
    inner.text(1, text(response, "description"));
    inner.given(2, response.get("schema"), |of| {
        let mut item = Message::default();
        item.message(1, schema(of));
        item
    });
    out.message(1, inner);
    out
}

/// A parameter, or a reference to one of the document's.
fn parameters_item(item: &Value) -> Message {
    let mut out = Message::default();
    let reference = text(item, "$ref");
    if reference.is_empty() {
        out.message(1, parameter(item));
    } else {
        let mut inner = Message::default();
        inner.text(1, reference);
        out.message(2, inner);
    }
    out
}

/// In the body, the query or the path: messages in messages.
fn parameter(parameter: &Value) -> Message {
    let place = text(parameter, "in");
    let mut own = Message::default();
    let mut chosen = Message::default();
    if place == "body" {
        own.text(1, text(parameter, "description"));
        own.text(2, text(parameter, "name"));
        own.text(3, place);
        own.scalar(4, parameter.get("required").unwrap_or(&Value::Null), false);
        own.given(5, parameter.get("schema"), schema);
        chosen.message(1, own);
    } else {
        // Those of the query have one field more, and are the third of four.
        let (shift, kind) = if place == "path" { (0, 4) } else { (1, 3) };
        own.scalar(1, parameter.get("required").unwrap_or(&Value::Null), false);
        own.text(2, place);
        own.text(3, text(parameter, "description"));
        own.text(4, text(parameter, "name"));
        own.text(5 + shift, text(parameter, "type"));
        own.scalar(19 + shift, parameter.get("uniqueItems").unwrap_or(&Value::Null), false);
        let mut other = Message::default();
        other.message(kind, own);
        chosen.message(2, other);
    }
    chosen
}

/// Fields of a schema that are texts, numbers or switches.
const SCALARS: [(u32, &str); 17] = [
    (1, "$ref"),
    (2, "format"),
    (3, "title"),
    (4, "description"),
    (6, "multipleOf"),
    (7, "maximum"),
    (8, "exclusiveMaximum"),
    (9, "minimum"),
    (10, "exclusiveMinimum"),
    (11, "maxLength"),
    (12, "minLength"),
    (13, "pattern"),
    (14, "maxItems"),
    (15, "minItems"),
    (16, "uniqueItems"),
    (17, "maxProperties"),
    (18, "minProperties"),
];

fn schema(of: &Value) -> Message {
    let mut out = Message::default();
    for (tag, field) in SCALARS {
        out.scalar(tag, of.get(field).unwrap_or(&Value::Null), matches!(tag, 6 | 7 | 9));
    }
    out.given(5, of.get("default"), any);
    out.texts(19, of.get("required"));
    out.each(20, of.get("enum"), any);
    out.given(21, of.get("additionalProperties"), |value| {
        let mut item = Message::default();
        match value {
            Value::Bool(_) => item.scalar(2, value, false),
            value => item.message(1, schema(value)),
        }
        item
    });
    out.given(22, of.get("type"), |kind| {
        let mut item = Message::default();
        item.text(1, kind.as_str().unwrap_or(""));
        item
    });
    out.given(23, of.get("items"), |items| {
        let mut item = Message::default();
        item.message(1, schema(items));
        item
    });
    out.each(24, of.get("allOf"), schema);
    out.given(25, of.get("properties"), properties);
    out.given(29, of.get("externalDocs"), |docs| {
        let mut out = Message::default();
        out.text(1, text(docs, "description"));
        out.text(2, text(docs, "url"));
        out
    });
    out.given(30, of.get("example"), any);
    out.extensions(31, of);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parameters_are_said_or_referred_to() {
        // Of the path item, field 9: an item with a reference, whose text is field 1.
        let made = path_item(&json!({"parameters": [{"$ref": "#/p"}]})).0;
        assert_eq!(made, [0x4a, 7, 0x12, 5, 0x0a, 3, b'#', b'/', b'p']);
        let made = parameters_item(&json!({"name": "a", "in": "path", "required": true, "type": "b"})).0;
        let own = [&[8, 1, 0x12, 4][..], b"path", &[0x22, 1, b'a', 0x2a, 1, b'b']].concat();
        assert_eq!(made, [&[0x0a, 18, 0x12, 16, 0x22, 14][..], &own].concat());
    }

    #[test]
    fn parts_lie_inside_each_other() {
        let made = schema(&json!({"type": "object", "properties": {"a": {"$ref": "b"}}, "x-c": [1]})).0;
        // TypeItem, Properties with a named schema, an extension whose value is YAML.
        let mut wanted = vec![0xb2, 1, 8, 0x0a, 6];
        wanted.extend(b"object");
        wanted.extend([0xca, 1, 10, 0x0a, 8, 0x0a, 1, b'a', 0x12, 3, 0x0a, 1, b'b']);
        wanted.extend([0xfa, 1, 12, 0x0a, 3, b'x', b'-', b'c', 0x12, 5, 0x12, 3, b'[', b'1', b']']);
        assert_eq!(made, wanted);
    }
}
