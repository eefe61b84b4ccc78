//! Defaults of the rbac group. Upstream: pkg/apis/rbac/v1/defaults.go.

use super::fields::{child, if_empty, text};
use super::{Context, Function};
use machinery::Map;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("rbac/v1.ClusterRoleBinding", binding),
    ("rbac/v1.RoleBinding", binding),
    ("rbac/v1.Subject", subject),
];

const GROUP: &str = "rbac.authorization.k8s.io";

fn binding(m: &mut Map, _: &Context) {
    if_empty(child(m, "roleRef"), "apiGroup", GROUP);
}

fn subject(m: &mut Map, _: &Context) {
    if matches!(text(m, "kind"), "User" | "Group") {
        if_empty(m, "apiGroup", GROUP);
    }
}
