//! Values as the oracle prints them (cel-go common/types/format.go).

use cel::{QuantityVal, Semver, Val};
use machinery::golang::quote;

fn double(d: f64) -> String {
    if d.is_nan() {
        return "double(\"NaN\")".into();
    }
    if d.is_infinite() {
        return format!("double(\"{}Infinity\")", if d < 0.0 { "-" } else { "" });
    }
    let text = format!("{d}");
    if text.contains('.') { text } else { format!("{text}.0") }
}

pub fn show(v: &Val<'_>) -> String {
    match v {
        Val::Null => "null".into(),
        Val::Bool(b) => b.to_string(),
        Val::Int(i) => i.to_string(),
        Val::Uint(u) => format!("{u}u"),
        Val::Double(d) => double(*d),
        Val::Str(s) => quote(s),
        Val::Bytes(b) => format!("b\"{}\"", b.iter().map(|b| format!("\\{b:03o}")).collect::<String>()),
        Val::Duration(d) => {
            let seconds = (d / 1_000_000_000) as f64 + (d % 1_000_000_000) as f64 / 1e9;
            format!("duration(\"{seconds}s\")")
        }
        Val::Timestamp(t) => {
            let utc = Val::Timestamp(cel::Timestamp { offset: 0, ..*t }).display();
            format!("timestamp(\"{}\")", utc.replacen(' ', "T", 1).replace(" +0000 UTC", "Z"))
        }
        Val::List(l) => {
            let items: Vec<String> =
                l.iter().map(|v| v.map_or_else(|e| e.to_string(), |v| show(&v))).collect();
            format!("[{}]", items.join(", "))
        }
        Val::Map(m) => {
            let entries: Vec<(String, String)> = m
                .keys()
                .into_iter()
                .map(|k| {
                    let v = m
                        .find(&k)
                        .map_or_else(String::new, |v| v.map_or_else(|e| e.to_string(), |v| show(&v)));
                    (show(&k), v)
                })
                .collect();
            let mut entries: Vec<String> = entries.into_iter().map(|(k, v)| format!("{k}: {v}")).collect();
            entries.sort();
            format!("{{{}}}", entries.join(", "))
        }
        Val::Optional(Some(v)) => format!("optional.of({})", show(v)),
        Val::Optional(None) => "optional.none()".into(),
        Val::Type(t) => t.runtime_name().to_owned(),
        Val::Object(o) if o.is_message() => {
            let fields: Vec<_> = o.fields().iter().map(|(name, v)| format!("{name}: {}", show(v))).collect();
            format!("{}{{{}}}", o.type_name(), fields.join(", "))
        }
        Val::Object(o) => match (v.as_object::<QuantityVal>(), v.as_object::<Semver>()) {
            (Some(q), _) => format!("quantity {}", q.0),
            (_, Some(s)) => format!("semver {s}"),
            _ if o.type_name() == "kubernetes.NamedFormat" => {
                let shown = format!("{o:?}");
                let name = shown.split(" name: \"").nth(1).and_then(|rest| rest.split('"').next());
                format!("format {}", name.unwrap_or(&shown))
            }
            _ => {
                let kind = o.type_name().rsplit('.').next().unwrap_or_default().to_lowercase();
                format!("{kind} {}", o.native_text().unwrap_or_default())
            }
        },
        Val::Made(made) if made.type_name() == cel::JSON_PATCH => {
            let [op, path, from] = ["op", "path", "from"].map(|f| quote(made.text(f)));
            let value = made.get("value").map(|v| format!(" {}", show(v))).unwrap_or_default();
            format!("JSONPatch {op} {path} {from}{value}")
        }
        Val::Made(made) => format!("{} {}", made.type_name(), patch_json(v)),
        other => other.display(),
    }
}

/// What a JSON Patch makes of a value, its operation's or itself.
pub fn patch_json(v: &Val<'_>) -> String {
    let value = match v.as_made().filter(|made| made.type_name() == cel::JSON_PATCH) {
        Some(patch) => match patch.get("value") {
            Some(value) => value,
            None => return String::new(),
        },
        None => v,
    };
    value.to_json().map_or_else(|e| format!("error: {e}"), |v| v.to_string())
}
