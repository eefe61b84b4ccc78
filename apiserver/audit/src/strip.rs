//! Bodies without managed fields, fields otherwise as they stand. Upstream: `audit/request.go` `copyWithoutManagedFields`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The fields of a JSON object in their order.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry::<String, &'de RawValue>()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// Writes an object with some values changed, or left out.
fn rewrite(
    json: &str,
    out: &mut String,
    mut field: impl FnMut(&str, &str, &mut String) -> Option<bool>,
) -> Option<()> {
    let Fields(fields) = serde_json::from_str(json).ok()?;
    out.push('{');
    let mut first = true;
    for (name, value) in fields {
        let mut text = String::new();
        // `None`: as it is; `Some(false)`: not at all.
        let kept = match field(&name, value.get(), &mut text) {
            None => value.get(),
            Some(true) => text.as_str(),
            Some(false) => continue,
        };
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        out.push_str(&serde_json::to_string(&name).ok()?);
        out.push(':');
        out.push_str(kept);
    }
    out.push('}');
    Some(())
}

/// Writes a list with every element changed by `element`; as it is where that fails.
fn rewrite_list(
    json: &str,
    out: &mut String,
    element: impl Fn(&str, &mut String) -> Option<()>,
) -> Option<()> {
    let all: Vec<&RawValue> = serde_json::from_str(json).ok()?;
    out.push('[');
    for (index, value) in all.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        let start = out.len();
        if element(value.get(), out).is_none() {
            out.truncate(start);
            out.push_str(value.get());
        }
    }
    out.push(']');
    Some(())
}

fn object(json: &str, out: &mut String) -> Option<()> {
    rewrite(json, out, |name, value, out| match name {
        "metadata" => {
            rewrite(value, out, |name, _, _| (name == "managedFields").then_some(false)).map(|()| true)
        }
        _ => None,
    })
}

fn row(json: &str, out: &mut String) -> Option<()> {
    rewrite(json, out, |name, value, out| match name {
        "object" => object(value, out).map(|()| true),
        _ => None,
    })
}

/// An object, a list of objects, or a table of them, without managed fields; `None` for what is no JSON object.
pub fn without_managed_fields(json: &str) -> Option<String> {
    let mut out = String::with_capacity(json.len());
    rewrite(json, &mut out, |name, value, out| {
        let written = match name {
            "metadata" => rewrite(value, out, |name, _, _| (name == "managedFields").then_some(false)),
            "items" => rewrite_list(value, out, object),
            "rows" => rewrite_list(value, out, row),
            _ => None,
        };
        written.map(|()| true)
    })?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        let check = |json: &str, want: Option<&str>| {
            assert_eq!(without_managed_fields(json).as_deref(), want, "{json}");
        };
        let full = r#"{"kind":"X","metadata":{"name":"\u003c","managedFields":[{}],"a":1},"data":{"managedFields":1}}"#;
        let bare = r#"{"kind":"X","metadata":{"name":"\u003c","a":1},"data":{"managedFields":1}}"#;
        check(full, Some(bare));
        check(
            &format!(r#"{{"metadata":{{}},"items":[{full},null]}}"#),
            Some(&format!(r#"{{"metadata":{{}},"items":[{bare},null]}}"#)),
        );
        check(
            &format!(r#"{{"rows":[{{"cells":[1],"object":{full}}}]}}"#),
            Some(&format!(r#"{{"rows":[{{"cells":[1],"object":{bare}}}]}}"#)),
        );
        check(r#"{"items":null,"metadata":"x"}"#, Some(r#"{"items":null,"metadata":"x"}"#));
        check("[]", None);
    }
}
