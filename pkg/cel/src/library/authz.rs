//! Asking an authorizer from within an expression (upstream's pkg/cel/library/authz.go).

use super::{object, text};
use crate::decls::short::*;
use crate::eval::{EvalError, Res};
use crate::val::{Object, Val};
use machinery::content;
use std::any::Any;
use std::fmt;
use std::sync::Arc;

const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
const PATH_CHECK: &str = "kubernetes.authorization.PathCheck";
const GROUP_CHECK: &str = "kubernetes.authorization.GroupCheck";
const RESOURCE_CHECK: &str = "kubernetes.authorization.ResourceCheck";
const DECISION: &str = "kubernetes.authorization.Decision";

/// The type of the variable `authorizer`.
pub fn authorizer_type() -> Type {
    Type::object(AUTHORIZER)
}

/// The type of the variable `authorizer.requestResource`.
pub fn resource_check_type() -> Type {
    Type::object(RESOURCE_CHECK)
}

/// Whose permission is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The user of the request.
    Requester,
    ServiceAccount {
        namespace: std::string::String,
        name: std::string::String,
    },
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    Path { path: std::string::String },
    Resource(ResourceQuery),
}

/// A question about a resource; empty fields mean any, as in a SubjectAccessReview.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceQuery {
    pub group: std::string::String,
    pub resource: std::string::String,
    pub subresource: std::string::String,
    pub namespace: std::string::String,
    pub name: std::string::String,
    pub field_selector: std::string::String,
    pub label_selector: std::string::String,
}

/// The authorizer's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: std::string::String,
    pub error: Option<std::string::String>,
}

/// Answers questions on behalf of the request being looked at.
pub trait Authorizer: Send + Sync {
    fn authorize(&self, subject: &Subject, query: &Query, verb: &str) -> Decision;
}

#[derive(Clone)]
struct Asker {
    authorizer: Arc<dyn Authorizer>,
    subject: Subject,
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorizer({:?})", self.subject)
    }
}

/// The value of the variable `authorizer`.
pub fn authorizer<'a>(authorizer: Arc<dyn Authorizer>) -> Val<'a> {
    Val::object(Step::Authorizer(Asker { authorizer, subject: Subject::Requester }))
}

/// The value of the variable `authorizer.requestResource`.
pub fn request_resource<'a>(authorizer: Arc<dyn Authorizer>, query: ResourceQuery) -> Val<'a> {
    Val::object(Step::Resource(Asker { authorizer, subject: Subject::Requester }, query))
}

/// A question on its way to being asked, and its answer.
#[derive(Clone, Debug)]
enum Step {
    Authorizer(Asker),
    Path(Asker, std::string::String),
    Group(Asker, std::string::String),
    Resource(Asker, ResourceQuery),
    Decision(Decision),
}

impl Object for Step {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn type_name(&self) -> &str {
        match self {
            Step::Authorizer(_) => AUTHORIZER,
            Step::Path(..) => PATH_CHECK,
            Step::Group(..) => GROUP_CHECK,
            Step::Resource(..) => RESOURCE_CHECK,
            Step::Decision(_) => DECISION,
        }
    }

    /// Upstream's values never find each other to be of the same type.
    fn equals(&self, _: &dyn Object) -> Option<bool> {
        None
    }
}

fn step<'v>(args: &'v [Val<'_>]) -> Result<&'v Step, EvalError> {
    object(args, 0)
}

fn wrong<'a>() -> Res<'a> {
    Err(crate::val::ops::no_overload())
}

fn path<'a>(args: &[Val<'a>]) -> Res<'a> {
    let (Step::Authorizer(asker), path) = (step(args)?, text(args, 1)?) else { return wrong() };
    if path.trim().is_empty() {
        return Err(EvalError::new("path must not be empty"));
    }
    Ok(Val::object(Step::Path(asker.clone(), path.to_owned())))
}

fn group<'a>(args: &[Val<'a>]) -> Res<'a> {
    let (Step::Authorizer(asker), group) = (step(args)?, text(args, 1)?) else { return wrong() };
    Ok(Val::object(Step::Group(asker.clone(), group.to_owned())))
}

