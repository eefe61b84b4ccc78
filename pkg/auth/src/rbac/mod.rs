//! Role-based access control: roles and bindings indexed by subject, kept current by whoever watches them.
//!
//! [`Rbac`] answers requests; [`state`] holds the index; [`rule`] matches one rule.
//! Upstream: `plugin/pkg/auth/authorizer/rbac`, `pkg/registry/rbac/validation/rule.go`.
pub mod rule;
pub mod state;

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::RwLock;
use tokio::sync::Notify;

use crate::UserInfo;
use crate::authorizer::{Attributes, Authorizer, Decision, RuleSet, Verdict};
use rule::Rule;
use state::{Bound, State};

/// The RBAC authorizer. Cheap to clone.
#[derive(Clone, Default)]
pub struct Rbac(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: RwLock<State>,
    changed: Notify,
}

impl Rbac {
    /// Changes roles or bindings.
    pub fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.0.state.write());
        self.0.changed.notify_waiters();
        result
    }

    /// Waits until what is known satisfies `condition`.
    pub async fn until(&self, condition: impl Fn(&State) -> bool) {
        loop {
            // Made before the look at the state, so that a change right after it is not missed.
            let changed = self.0.changed.notified();
            if condition(&self.0.state.read()) {
                return;
            }
            changed.await;
        }
    }

    /// Everything a user may do in a namespace (empty for cluster scope only), and problems met on the way.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        self.0.state.read().visit(user, namespace, |_, found| {
            match found {
                Ok(found) => rules.extend(found.iter().cloned()),
                Err(error) => errors.push(error),
            }
            true
        });
        (rules, errors)
    }

    /// The rules of a role a binding refers to.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn role_rules(&self, kind: &str, name: &str, namespace: &str) -> Result<Arc<[Rule]>, String> {
        self.0.state.read().role_rules(kind, name, namespace)
    }

    fn decide(&self, attributes: &Attributes) -> Verdict {
        let (mut allowed, mut errors) = (None, Vec::new());
        self.0.state.read().visit(&attributes.user, &attributes.namespace, |bound: &Bound<'_>, found| {
            match found {
                Ok(rules) if rules.iter().any(|rule| rule.allows(attributes)) => {
                    allowed = Some(format!("RBAC: allowed by {bound}"));
                    false
                }
                Ok(_) => true,
                Err(error) => {
                    errors.push(error);
                    true
                }
            }
        });
        if let Some(reason) = allowed {
            return Verdict::new(Decision::Allow, reason);
        }
        let reason = match errors.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            all => format!("RBAC: [{}]", all.join(", ")),
        };
        Verdict::new(Decision::NoOpinion, reason)
    }
}

#[async_trait]
impl Authorizer for Rbac {
    async fn authorize(&self, attributes: &Attributes) -> Verdict {
        self.decide(attributes)
    }

    fn rules_for(&self, user: &UserInfo, namespace: &str) -> RuleSet {
        let (rules, errors) = Rbac::rules_for(self, user, namespace);
        RuleSet { rules, incomplete: !errors.is_empty(), errors }
    }
}

#[cfg(test)]
mod tests {
    use super::state::{Binding, Subject, SubjectKind};
    use super::*;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Rule {
        let own = |all: &[&str]| all.iter().map(|v| (*v).to_owned()).collect();
        Rule {
            verbs: own(verbs),
            api_groups: own(groups),
            resources: own(resources),
            resource_names: own(names),
            non_resource_urls: vec![],
        }
    }

    fn binding(
        name: &str,
        namespace: &str,
        role: (&str, &str),
        subject: (SubjectKind, &str, &str),
    ) -> Binding {
        Binding {
            name: name.into(),
            namespace: namespace.into(),
            role_kind: role.0.into(),
            role_name: role.1.into(),
            subjects: vec![Subject { kind: subject.0, name: subject.1.into(), namespace: subject.2.into() }],
        }
    }

    fn ask(
        rbac: &Rbac,
        user: &str,
        groups: &[&str],
        verb: &str,
        what: &str,
        namespace: &str,
        name: &str,
    ) -> String {
        let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
        let verdict = rbac.decide(&Attributes {
            user: Arc::new(UserInfo::new(user, groups)),
            verb: verb.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            name: name.into(),
            resource_request: true,
            ..Attributes::default()
        });
        format!("{:?} {}", verdict.decision, verdict.reason)
    }

    #[test]
    fn decides() {
        let rbac = Rbac::default();
        rbac.update(|s| {
            s.set_role("", "reader", vec![rule(&["get", "list"], &[""], &["pods", "*/log"], &[])]);
            s.set_role("ns", "one", vec![rule(&["*"], &[""], &["secrets"], &["x"])]);
            s.set_binding(binding("b", "", ("ClusterRole", "reader"), (SubjectKind::Group, "dev", "")));
            s.set_binding(binding("nb", "ns", ("Role", "one"), (SubjectKind::ServiceAccount, "sa", "")));
            s.set_binding(binding("bad", "", ("ClusterRole", "gone"), (SubjectKind::User, "eve", "")));
        });
        let by_group =
            r#"Allow RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "reader" to Group "dev""#;
        assert_eq!(ask(&rbac, "u", &["dev"], "list", "pods", "", ""), by_group);
        assert_eq!(ask(&rbac, "u", &["dev"], "get", "jobs/log", "any", ""), by_group);
        assert_eq!(ask(&rbac, "u", &["dev"], "create", "pods", "", ""), "NoOpinion ");
        assert_eq!(ask(&rbac, "u", &[], "list", "pods", "", ""), "NoOpinion ");
        let sa = "system:serviceaccount:ns:sa";
        let by_sa = r#"Allow RBAC: allowed by RoleBinding "nb/ns" of Role "one" to ServiceAccount "sa/ns""#;
        assert_eq!(ask(&rbac, sa, &[], "get", "secrets", "ns", "x"), by_sa);
        assert_eq!(ask(&rbac, sa, &[], "get", "secrets", "ns", "y"), "NoOpinion ");
        assert_eq!(ask(&rbac, sa, &[], "get", "secrets", "other", "x"), "NoOpinion ");
        let gone = r#"NoOpinion RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found"#;
        assert_eq!(ask(&rbac, "eve", &[], "get", "pods", "", ""), gone);
        rbac.update(|s| s.remove_binding("", "b"));
        assert_eq!(ask(&rbac, "u", &["dev"], "list", "pods", "", ""), "NoOpinion ");
    }
}
