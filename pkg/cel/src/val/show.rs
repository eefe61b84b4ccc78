//! Values as Go's `%v` prints them, for error texts.

use super::Val;
use super::convert::{double_text, plain_type};

impl Val<'_> {
    /// The value as upstream's errors show it.
    pub fn display(&self) -> String {
        match self {
            Val::Null => "0".into(),
            Val::Bool(b) => b.to_string(),
            Val::Int(i) => i.to_string(),
            Val::Uint(u) => u.to_string(),
            Val::Double(d) => double_text(*d),
            Val::Str(s) => s.to_string(),
            Val::Bytes(b) => format!("[{}]", join(b.iter().map(u8::to_string), " ")),
            Val::Duration(d) => machinery::time::format_duration(*d),
            Val::Timestamp(t) => {
                let text = t.format(t.offset).replacen('T', " ", 1);
                let zone =
                    if t.offset == 0 { " +0000 UTC".to_owned() } else { format!(" {:+05}", t.offset / 36) };
                format!("{}{zone}", text.trim_end_matches('Z'))
            }
            Val::List(l) => format!("[{}]", join(l.iter().map(shown), ", ")),
            Val::Map(m) => {
                let entries = m.keys().into_iter().map(|k| {
                    let v = m.find(&k).map(shown).unwrap_or_default();
                    format!("{}: {v}", k.display())
                });
                format!("{{{}}}", join(entries, ", "))
            }
            Val::Optional(Some(v)) => format!("optional({})", v.display()),
            Val::Optional(None) => "optional.none()".into(),
            Val::Type(t) => plain_type(t),
            Val::Object(o) => o.text().unwrap_or_else(|| o.type_name().to_owned()),
            Val::Unknown(v) => v.to_string(),
            Val::Made(made) => made.type_name().to_owned(),
        }
    }
}

impl Val<'_> {
    /// The name of upstream's Go type, which a few errors show.
    pub(crate) fn go_type(&self) -> &'static str {
        match self {
            Val::Null => "types.Null",
            Val::Bool(_) => "types.Bool",
            Val::Int(_) => "types.Int",
            Val::Uint(_) => "types.Uint",
            Val::Double(_) => "types.Double",
            Val::Str(_) => "types.String",
            Val::Bytes(_) => "types.Bytes",
            Val::Duration(_) => "types.Duration",
            Val::Timestamp(_) => "types.Timestamp",
            Val::Optional(_) => "*types.Optional",
            Val::Type(_) => "*types.Type",
            Val::Unknown(_) => "*common.unknownPreserved",
            Val::Made(made) if made.is_patch() => "*mutation.JSONPatchVal",
            Val::Made(_) => "*dynamic.ObjectVal",
            Val::List(l) if l.is_typed_tree() => "*common.unstructuredList",
            Val::List(l) if l.is_tree() => "[]interface {}",
            Val::List(_) => "*types.baseList",
            Val::Map(m) if m.is_typed_tree() => "*common.unstructuredMap",
            Val::Map(m) if m.as_tree().is_some() => "map[string]interface {}",
            Val::Map(_) => "*types.baseMap",
            Val::Object(o) => match o.type_name() {
                "kubernetes.Quantity" => "cel.Quantity",
                "kubernetes.URL" => "cel.URL",
                "kubernetes.Semver" => "cel.Semver",
                "kubernetes.NamedFormat" => "cel.Format",
                "net.IP" => "cel.IP",
                "net.CIDR" => "cel.CIDR",
                _ if o.is_message() => "*types.protoObj",
                _ => "ref.Val",
            },
        }
    }
}

fn shown(v: super::Res<'_>) -> String {
    v.map_or_else(|e| e.to_string(), |v| v.display())
}

fn join(items: impl Iterator<Item = String>, with: &str) -> String {
    items.collect::<Vec<_>>().join(with)
}
