//! Admission policies: expressions in the API that change or refuse writes.
//! Upstream: `k8s.io/apiserver/pkg/admission/plugin/policy`.
//!
//! [`Policies`] holds the policies of a kind and their bindings, compiled; followers of the store keep it up to date.
//! [`common`] reads what policies of both kinds have, [`params`] finds what a binding passes to its policy,
//! [`invocations`] which bindings apply to a request. The kinds: [`validating`],
//! [`mutating`].

mod common;
pub mod mutating;
mod params;
pub mod validating;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::api::validation::admissionregistration::EXCLUDED;
use machinery::Value;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::Attributes;
use super::matching::Matched;
use super::webhook::READY;
use crate::errors::ApiError;
use common::{Binding, Common};

/// A policy of one kind, compiled.
pub trait Definition: Send + Sync + 'static {
    /// Compiles a policy.
    fn read(policy: &Value) -> Self;

    /// What policies of both kinds have.
    fn common(&self) -> &Common;
}

/// A policy with its bindings.
pub struct Bound<D> {
    definition: Arc<D>,
    bindings: Vec<Arc<Binding>>,
}

struct Known<D> {
    definitions: Option<BTreeMap<String, Arc<D>>>,
    bindings: Option<Vec<Arc<Binding>>>,
}

/// All policies of a kind. Until they are followed there are none: parts of the server that run without followers.
pub struct Policies<D> {
    known: Mutex<Known<D>>,
    bound: RwLock<Arc<Vec<Bound<D>>>>,
    followed: AtomicBool,
    complete: watch::Sender<bool>,
}

impl<D> Default for Policies<D> {
    fn default() -> Self {
        Policies {
            known: Mutex::new(Known { definitions: None, bindings: None }),
            bound: RwLock::default(),
            followed: AtomicBool::new(false),
            complete: watch::Sender::new(false),
        }
    }
}

impl<D: Definition> Policies<D> {
    /// From now on requests wait for policies and bindings.
    pub fn follow(&self) {
        self.followed.store(true, Ordering::Release);
    }

    /// Replaces all policies; what did not change is not compiled again.
    pub fn set_policies<'a>(&self, policies: impl Iterator<Item = &'a Value>) {
        let mut known = self.known.lock();
        let before = known.definitions.take().unwrap_or_default();
        let definitions = policies.map(|p| {
            let same = before.get(crate::meta::name(p)).filter(|d| d.common().is_of(p)).cloned();
            let definition = same.unwrap_or_else(|| Arc::new(D::read(p)));
            (definition.common().name.clone(), definition)
        });
        known.definitions = Some(definitions.collect());
        self.bind(&known);
    }

    /// Replaces all bindings.
    pub fn set_bindings<'a>(&self, bindings: impl Iterator<Item = &'a Value>) {
        let mut known = self.known.lock();
        known.bindings = Some(bindings.map(|b| Arc::new(Binding::read(b))).collect());
        self.bind(&known);
    }

    fn bind(&self, known: &Known<D>) {
        let (Some(definitions), Some(bindings)) = (&known.definitions, &known.bindings) else { return };
        let bound = definitions.values().map(|definition| Bound {
            definition: definition.clone(),
            bindings: bindings.iter().filter(|b| b.policy == definition.common().name).cloned().collect(),
        });
        // A policy without bindings does nothing.
        let bound: Vec<Bound<D>> = bound.filter(|b| !b.bindings.is_empty()).collect();
        *self.bound.write() = Arc::new(bound);
        self.complete.send_replace(true);
    }

    async fn ready(&self, a: &Attributes<'_>) -> Result<Arc<Vec<Bound<D>>>, ApiError> {
        if !self.followed.load(Ordering::Acquire) {
            return Ok(Arc::default());
        }
        let mut complete = self.complete.subscribe();
        let waited = tokio::time::timeout(READY, complete.wait_for(|complete| *complete)).await;
        if !matches!(waited, Ok(Ok(_))) {
            return Err(a.forbidden("not yet ready to handle request"));
        }
        Ok(self.bound.read().clone())
    }
}

/// Whether no policy sees this request: policies cannot lock out their own configuration, nor questions about users.
fn is_exempt(a: &Attributes<'_>) -> bool {
    const POLICIES: [&str; 4] = [
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
    ];
    (a.group() == "admissionregistration.k8s.io" && POLICIES.contains(&a.resource()))
        || EXCLUDED.contains(&(a.group(), a.resource()))
}

/// A binding that applies to a request.
struct Invocation<'b> {
    binding: &'b Binding,
    /// The values of `params` to evaluate with; at least one.
    params: Vec<Value>,
}

/// Why it is not known whether a policy applies, or with which parameters.
struct Misconfigured<'b> {
    /// None where it is the policy itself.
    binding: Option<&'b Binding>,
    message: String,
}

impl<'b> Misconfigured<'b> {
    fn new(binding: Option<&'b Binding>, why: &str) -> Self {
        let what = if binding.is_some() { "binding" } else { "policy" };
        Misconfigured { binding, message: format!("failed to configure {what}: {why}") }
    }
}

type Invocations<'b> = Vec<Result<Invocation<'b>, Misconfigured<'b>>>;

/// The resource a policy matches a request as, and its bindings that apply. None where it does not match; an error stands
/// among the bindings, as it counts like a decision of one.
async fn invocations<'a, 'b>(
    a: &Attributes<'a>,
    policy: &Common,
    bindings: &'b [Arc<Binding>],
) -> Option<(Matched<'a>, Invocations<'b>)> {
    let failed = |why: &str| (Matched::Own(a.call.resource), vec![Err(Misconfigured::new(None, why))]);
    let resource = match policy.constraints.matched(a).await {
        Ok(resource) => resource?,
        Err(error) => return Some(failed(&error.message)),
    };
    let mut param_resource = None;
    if let Some(kind) = &policy.param_kind {
        let Some(found) = params::resource_of(a, kind) else {
            return Some(failed(&format!("failed to find resource referenced by paramKind: '{kind}'")));
        };
        param_resource = Some(found);
    }
    let mut out = Vec::new();
    for binding in bindings {
        if let Some(constraints) = &binding.constraints {
            match constraints.matched(a).await {
                Ok(Some(_)) => {}
                Ok(None) => continue,
                Err(error) => {
                    out.push(Err(Misconfigured::new(Some(binding), &error.message)));
                    continue;
                }
            }
        }
        match params::collect(a, param_resource.as_deref(), binding).await {
            Ok(params) if params.is_empty() => {}
            Ok(params) => out.push(Ok(Invocation { binding, params })),
            Err(why) => out.push(Err(Misconfigured::new(Some(binding), &why))),
        }
    }
    Some((resource, out))
}

/// The namespace as expressions see it; null for what is in none, which a namespace is not either.
async fn namespace(a: &Attributes<'_>) -> Result<Value, ApiError> {
    let is_namespace = a.kind.group.is_empty() && a.kind.kind == "Namespace";
    if a.namespace.is_empty() || is_namespace {
        return Ok(Value::Null);
    }
    let found = a.call.core.find("", "namespaces", "", &a.namespace).await?;
    let mut found = found.ok_or_else(|| ApiError::not_found("", "namespaces", &a.namespace))?;
    for field in ["managedFields", "ownerReferences", "selfLink"] {
        crate::meta::remove(&mut found, field);
    }
    Ok(found)
}
