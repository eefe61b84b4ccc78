//! Roles and bindings, indexed so that a request looks only at the bindings of its own user and groups.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use super::rule::Rule;
use crate::UserInfo;

/// What kind of subject a binding names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubjectKind {
    /// A user name.
    User,
    /// A group.
    Group,
    /// A service account.
    ServiceAccount,
}

/// One subject of a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its kind.
    pub kind: SubjectKind,
    /// Its name.
    pub name: String,
    /// Namespace of a service account; empty means the binding's.
    pub namespace: String,
}

/// A role binding, or a cluster role binding when `namespace` is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Name.
    pub name: String,
    /// Namespace, empty for cluster role bindings.
    pub namespace: String,
    /// `ClusterRole` or `Role`.
    pub role_kind: String,
    /// Name of the role.
    pub role_name: String,
    /// Who gets it.
    pub subjects: Vec<Subject>,
}

/// A binding through one of its subjects; prints as upstream's reasons do.
pub struct Bound<'a> {
    binding: &'a Binding,
    subject: &'a Subject,
}

impl fmt::Display for Bound<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Binding { name, namespace, role_kind, role_name, .. } = self.binding;
        if namespace.is_empty() {
            write!(f, "ClusterRoleBinding {name:?}")?;
        } else {
            write!(f, "RoleBinding {:?}", format!("{name}/{namespace}"))?;
        }
        write!(f, " of {role_kind} {role_name:?} to ")?;
        let subject = &self.subject;
        match subject.kind {
            SubjectKind::User => write!(f, "User {:?}", subject.name),
            SubjectKind::Group => write!(f, "Group {:?}", subject.name),
            SubjectKind::ServiceAccount => {
                let of = if subject.namespace.is_empty() { namespace } else { &subject.namespace };
                write!(f, "ServiceAccount {:?}", format!("{}/{of}", subject.name))
            }
        }
    }
}

/// Whom a binding applies to: a user name (service accounts by their user name) or a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    User(String),
    Group(String),
}

impl Who {
    fn of(subject: &Subject, binding: &Binding) -> Self {
        match subject.kind {
            SubjectKind::User => Who::User(subject.name.clone()),
            SubjectKind::Group => Who::Group(subject.name.clone()),
            SubjectKind::ServiceAccount => {
                let of = if subject.namespace.is_empty() { &binding.namespace } else { &subject.namespace };
                Who::User(format!("system:serviceaccount:{of}:{}", subject.name))
            }
        }
    }
}

/// Bindings of one namespace (or of the cluster), by name and by whom they apply to.
#[derive(Default)]
struct Scope {
    bindings: BTreeMap<String, Arc<Binding>>,
    by_subject: HashMap<Who, Vec<(Arc<Binding>, usize)>>,
}

impl Scope {
    fn remove(&mut self, name: &str) {
        let Some(old) = self.bindings.remove(name) else { return };
        for subject in &old.subjects {
            let who = Who::of(subject, &old);
            if let Some(list) = self.by_subject.get_mut(&who) {
                list.retain(|(binding, _)| binding.name != name);
                if list.is_empty() {
                    self.by_subject.remove(&who);
                }
            }
        }
    }

    fn set(&mut self, binding: Binding) {
        self.remove(&binding.name);
        let binding = Arc::new(binding);
        for (index, subject) in binding.subjects.iter().enumerate() {
            self.by_subject.entry(Who::of(subject, &binding)).or_default().push((binding.clone(), index));
        }
        self.bindings.insert(binding.name.clone(), binding);
    }
}

/// All roles and bindings.
#[derive(Default)]
pub struct State {
    /// Rules by namespace (empty for cluster roles) and name.
    roles: HashMap<(String, String), Arc<[Rule]>>,
    /// Bindings by namespace (empty for cluster role bindings).
    scopes: HashMap<String, Scope>,
}

impl State {
    /// Sets a role, or a cluster role when `namespace` is empty.
    pub fn set_role(&mut self, namespace: &str, name: &str, rules: Vec<Rule>) {
        self.roles.insert((namespace.to_owned(), name.to_owned()), rules.into());
    }

    /// Removes a role.
    pub fn remove_role(&mut self, namespace: &str, name: &str) {
        self.roles.remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// Sets a binding.
    pub fn set_binding(&mut self, binding: Binding) {
        self.scopes.entry(binding.namespace.clone()).or_default().set(binding);
    }

    /// Removes a binding.
    pub fn remove_binding(&mut self, namespace: &str, name: &str) {
        if let Some(scope) = self.scopes.get_mut(namespace) {
            scope.remove(name);
            if scope.bindings.is_empty() {
                self.scopes.remove(namespace);
            }
        }
    }

    /// Whether a role is known; `namespace` is empty for a cluster role.
    pub fn has_role(&self, namespace: &str, name: &str) -> bool {
        self.roles.contains_key(&(namespace.to_owned(), name.to_owned()))
    }

    /// Whether a binding is known; `namespace` is empty for a cluster role binding.
    pub fn has_binding(&self, namespace: &str, name: &str) -> bool {
        self.scopes.get(namespace).is_some_and(|scope| scope.bindings.contains_key(name))
    }

    /// Removes all cluster roles (or all roles) before a new list is set.
    pub fn clear_roles(&mut self, cluster: bool) {
        self.roles.retain(|(namespace, _), _| namespace.is_empty() != cluster);
    }

    /// Removes all cluster role bindings (or all role bindings) before a new list is set.
    pub fn clear_bindings(&mut self, cluster: bool) {
        self.scopes.retain(|namespace, _| namespace.is_empty() != cluster);
    }

    /// The rules a binding grants.
    ///
    /// # Errors
    /// When the role does not exist.
    pub fn role_rules(&self, kind: &str, name: &str, namespace: &str) -> Result<Arc<[Rule]>, String> {
        let (namespace, resource) = match kind {
            "ClusterRole" => ("", "clusterrole"),
            "Role" => (namespace, "role"),
            other => return Err(format!("unsupported role reference kind: {other:?}")),
        };
        let found = self.roles.get(&(namespace.to_owned(), name.to_owned())).cloned();
        found.ok_or_else(|| format!("{resource}.rbac.authorization.k8s.io {name:?} not found"))
    }

    /// Visits the rules that apply to a user, cluster-wide ones first, until the visitor says no.
    pub(super) fn visit(
        &self,
        user: &UserInfo,
        namespace: &str,
        mut visitor: impl FnMut(&Bound<'_>, Result<Arc<[Rule]>, String>) -> bool,
    ) {
        let mut scopes = vec![""];
        if !namespace.is_empty() {
            scopes.push(namespace);
        }
        let who: Vec<Who> = std::iter::once(Who::User(user.name.clone()))
            .chain(user.groups.iter().map(|g| Who::Group(g.clone())))
            .collect();
        for scope in scopes.into_iter().filter_map(|name| self.scopes.get(name)) {
            for (binding, index) in who.iter().filter_map(|w| scope.by_subject.get(w)).flatten() {
                let bound = Bound { binding, subject: &binding.subjects[*index] };
                let rules = self.role_rules(&binding.role_kind, &binding.role_name, &binding.namespace);
                if !visitor(&bound, rules) {
                    return;
                }
            }
        }
    }
}