fn service_account<'a>(args: &[Val<'a>]) -> Res<'a> {
    let Step::Authorizer(asker) = step(args)? else { return wrong() };
    let (namespace, name) = (text(args, 1)?, text(args, 2)?);
    if !content::dns_subdomain(name).is_empty() {
        return Err(EvalError::new("Invalid service account name"));
    }
    if !content::dns_label(namespace).is_empty() {
        return Err(EvalError::new("Invalid service account namespace"));
    }
    let subject = Subject::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() };
    Ok(Val::object(Step::Authorizer(Asker { subject, ..asker.clone() })))
}

fn resource<'a>(args: &[Val<'a>]) -> Res<'a> {
    let (Step::Group(asker, group), resource) = (step(args)?, text(args, 1)?) else { return wrong() };
    if resource.trim().is_empty() {
        return Err(EvalError::new("resource must not be empty"));
    }
    let query =
        ResourceQuery { group: group.clone(), resource: resource.to_owned(), ..ResourceQuery::default() };
    Ok(Val::object(Step::Resource(asker.clone(), query)))
}

fn narrowed<'a>(args: &[Val<'a>], field: fn(&mut ResourceQuery) -> &mut std::string::String) -> Res<'a> {
    let Step::Resource(asker, query) = step(args)? else { return wrong() };
    let mut query = query.clone();
    *field(&mut query) = text(args, 1)?.to_owned();
    Ok(Val::object(Step::Resource(asker.clone(), query)))
}

fn check<'a>(args: &[Val<'a>]) -> Res<'a> {
    let verb = text(args, 1)?;
    let (asker, query) = match step(args)? {
        Step::Path(asker, path) => (asker, Query::Path { path: path.clone() }),
        Step::Resource(asker, query) => (asker, Query::Resource(query.clone())),
        _ => return wrong(),
    };
    Ok(Val::object(Step::Decision(asker.authorizer.authorize(&asker.subject, &query, verb))))
}

fn decision<'v>(args: &'v [Val<'_>]) -> Result<&'v Decision, EvalError> {
    match step(args)? {
        Step::Decision(decision) => Ok(decision),
        _ => Err(crate::val::ops::no_overload()),
    }
}

pub(crate) fn functions() -> Vec<Function> {
    let (auth, res) = (authorizer_type, resource_check_type);
    let (path_t, group_t, done) =
        (|| Type::object(PATH_CHECK), || Type::object(GROUP_CHECK), || Type::object(DECISION));
    vec![
        func("path").member("authorizer_path", vec![auth(), String], path_t()).code(path),
        func("group").member("authorizer_group", vec![auth(), String], group_t()).code(group),
        func("serviceAccount")
            .member("authorizer_serviceaccount", vec![auth(), String, String], auth())
            .code(service_account),
        func("resource").member("groupcheck_resource", vec![group_t(), String], res()).code(resource),
        func("subresource")
            .member("resourcecheck_subresource", vec![res(), String], res())
            .code(|args| narrowed(args, |q| &mut q.subresource)),
        func("namespace")
            .member("resourcecheck_namespace", vec![res(), String], res())
            .code(|args| narrowed(args, |q| &mut q.namespace)),
        func("name")
            .member("resourcecheck_name", vec![res(), String], res())
            .code(|args| narrowed(args, |q| &mut q.name)),
        func("check")
            .member("pathcheck_check", vec![path_t(), String], done())
            .code(check)
            .member("resourcecheck_check", vec![res(), String], done())
            .code(check),
        func("errored")
            .member("decision_errored", vec![done()], Bool)
            .code(|args| Ok(Val::Bool(decision(args)?.error.is_some()))),
        func("error")
            .member("decision_error", vec![done()], String)
            .code(|args| Ok(Val::str(decision(args)?.error.clone().unwrap_or_default()))),
        func("allowed")
            .member("decision_allowed", vec![done()], Bool)
            .code(|args| Ok(Val::Bool(decision(args)?.allowed))),
        func("reason")
            .member("decision_reason", vec![done()], String)
            .code(|args| Ok(Val::str(decision(args)?.reason.as_str()))),
    ]
}

/// Selectors narrow a question since 1.31.
pub(crate) fn selectors() -> Vec<Function> {
    let res = resource_check_type;
    vec![
        func("fieldSelector")
            .member("authorizer_fieldselector", vec![res(), String], res())
            .code(|args| narrowed(args, |q| &mut q.field_selector)),
        func("labelSelector")
            .member("authorizer_labelselector", vec![res(), String], res())
            .code(|args| narrowed(args, |q| &mut q.label_selector)),
    ]
}
