//! Environments: which functions, macros and variables an expression may use.

use crate::check;
use crate::decl_type::DeclType;
use crate::decls::Function;
use crate::environment::{Base, Features, Version};
use crate::eval::plan;
use crate::library;
use crate::parser;
use crate::program::Program;
use crate::source::{Issues, Reporter};
use crate::types::Type;
use crate::val::made;
use crate::validate;
use crate::well_known;
use machinery::Str;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// The longest expression, in code points.
const MAX_SOURCE: usize = 100_000;

/// An environment. Cheap to clone and shared between threads.
#[derive(Clone)]
pub struct Env(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    base: Arc<Base>,
    /// Functions added to the base.
    extra: HashMap<&'static str, Function>,
    macros: Vec<parser::macros::Macro>,
    variables: HashMap<Str, Type>,
    structs: HashMap<Str, HashMap<Str, Type>>,
    /// Whether there are declared types.
    declared: bool,
    /// Whether objects for patches can be made.
    patch_types: bool,
}

/// Why an expression has no program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileError {
    /// Its text is wrong: syntax, names, types.
    Issues(Box<Issues>),
    /// It is well-formed, but a constant in it can never work (`int("x")`, a broken pattern).
    Program(String),
}

/// As the errors of fields say it. Upstream: apiserver/pkg/cel/environment, authentication/cel and admission/plugin/cel.
impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompileError::Issues(issues) => write!(f, "compilation failed: {issues}"),
            CompileError::Program(message) => write!(f, "program instantiation failed: {message}"),
        }
    }
}

impl std::error::Error for CompileError {}

impl From<Box<Issues>> for CompileError {
    fn from(issues: Box<Issues>) -> Self {
        CompileError::Issues(issues)
    }
}

/// Libraries outside the base environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// `cel.bind`: device selectors.
    Bindings,
    /// `jsonpatch.escapeKey`: mutating admission policies.
    JsonPatch,
    /// `list.includes` alone, where the base is older than it.
    Includes,
}

/// Puts an environment together.
#[derive(Clone)]
pub struct EnvBuilder(Inner);

impl Env {
    /// The base environment of a version, to be extended.
    pub fn builder(version: Version) -> EnvBuilder {
        EnvBuilder(Inner {
            base: Base::of(version),
            extra: HashMap::new(),
            macros: Vec::new(),
            variables: HashMap::new(),
            structs: HashMap::new(),
            declared: false,
            patch_types: false,
        })
    }

    /// The same environment, to be extended further.
    pub fn extend(&self) -> EnvBuilder {
        EnvBuilder((*self.0).clone())
    }

    pub(crate) fn features(&self) -> &Features {
        &self.0.base.features
    }

