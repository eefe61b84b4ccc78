//! Whom this server appears as to webhooks: the users of the kubeconfig that a plugin's configuration names, whose names are
//! servers (`host:port`, `*.domain`, `*`).
//!
//! Upstream: `k8s.io/apiserver/pkg/util/webhook/authentication.go`.

use std::path::Path;

use client::Identity;
use client::kubeconfig::{Kubeconfig, User};

/// The kubeconfigs of the two plugins.
#[derive(Debug, Default)]
pub(crate) struct Plugins {
    pub(crate) mutating: Accounts,
    pub(crate) validating: Accounts,
}

/// The users for servers.
#[derive(Debug, Default)]
pub(crate) struct Accounts(Kubeconfig);

/// This server under its usual name, to which no webhook's account is shown.
const OURSELVES: &str = "kubernetes.default.svc:443";

impl Accounts {
    /// Reads a kubeconfig.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn load(kubeconfig: &Path) -> Result<Self, String> {
        Kubeconfig::read(kubeconfig).map(Accounts).map_err(|e| e.to_string())
    }

    /// The identity to show to a server; `None` where nothing is said of it.
    ///
    /// # Errors
    /// The user's credentials cannot be used.
    pub(super) fn identity(&self, host: &str, port: u16) -> Result<Option<Identity>, String> {
        let user = self.user(host, port);
        user.map(|user| Identity::of_user(user).map_err(|e| e.to_string())).transpose()
    }

    fn user(&self, host: &str, port: u16) -> Option<&User> {
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let authority = format!("{bracketed}:{port}");
        if authority == OURSELVES {
            return None;
        }
        let without_port = || (port == 443).then(|| self.matching(host)).flatten();
        self.matching(&authority).or_else(without_port).or_else(|| self.named("*")).or_else(|| self.current())
    }

    fn named(&self, name: &str) -> Option<&User> {
        self.0.users.iter().find(|u| u.name == name).map(|u| &u.user)
    }

    /// By the name itself, then by ever more of its parts behind a star.
    fn matching(&self, name: &str) -> Option<&User> {
        let parents = name.match_indices('.').map(|(at, _)| &name[at..]);
        self.named(name).or_else(|| parents.map(|rest| format!("*{rest}")).find_map(|star| self.named(&star)))
    }

    fn current(&self) -> Option<&User> {
        let context = self.0.contexts.iter().find(|c| c.name == self.0.current_context)?;
        self.named(&context.context.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_counts() {
        let text = "
users:
- {name: 'a.b.svc:443', user: {token: exact}}
- {name: 'c.b.svc', user: {token: portless}}
- {name: '*.b.svc:8443', user: {token: star-and-port}}
- {name: '*.svc', user: {token: star}}
- {name: '[::1]:443', user: {token: address}}
- {name: current, user: {token: current}}
contexts: [{name: c, context: {user: current}}]
current-context: c
";
        let accounts = Accounts(Kubeconfig::parse(text).unwrap());
        let token = |host: &str, port: u16| accounts.user(host, port).map_or("-", |u| u.token.as_str());
        for (host, port, want) in [
            ("a.b.svc", 443, "exact"),
            ("a.b.svc", 8443, "star-and-port"),
            ("c.b.svc", 443, "portless"),
            ("d.b.svc", 443, "star"),
            ("d.b.svc", 1, "current"),
            ("example.org", 443, "current"),
            ("::1", 443, "address"),
            ("kubernetes.default.svc", 443, "-"),
        ] {
            assert_eq!(token(host, port), want, "{host}:{port}");
        }
        let star = Accounts(Kubeconfig::parse("users: [{name: '*', user: {token: all}}]").unwrap());
        assert_eq!(star.user("x", 1).map(|u| u.token.as_str()), Some("all"));
        assert!(Accounts::default().user("x", 1).is_none());
    }
}
