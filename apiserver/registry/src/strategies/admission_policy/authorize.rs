//! Who may let policies read parameters: policies read with the server's rights, so whoever names parameters must be
//! allowed to read them. Upstream: `authz.go` beside each strategy.

use ::api::validation::field::{Error as FieldError, Path};
use auth::UserInfo;
use auth::authorizer::{Attributes, Decision, Verdict};
use machinery::Value;

use super::refuse;
use crate::errors::ApiError;
use crate::strategy::Call;

/// Which kind of policy a binding is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policies {
    Validating,
    Mutating,
}

impl Policies {
    fn resource(self) -> &'static str {
        match self {
            Policies::Validating => "validatingadmissionpolicies",
            Policies::Mutating => "mutatingadmissionpolicies",
        }
    }
}

/// Whether an object is valid. What is not is refused for that and not for missing rights; only asked when rights miss.
type IsValid<'a> = &'a (dyn Fn() -> bool + Sync);

/// As Go prints a user.
fn shown(user: &UserInfo) -> String {
    let extra: Vec<String> = user.extra.iter().map(|(k, v)| format!("{k}:[{}]", v.join(" "))).collect();
    format!("&{{{} {} [{}] map[{}]}}", user.name, user.uid, user.groups.join(" "), extra.join(" "))
}

fn text<'v>(object: &'v Value, path: &[&str]) -> &'v str {
    object.str_at(path).unwrap_or_default()
}

/// What is asked about objects of a kind of parameters: about any, where the kind is not known.
struct Kind {
    group: String,
    version: String,
    resource: String,
    /// Why the resource is not known.
    unresolved: Option<String>,
}

/// As Go prints a `*ParamKind`.
fn shown_kind(api_version: &str, kind: &str) -> String {
    format!("&ParamKind{{APIVersion:{api_version},Kind:{kind},}}")
}

impl Kind {
    fn any() -> Self {
        let any = || "*".to_owned();
        Kind { group: any(), version: any(), resource: any(), unresolved: None }
    }

    fn of(call: &Call<'_>, policy: &Value) -> Self {
        if policy.map_at(&["spec", "paramKind"]).is_none() {
            return Kind::any();
        }
        let api_version = text(policy, &["spec", "paramKind", "apiVersion"]);
        let kind = text(policy, &["spec", "paramKind", "kind"]);
        let (group, version) = match api_version.split('/').collect::<Vec<_>>().as_slice() {
            [version] => ("", *version),
            [group, version] => (*group, *version),
            _ => {
                let unresolved = Some(format!("unable to parse paramKind {}", shown_kind(api_version, kind)));
                return Kind { unresolved, ..Kind::any() };
            }
        };
        let found = call.core.of_kind(group, version, kind).map(|r| r.row.resource);
        let unresolved = || format!("unable to resolve paramKind {}", shown_kind(api_version, kind));
        Kind {
            group: group.to_owned(),
            version: version.to_owned(),
            resource: found.unwrap_or("*").to_owned(),
            unresolved: found.is_none().then(unresolved),
        }
    }

