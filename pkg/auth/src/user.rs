//! Who is asking: the identity every authenticator produces and every authorizer reads.
//! Upstream: `k8s.io/apiserver/pkg/authentication/user`.

use std::collections::BTreeMap;

/// An authenticated identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// Unique name among all active users.
    pub name: String,
    /// Identifies the user over time even when the name is reused; often empty.
    pub uid: String,
    /// Groups the user is a member of, in the order the authenticator gave them.
    pub groups: Vec<String>,
    /// Further facts for authorizers, e.g. the pod a token is bound to. Keys are lower case.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Superusers: every authorization check passes for this group.
pub const SYSTEM_PRIVILEGED_GROUP: &str = "system:masters";
/// Every user that some authenticator recognised.
pub const ALL_AUTHENTICATED: &str = "system:authenticated";
/// Requests without credentials.
pub const ALL_UNAUTHENTICATED: &str = "system:unauthenticated";
/// The name of requests without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of all kubelets.
pub const NODES_GROUP: &str = "system:nodes";
/// The loopback identity of the API server itself.
pub const API_SERVER_USER: &str = "system:apiserver";

/// The groups of every service account of a namespace (upstream's `serviceaccount.MakeGroupNames`).
pub fn service_account_groups(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
}

impl UserInfo {
    /// A user with a name and groups only.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        Self {
            name: name.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// Whether the user is in `group`.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}
