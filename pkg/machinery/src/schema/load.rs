//! Reads the text form of the table.
//!
//! ```text
//! package core/v1 k8s.io/api/core/v1 /v1
//! type Pod kind typemeta
//!   +customValidation
//!   spec 2 PodSpec omitempty optional
//!     +beta(since: "1.37")=+k8s:required
//! ```
//! A field line is name, tag, type and attributes; `=` names an embedded struct. Types: `*T` pointer, `[]T` list,
//! `{}T` map, `wrap[]T` list in a message, a scalar, a struct of the same package or `package.Struct`.

use super::lookup::MAX_FIELDS;
use super::{Builder, Choice, Extra, Field, FieldFlags, ListType, Package, Shape, TypeTable};
use crate::value::Str;

/// The table's text is damaged.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("type table line {line}: {what}: {text}")]
pub struct ParseError {
    line: usize,
    what: &'static str,
    text: String,
}

struct Loader {
    builder: Builder,
    package: &'static str,
    api_versions: Vec<&'static str>,
}

/// The lines of some packages, each with its number, from 0.
fn lines(text: &'static str, package: impl Fn(&str) -> bool) -> impl Iterator<Item = (usize, &'static str)> {
    let mut wanted = true;
    text.lines().enumerate().filter(move |(_, line)| {
        if let Some(rest) = line.strip_prefix("package ") {
            wanted = package(rest.split(' ').next().unwrap_or_default());
        }
        wanted
    })
}

pub(super) fn parse(text: &'static str, package: impl Fn(&str) -> bool) -> Result<TypeTable, ParseError> {
    let mut loader = Loader { builder: Builder::new(), package: "", api_versions: Vec::new() };
    // References go in both directions, so all names come first.
    for (_, line) in lines(text, &package) {
        if let Some(rest) = line.strip_prefix("package ") {
            loader.start_package(rest);
        } else if let Some(rest) = line.strip_prefix("type ") {
            loader.builder.declare(Str::const_new(rest.split(' ').next().unwrap_or_default()));
        }
    }
    let mut lines = lines(text, &package).peekable();
    while let Some((n, line)) = lines.next() {
        let fail = |what, text: &str| ParseError { line: n + 1, what, text: text.to_owned() };
        if let Some(rest) = line.strip_prefix("package ") {
            loader.enter_package(rest);
        } else if let Some(rest) = line.strip_prefix("type ") {
            let mut body = Vec::new();
            while let Some((n, line)) = lines.next_if(|(_, l)| l.starts_with(' ')) {
                body.push((n, line));
            }
            loader.structure(rest, &body).map_err(|(at, what)| {
                let (n, text) = at.unwrap_or((n, line));
                ParseError { line: n + 1, what, text: text.to_owned() }
            })?;
        } else if !line.is_empty() && !line.starts_with('#') {
            return Err(fail("unknown line", line));
        }
    }
    let table = loader.builder.build();
    match table.types().find(|id| table.fields(*id).len().max(table.own_fields(*id).len()) > MAX_FIELDS) {
        Some(id) => {
            Err(ParseError { line: 0, what: "too many fields for one struct", text: table.full_name(id) })
        }
        None => Ok(table),
    }
}

