//! What can be wrong with a document, in upstream's words.

use crate::golang::quote;
use crate::schema::{TypeId, TypeTable};
use crate::value::{MapBuilder, Str};
use std::cell::RefCell;
use std::collections::HashSet;

/// Strict errors kept per document, as upstream.
const MAX_STRICT: usize = 100;

/// Why a document could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Malformed JSON, or a value that does not fit its field. The text is Go's.
    #[error("{0}")]
    Invalid(String),
    #[error("couldn't get version/kind; json parse error: {0}")]
    TypeMeta(String),
    #[error("unexpected GroupVersion string: {0}")]
    GroupVersion(String),
    #[error("Object 'Kind' is missing in '{0}'")]
    MissingKind(String),
    #[error("Object 'apiVersion' is missing in '{0}'")]
    MissingVersion(String),
    /// The name of the scheme is the one kube-apiserver prints.
    #[error(
        "no kind {} is registered for version {} in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
        quote(kind),
        quote(version)
    )]
    Unknown { kind: String, version: String },
}

/// Reading must stop: either the text is broken (to be explained by the scanner) or a value's own reader failed.
pub(super) enum Abort {
    Syntax,
    Depth,
    Failed(String),
}

/// Where in the document the reader is; a list through its stack frames.
#[derive(Clone, Copy)]
pub(super) enum Path<'p> {
    Root,
    /// A struct's field: JSON name and the struct it was found in.
    Field(&'p Path<'p>, &'p str, TypeId),
    Key(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl Path<'_> {
    fn parent(&self) -> Option<&Path<'_>> {
        match self {
            Path::Root => None,
            Path::Field(p, ..) | Path::Key(p, _) | Path::Index(p, _) => Some(p),
        }
    }

    /// `spec.containers[0].name`: the path of strict errors.
    fn strict(&self, leaf: &str) -> String {
        let mut steps = Vec::new();
        let mut at = Some(self);
        while let Some(p) = at {
            steps.push(p);
            at = p.parent();
        }
        let mut out = String::new();
        let mut started = false;
        let mut key = |out: &mut String, k: &str| {
            if std::mem::replace(&mut started, true) {
                out.push('.');
            }
            out.push_str(k);
        };
        for p in steps.iter().rev() {
            match p {
                Path::Root => {}
                Path::Field(_, name, _) | Path::Key(_, name) => key(&mut out, name),
                Path::Index(_, i) => out.push_str(&format!("[{i}]")),
            }
        }
        let rooted = steps.len() > 1;
        if rooted {
            out.push('.');
        }
        out.push_str(leaf);
        out
    }

    /// Innermost struct and the names of the fields on the way: the context of type errors.
    fn fields(&self, table: &TypeTable) -> Option<(String, Vec<String>)> {
        let mut names = Vec::new();
        let mut innermost = None;
        let mut at = Some(self);
        while let Some(p) = at {
            if let Path::Field(_, name, id) = p {
                innermost.get_or_insert(*id);
                names.push((*name).to_owned());
                names.extend(embedded(table, *id, name).into_iter().rev());
            }
            at = p.parent();
        }
        names.reverse();
        Some((table.get(innermost?).name.to_string(), names))
    }
}

/// Go's names of the embedded structs through which a field is reached.
fn embedded(table: &TypeTable, id: TypeId, name: &str) -> Vec<String> {
    let own = table.own_fields(id);
    // TypeMeta is embedded in Go; the table has its two fields in place.
    if let [kind, version, ..] = own
        && (kind.name.as_str(), version.name.as_str()) == ("kind", "apiVersion")
        && matches!(name, "kind" | "apiVersion")
        && kind.tag == 0
    {
        return vec!["TypeMeta".to_owned()];
    }
    if own.iter().any(|f| !f.flags.inline && f.name == name) {
        return Vec::new();
    }
    for f in own.iter().filter(|f| f.flags.inline) {
        if let crate::schema::Shape::Struct(inner) = f.shape
            && table.field(inner, name).is_some()
        {
            let mut out = vec![f.name.to_string()];
            out.extend(embedded(table, inner, name));
            return out;
        }
    }
    Vec::new()
}

/// A type error as Go words it, its place included.
pub(super) fn type_error(table: &TypeTable, path: &Path<'_>, found: &str, wanted: &str) -> String {
    match path.fields(table) {
        Some((name, fields)) => {
            let fields = fields.join(".");
            format!("json: cannot unmarshal {found} into Go struct field {name}.{fields} of type {wanted}")
        }
        None => format!("json: cannot unmarshal {found} into Go value of type {wanted}"),
    }
}

/// Tells repeated keys of a map. While keys come in ascending order, as writers put them, nothing is kept.
pub(super) struct Keys {
    /// Entries of the builder that an earlier occurrence of the map left there.
    base: usize,
    seen: HashSet<Str>,
}

impl Keys {
    pub fn new(base: usize) -> Self {
        Self { base, seen: HashSet::new() }
    }

    /// Whether the key, about to be pushed, is new.
    pub fn is_new(&mut self, map: &MapBuilder, key: &Str) -> bool {
        if self.seen.is_empty() {
            let mut keys = map.keys().skip(self.base);
            if keys.len() == 0 || keys.next_back().is_some_and(|last| last < key) {
                return true;
            }
            self.seen.extend(map.keys().skip(self.base).cloned());
        }
        self.seen.insert(key.clone())
    }
}

/// Collects unknown and duplicate fields.
pub(super) struct Strict {
    on: bool,
    found: RefCell<(Vec<String>, HashSet<String>)>,
}

impl Strict {
    pub fn new(on: bool) -> Self {
        Self { on, found: RefCell::default() }
    }

    pub fn on(&self) -> bool {
        self.on
    }

    fn add(&self, kind: &str, path: &Path<'_>, leaf: &str) {
        if !self.on || self.found.borrow().0.len() >= MAX_STRICT {
            return;
        }
        let text = format!("{kind} {}", quote(&path.strict(leaf)));
        let (list, seen) = &mut *self.found.borrow_mut();
        if seen.insert(text.clone()) {
            list.push(text);
        }
    }

    pub fn unknown(&self, path: &Path<'_>, name: &str) {
        self.add("unknown field", path, name);
    }

    pub fn duplicate(&self, path: &Path<'_>, name: &str) {
        self.add("duplicate field", path, name);
    }

    pub fn finish(self) -> Vec<String> {
        self.found.into_inner().0
    }
}