    pub(crate) fn function(&self, name: &str) -> Option<&Function> {
        self.0.extra.get(name).or_else(|| self.0.base.functions.get(name))
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&Type> {
        self.0.variables.get(name)
    }

    /// Whether a name is found where objects are made; types that nothing makes are only refused then.
    pub(crate) fn has_struct(&self, name: &str) -> bool {
        self.makes(name)
            || self.0.structs.contains_key(name)
            || self.is_scalar(name)
            || well_known::type_named(name).is_some()
    }

    /// Whether the name is one of those that whatever knows declared types knows too (Kubernetes' pkg/cel/types.go
    /// `findScalar`).
    fn is_scalar(&self, name: &str) -> bool {
        let scalars = [
            "bool",
            "bytes",
            "double",
            "duration",
            "int",
            "list",
            "map",
            "null_type",
            "string",
            "timestamp",
            "uint",
        ];
        self.0.declared && scalars.contains(&name)
    }

    /// Whether expressions can make objects of this name.
    pub(crate) fn makes(&self, name: &str) -> bool {
        self.0.patch_types && made::is_known(name)
    }

    pub(crate) fn field_type(&self, name: &str, field: &str) -> Option<Type> {
        if self.makes(name) {
            return Some(made::field_type(name, field));
        }
        let Some(fields) = self.0.structs.get(name) else {
            // A declared map has every field.
            let dynamic = name == "map" && self.is_scalar(name);
            return if dynamic { Some(Type::Dyn) } else { well_known::field_type(name, field) };
        };
        let found = fields.get(field).or_else(|| {
            let reserved = self.features().keyword_fields && crate::escape::RESERVED.contains(&field);
            reserved.then(|| fields.get(format!("__{field}__").as_str()))?
        });
        found.cloned()
    }

    /// A type by the name that stands for it in expressions.
    pub(crate) fn type_named(&self, name: &str) -> Option<Type> {
        if self.0.structs.contains_key(name) || self.makes(name) {
            return Some(Type::object(name));
        }
        let scalar = || match name {
            "duration" if self.is_scalar(name) => Some(Type::Duration),
            "timestamp" if self.is_scalar(name) => Some(Type::Timestamp),
            _ => None,
        };
        let named = library::types::named(name, self.features());
        named.or_else(|| well_known::type_named(name)).or_else(scalar)
    }

    /// Whether a type's name stands for a value too.
    pub(crate) fn is_value_type(&self, name: &str) -> bool {
        library::types::named(name, self.features()).is_some() || well_known::is_value_type(name)
    }

    pub(crate) fn is_disabled(&self, overload: &str) -> bool {
        !self.features().cross_type && library::operators::is_cross_type(overload)
    }

    /// Parses, checks and plans an expression. With `expected`, its type must be that one.
    pub fn compile(&self, source: &str, expected: Option<&Type>) -> Result<Program, CompileError> {
        let length = if source.len() > MAX_SOURCE { source.chars().count() } else { source.len() };
        if length > MAX_SOURCE {
            let message =
                format!("expression code point size exceeds limit: size: {length}, limit {MAX_SOURCE}");
            return Err(Issues::plain(message).into());
        }
        let mut errors = Reporter::default();
        let mut macros: Vec<_> = self.0.base.macros.clone();
        macros.extend_from_slice(&self.0.macros);
        let options = parser::Options { macros: &macros, optional_syntax: self.features().optionals };
        let mut ast = parser::parse(source, &options, &mut errors);
        errors.finish(source)?;
        let mut errors = Reporter::default();
        let checked = check::check(&mut ast, self, &mut errors);
        errors.finish(source)?;
        let mut errors = Reporter::default();
        let patterns = validate::validate(&ast, &checked, self, &mut errors);
        errors.finish(source)?;
        let output = checked.type_of(ast.root.id).clone();
        if let Some(expected) = expected
            && !expected.same(&output)
            && *expected != Type::Dyn
        {
            return Err(Issues::plain(format!("must evaluate to {expected}")).into());
        }
        let plan = plan::plan(&ast.root, &checked, self, &patterns).map_err(CompileError::Program)?;
        Ok(Program::new(plan, ast.root, checked, output))
    }
}

impl EnvBuilder {
    pub fn variable(mut self, name: &str, t: Type) -> Self {
        self.0.variables.insert(name.into(), t);
        self
    }

    /// Makes the objects within a declared type known by name.
    pub fn types(mut self, t: &DeclType) -> Self {
        t.objects(&mut self.0.structs);
        self.0.declared = true;
        self
    }

    /// What mutating admission policies patch with: `Object{...}`, `Object.spec{...}`, `JSONPatch{...}`, whose values
    /// [`crate::Made`] reads, and `jsonpatch.escapeKey` (upstream's `hasPatchTypes`).
    pub fn patch_types(mut self) -> Self {
        self.0.patch_types = true;
        self.library(Library::JsonPatch)
    }

    /// A variable of a declared type, its objects included.
    pub fn declare(self, name: &str, t: &DeclType) -> Self {
        self.types(t).variable(name, t.cel_type().clone())
    }

    pub fn library(mut self, library: Library) -> Self {
        if library == Library::Bindings {
            self.0.macros.extend_from_slice(parser::macros::BIND);
        }
        for function in library::extra(library) {
            let known = self.0.extra.get(function.name).or_else(|| self.0.base.functions.get(function.name));
            let merged = match known.cloned() {
                Some(mut known) => {
                    known.merge(function);
                    known
                }
                None => function,
            };
            self.0.extra.insert(merged.name, merged);
        }
        self
    }

    pub fn build(self) -> Env {
        Env(Arc::new(self.0))
    }
}
