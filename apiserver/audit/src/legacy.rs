//! The one-line text form of an event. Upstream: `k8s.io/apiserver/pkg/audit/format.go` `EventString`.

use machinery::golang::quote;

use crate::event::{Event, User};

fn names(list: &[String]) -> String {
    list.iter().map(|n| quote(n)).collect::<Vec<_>>().join(",")
}

/// Name and groups of who asks.
fn who(user: &User) -> (&str, String) {
    const NONE: &str = "<none>";
    match (user.username.as_str(), user.groups.as_slice()) {
        ("", _) => (NONE, NONE.to_owned()),
        (name, []) => (name, NONE.to_owned()),
        (name, groups) => (name, names(groups)),
    }
}

/// The line, without its end.
pub(crate) fn line(event: &Event) -> String {
    let (user, groups) = who(&event.user);
    let (acting, acting_groups) = match &event.impersonated_user {
        None => ("<self>", "<lookup>".to_owned()),
        Some(acting) if acting.groups.is_empty() => (acting.username.as_str(), "<lookup>".to_owned()),
        Some(acting) => (acting.username.as_str(), names(&acting.groups)),
    };
    let namespace = event.object_ref.as_ref().map(|o| o.namespace.as_str()).filter(|n| !n.is_empty());
    let response = event.response_status.as_ref().map_or("<deferred>".to_owned(), |s| s.code.to_string());
    format!(
        "{} AUDIT: id={} stage={} ip={} method={} user={} groups={} as={} asgroups={} user-agent={} namespace={} \
         uri={} response=\"{response}\"",
        event.request_received_timestamp,
        quote(&event.audit_id),
        quote(event.stage.text()),
        quote(event.source_ips.first().map_or("<unknown>", String::as_str)),
        quote(&event.verb),
        quote(user),
        quote(&groups),
        quote(acting),
        quote(&acting_groups),
        quote(&event.user_agent),
        quote(namespace.unwrap_or("<none>")),
        quote(&event.request_uri),
    )
}
