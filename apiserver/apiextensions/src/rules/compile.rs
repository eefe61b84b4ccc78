//! Compiles the rules of one schema. Upstream: `schema/cel/compilation.go`.

use std::hash::{BuildHasher, Hasher};

use cel::{CompileError, DeclType, Env, Program, Range, Sizes, Type, Version};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;
use machinery::Str;

use super::{Declared, MAX_REQUEST, Notation, resolve};
use crate::schema::text;

pub(super) const SELF: &str = "self";
pub(super) const OLD: &str = "oldSelf";

/// What became of one rule.
#[derive(Clone, Debug)]
pub enum Compiled {
    /// There is nothing in it.
    Empty,
    /// Why it is no use.
    Failed(String),
    /// It can be evaluated.
    Ready(Box<Ready>),
}

/// A rule that can be evaluated.
#[derive(Clone, Debug)]
pub struct Ready {
    /// The rule.
    pub program: Program,
    /// Whether it looks at the value that is replaced.
    pub uses_old: bool,
    /// The most one evaluation costs.
    pub max_cost: u64,
    /// Its message expression, or why that is no use.
    pub message: Option<Result<Message, String>>,
    /// Where its error belongs, below the value.
    pub field_path: Option<String>,
}

/// A message expression.
#[derive(Clone, Debug)]
pub struct Message {
    /// The expression.
    pub program: Program,
    /// The most one evaluation costs.
    pub max_cost: u64,
}

/// The rules of a schema, compiled.
#[derive(Clone, Debug)]
pub struct CompiledRules {
    /// One for each rule, in order.
    pub rules: Vec<Compiled>,
    /// How often the value can occur in a request, where nothing limits that.
    pub max_cardinality: u64,
}

/// Whether an expression is a rule or a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It decides.
    Rule,
    /// It says why.
    Message,
}

/// Sizes of `self` and what it takes the place of; both are of one type.
struct SelfSizes<'a>(&'a DeclType);

impl Sizes for SelfSizes<'_> {
    fn size(&self, path: &[Str], _t: &Type) -> Option<Range> {
        let (_, rest) = path.split_first()?;
        let mut at = self.0;
        for name in rest {
            at = match name.as_str() {
                "@items" | "@values" => at.element()?,
                "@keys" => at.key()?,
                name => at.field(name)?,
            };
        }
        Some(Range::new(0, u64::try_from(at.max_elements).unwrap_or(0)))
    }
}

struct Compiler<'a> {
    decl: DeclType,
    declared: &'a Declared<'a>,
    environment: &'a dyn Fn(&str, Role) -> Version,
}

/// Compiles the rules of a schema, but not of those within it. `environment` says which language an expression may
/// use.
///
/// # Errors
/// When the schema declares no type.
pub fn compile(
    declared: &Declared<'_>,
    environment: &dyn Fn(&str, Role) -> Version,
) -> Result<CompiledRules, String> {
    if declared.schema.validations.is_empty() {
        return Ok(CompiledRules { rules: Vec::new(), max_cardinality: 0 });
    }
    let decl = declared.decl.clone().ok_or("failed to convert to declType for CEL validation rules")?;
    let smallest = u64::try_from(decl.min_serialized_size()).unwrap_or(0);
    let compiler = Compiler { decl: decl.named(&type_name()), declared, environment };
    let rules = declared.schema.validations.iter().map(|rule| compiler.rule(rule)).collect();
    Ok(CompiledRules { rules, max_cardinality: MAX_REQUEST / (smallest + 1) })
}

/// A name for the type of `self` that nobody can come to rely on.
fn type_name() -> String {
    let random = std::hash::RandomState::new().build_hasher().finish();
    format!("selfType{}", random % 1_000_000_000)
}

impl Compiler<'_> {
    fn env(&self, rule: &ValidationRule, source: &str, role: Role) -> Env {
        let own = self.decl.cel_type().clone();
        let old = if rule.optional_old_self == Some(true) { Type::optional(own) } else { own };
        let version = (self.environment)(source, role);
        Env::builder(version).declare(SELF, &self.decl).variable(OLD, old).build()
    }

    fn rule(&self, rule: &ValidationRule) -> Compiled {
        if rule.rule.trim().is_empty() {
            return Compiled::Empty;
        }
        match self.ready(rule) {
            Ok(ready) => Compiled::Ready(Box::new(ready)),
            Err(why) => Compiled::Failed(why),
        }
    }

    fn ready(&self, rule: &ValidationRule) -> Result<Ready, String> {
        let program =
            self.env(rule, &rule.rule, Role::Rule).compile(&rule.rule, None).map_err(|e| e.to_string())?;
        if *program.output_type() != Type::Bool {
            return Err("cel expression must evaluate to a bool".into());
        }
        let path = text(&rule.field_path);
        let resolved = (!path.is_empty()).then(|| resolve(path, self.declared.schema, Notation::Brackets));
        Ok(Ready {
            uses_old: program.mentions(OLD),
            max_cost: program.cost_estimate(&SelfSizes(&self.decl)).max,
            message: self.message(rule),
            field_path: resolved.and_then(Result::ok).map(|found| found.path),
            program,
        })
    }

    fn message(&self, rule: &ValidationRule) -> Option<Result<Message, String>> {
        let source = rule.message_expression.as_deref().filter(|s| !s.is_empty())?;
        let compiled = self.env(rule, source, Role::Message).compile(source, None);
        Some(match compiled {
            Err(CompileError::Issues(issues)) => {
                Err(format!("messageExpression compilation failed: {issues}"))
            }
            Err(CompileError::Program(why)) => Err(format!("messageExpression instantiation failed: {why}")),
            Ok(program) if *program.output_type() != Type::String => {
                Err("messageExpression must evaluate to a string".into())
            }
            Ok(program) => {
                let max_cost = program.cost_estimate(&SelfSizes(&self.decl)).max;
                Ok(Message { program, max_cost })
            }
        })
    }
}