    async fn ask(
        &self,
        call: &Call<'_>,
        verb: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Verdict, ApiError> {
        let question = Attributes {
            user: call.request.user.clone(),
            verb: verb.into(),
            namespace: namespace.into(),
            api_group: self.group.clone(),
            api_version: self.version.clone(),
            resource: self.resource.clone(),
            name: name.into(),
            resource_request: true,
            ..Attributes::default()
        };
        Ok(call.core.authorizer()?.authorize(&question).await)
    }
}

fn is_super(call: &Call<'_>) -> bool {
    call.request.user.in_group(auth::SYSTEM_PRIVILEGED_GROUP)
}

fn same(object: &Value, old: Option<&Value>, path: &[&str]) -> bool {
    let at = |o: &Value| o.get_path(path).cloned().unwrap_or_default();
    old.is_some_and(|old| at(object).semantic_eq(&at(old)))
}

/// Whether the user may write this policy.
///
/// # Errors
/// 422 when not.
pub async fn policy(
    call: &Call<'_>,
    object: &Value,
    old: Option<&Value>,
    valid: IsValid<'_>,
) -> Result<(), ApiError> {
    let kind = ["spec", "paramKind"];
    if object.map_at(&kind).is_none() || same(object, old, &kind) || is_super(call) {
        return Ok(());
    }
    let verdict = Kind::of(call, object).ask(call, "get", "*", "*").await?;
    if verdict.decision == Decision::Allow || !valid() {
        return Ok(());
    }
    let why = verdict.error.unwrap_or_else(|| {
        format!(
            "user {} must have \"get\" permission on all objects of the referenced paramKind (kind={}, apiVersion={})",
            shown(&call.request.user),
            text(object, &["spec", "paramKind", "kind"]),
            text(object, &["spec", "paramKind", "apiVersion"]),
        )
    });
    let spec = Path::new("spec");
    Err(refuse(call, object, FieldError::forbidden(&spec.child("paramKind"), why)))
}

/// Whether the user may write this binding.
///
/// # Errors
/// 422 when not.
pub async fn binding(
    call: &Call<'_>,
    policies: Policies,
    object: &Value,
    old: Option<&Value>,
    valid: IsValid<'_>,
) -> Result<(), ApiError> {
    let params = ["spec", "paramRef"];
    let unchanged = same(object, old, &params) && same(object, old, &["spec", "policyName"]);
    if object.map_at(&params).is_none() || unchanged || is_super(call) {
        return Ok(());
    }
    let name = text(object, &["spec", "policyName"]);
    let group = call.resource.row.kind.group;
    let policy = match name {
        "" => None,
        name => call.core.find(group, policies.resource(), "", name).await.unwrap_or_default(),
    };
    let kind = policy.as_ref().map_or_else(Kind::any, |policy| Kind::of(call, policy));
    let (namespace, wanted) =
        (text(object, &["spec", "paramRef", "namespace"]), text(object, &["spec", "paramRef", "name"]));
    let verb = if wanted.is_empty() { "list" } else { "get" };
    let verdict = kind.ask(call, verb, namespace, wanted).await?;
    if verdict.decision == Decision::Allow || !valid() {
        return Ok(());
    }
    let why = refusal(policies, call, verdict, policy.is_none().then_some(name), kind.unresolved, verb);
    let spec = Path::new("spec");
    Err(refuse(call, object, FieldError::forbidden(&spec.child("paramRef"), why)))
}

fn refusal(
    policies: Policies,
    call: &Call<'_>,
    verdict: Verdict,
    missing: Option<&str>,
    unresolved: Option<String>,
    verb: &str,
) -> String {
    if let Some(error) = verdict.error {
        return match policies {
            Policies::Validating => format!("failed to authorize request: {error}"),
            Policies::Mutating => error,
        };
    }
    let user = shown(&call.request.user);
    let unresolved = unresolved.or_else(|| missing.map(|name| format!("unable to get policy {name}")));
    match unresolved {
        Some(what) => format!(
            "{what} to determine minimum required permissions and user {user} does not have \"{verb}\" permission for all groups, versions and resources"
        ),
        None => {
            // Upstream mixes the two up for mutating policies.
            let (user, verb) = match policies {
                Policies::Validating => (user.as_str(), verb),
                Policies::Mutating => (verb, user.as_str()),
            };
            format!("user {user} does not have \"{verb}\" permission on the object referenced by paramRef")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_shown_as_go_shows_them() {
        let mut user = UserInfo::new("jane".to_owned(), &["a", "b"]);
        assert_eq!(shown(&user), "&{jane  [a b] map[]}");
        user.extra.insert("k".into(), vec!["x".into(), "y".into()]);
        user.uid = "7".into();
        assert_eq!(shown(&user), "&{jane 7 [a b] map[k:[x y]]}");
    }
}
