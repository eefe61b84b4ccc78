//! SELinux labels as a controller can know them: nodes' defaults are not known here, so parts may be missing. Pure.
//! Upstream: selinuxwarning/translator/selinux_translator.go, internal/parse/selinux_label.go.

use k8s_openapi::api::core::v1::SELinuxOptions;

/// `user:role:type:level` with what the options name; "" where they name nothing.
pub fn of(options: &SELinuxOptions) -> String {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let parts = [&options.user, &options.role, &options.type_, &options.level].map(text);
    if parts.iter().all(String::is_empty) { String::new() } else { parts.join(":") }
}

/// User, role, type, level; a level has colons of its own.
fn parts(label: &str) -> [&str; 4] {
    let mut all = label.splitn(4, ':');
    std::array::from_fn(|_| all.next().unwrap_or_default())
}

/// Whether no node can make the two labels the same. A node fills in missing users, roles and types, never levels.
pub fn conflict(a: &str, b: &str) -> bool {
    let [user, role, kind, level] = parts(a);
    let [other_user, other_role, other_kind, other_level] = parts(b);
    let differ = |a: &str, b: &str| a != b && !a.is_empty() && !b.is_empty();
    differ(user, other_user) || differ(role, other_role) || differ(kind, other_kind) || level != other_level
}