type Fault = (Option<(usize, &'static str)>, &'static str);

impl Loader {
    fn start_package(&mut self, rest: &'static str) {
        let mut words = rest.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let (name, path) = (word(), word());
        let (group, version) = word().rsplit_once('/').unwrap_or_default();
        self.builder.package(Package {
            name: Str::const_new(name),
            path: Str::const_new(path),
            group: Str::const_new(group),
            version: Str::const_new(version),
        });
    }

    fn enter_package(&mut self, rest: &'static str) {
        let mut words = rest.split(' ');
        self.package = words.next().unwrap_or_default();
        self.api_versions = words.skip(1).map(|gv| gv.strip_prefix('/').unwrap_or(gv)).collect();
    }

    fn structure(&mut self, head: &'static str, body: &[(usize, &'static str)]) -> Result<(), Fault> {
        let mut words = head.split(' ');
        let name = words.next().unwrap_or_default();
        let id = self.builder.find(&format!("{}.{name}", self.package)).ok_or((None, "undeclared type"))?;
        let mut fields = Vec::new();
        for word in words {
            match word {
                "kind" => {
                    for gv in &self.api_versions {
                        self.builder.kind(id, Str::const_new(gv));
                    }
                }
                "typemeta" => fields.extend(["kind", "apiVersion"].map(type_meta_field)),
                "choice" => self.builder.type_mut(id).choice = choice(name),
                "structType=atomic" => self.builder.type_mut(id).atomic = true,
                "nonNamespaced" => self.builder.type_mut(id).cluster_scoped = true,
                "union" => self.builder.type_mut(id).union = true,
                _ => return Err((None, "unknown attribute of a type")),
            }
        }
        for (n, line) in body {
            if let Some(rule) = line.strip_prefix("    +") {
                if let Some(f) = fields.last_mut() {
                    by_tag(&mut extra(f).rules, rule);
                }
            } else if let Some(rule) = line.strip_prefix("  +") {
                self.builder.type_mut(id).rules.push(Str::const_new(rule));
            } else {
                fields.push(self.field(line).map_err(|what| (Some((*n, *line)), what))?);
            }
        }
        self.builder.fields(id, fields);
        Ok(())
    }

    fn field(&mut self, line: &'static str) -> Result<Field, &'static str> {
        let (line, default) = match line.split_once(" default=") {
            Some((line, default)) => (line, Some(Str::const_new(default))),
            None => (line, None),
        };
        let mut words = line.trim_start().split(' ');
        let name = words.next().unwrap_or_default();
        let tag = words.next().unwrap_or_default().parse().map_err(|_| "bad tag")?;
        let ty = words.next().ok_or("no type")?;
        let (pointer, ty) = match ty.strip_prefix('*') {
            Some(t) => (true, t),
            None => (false, ty),
        };
        let shape = self.shape(ty)?;
        let inline = name == "=";
        let name = if inline { ty.rsplit('.').next().unwrap_or(ty) } else { name };
        let mut f = Field {
            name: Str::const_new(name),
            tag,
            shape,
            flags: FieldFlags { pointer, inline, ..Default::default() },
            list_type: None,
            extra: None,
        };
        for word in words {
            attribute(&mut f, word)?;
        }
        if default.is_some() {
            extra(&mut f).default = default;
        }
        Ok(f)
    }

    fn shape(&mut self, ty: &'static str) -> Result<Shape, &'static str> {
        let ty = ty.strip_prefix('*').unwrap_or(ty);
        if let Some(inner) = ty.strip_prefix("wrap[]") {
            let inner = self.shape(inner)?;
            return Ok(Shape::Wrapped(self.builder.shape(inner)));
        }
        if let Some(inner) = ty.strip_prefix("[]") {
            let inner = self.shape(inner)?;
            return Ok(Shape::List(self.builder.shape(inner)));
        }
        if let Some(inner) = ty.strip_prefix("{}") {
            let inner = self.shape(inner)?;
            return Ok(Shape::Map(self.builder.shape(inner)));
        }
        Ok(match ty {
            "string" => Shape::String,
            "bool" => Shape::Bool,
            "int32" => Shape::Int32,
            "int64" => Shape::Int64,
            "double" => Shape::Double,
            "bytes" => Shape::Bytes,
            "time" => Shape::Time,
            "microtime" => Shape::MicroTime,
            "duration" => Shape::Duration,
            "quantity" => Shape::Quantity,
            "intorstring" => Shape::IntOrString,
            "raw" => Shape::Raw,
            "any" | "object" => Shape::Any,
            name => {
                let local = self.builder.find(&format!("{}.{name}", self.package));
                Shape::Struct(local.or_else(|| self.builder.find(name)).ok_or("unknown type")?)
            }
        })
    }
}

fn choice(name: &str) -> Option<Choice> {
    match name {
        "JSONSchemaPropsOrArray" => Some(Choice::Array),
        "JSONSchemaPropsOrBool" => Some(Choice::Bool),
        "JSONSchemaPropsOrStringArray" => Some(Choice::StringArray),
        _ => None,
    }
}

fn type_meta_field(name: &'static str) -> Field {
    Field {
        name: Str::const_new(name),
        tag: 0,
        shape: Shape::String,
        flags: FieldFlags { omit_empty: true, optional: true, ..Default::default() },
        list_type: None,
        extra: None,
    }
}

/// Keeps rules in the order in which upstream's generated code applies them: by the outermost tag, those of one tag as
/// declared (`code-generator/cmd/validation-gen/validators/registry.go` `sortTags`).
fn by_tag(rules: &mut Vec<Str>, rule: &'static str) {
    fn tag(rule: &str) -> &str {
        rule.split(['(', '=']).next().unwrap_or_default()
    }
    let at = rules.partition_point(|r| tag(r) <= tag(rule));
    rules.insert(at, Str::const_new(rule));
}

fn extra(f: &mut Field) -> &mut Extra {
    f.extra.get_or_insert_with(Default::default)
}

fn attribute(f: &mut Field, word: &'static str) -> Result<(), &'static str> {
    let list = |text: &'static str, sep| text.split(sep).map(Str::const_new).collect::<Vec<_>>();
    match word.split_once('=') {
        None => match word {
            "omitempty" => f.flags.omit_empty = true,
            "omitzero" => f.flags.omit_zero = true,
            "optional" => f.flags.optional = true,
            "required" => f.flags.required = true,
            "nullable" => f.flags.nullable = true,
            "unionDiscriminator" => f.flags.union_discriminator = true,
            "undocumented" => f.flags.undocumented = true,
            _ => return Err("unknown attribute"),
        },
        Some(("listType", v)) => {
            f.list_type = Some(match v {
                "atomic" => ListType::Atomic,
                "set" => ListType::Set,
                "map" => ListType::Map,
                _ => return Err("unknown list type"),
            });
        }
        Some(("mapType" | "structType", v)) => {
            f.flags.atomic = v == "atomic";
            f.flags.granular = v == "granular";
        }
        Some(("keys", v)) => extra(f).list_keys = list(v, ','),
        Some(("patch", v)) => {
            for strategy in v.split(',') {
                match strategy {
                    "merge" => f.flags.patch_merge = true,
                    "retainKeys" => f.flags.patch_retain_keys = true,
                    "replace" => f.flags.patch_replace = true,
                    _ => return Err("unknown patch strategy"),
                }
            }
        }
        Some(("patchKey", v)) => extra(f).patch_key = Some(Str::const_new(v)),
        // A tilde stands for a space.
        Some(("enum", v)) => {
            extra(f).enum_values = v.split('|').map(|v| v.replace('~', " ").into()).collect()
        }
        Some(("go", v)) => extra(f).go_type = Some(Str::const_new(v)),
        Some(_) => return Err("unknown attribute"),
    }
    Ok(())
}
