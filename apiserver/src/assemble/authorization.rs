//! The authorizers of `--authorization-mode` or of `--authorization-config`, in the order given. The file is followed:
//! webhooks and the order may change, while authorizers of the server itself are those of the start.
//! Upstream: `pkg/kubeapiserver/authorizer/{config,reload}.go`, `pkg/kubeapiserver/options/authorization.go`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use auth::authorizer::RuleSet;
use auth::node::Node;
use auth::rbac::Rbac;
use auth::rbac::rule::Rule;
use auth::{
    AlwaysAllow, AlwaysDeny, Attributes, Authorizer, Named, PrivilegedGroups, SYSTEM_PRIVILEGED_GROUP,
    UserInfo, Verdict,
};
use component::app::{Error, Tasks};
use component::features::Gates;

use super::files;
use crate::options::AuthorizationConfig;
use crate::outbound::endpoint::{Endpoint, TIMEOUT};
use crate::reviewers::abac::Abac;
use crate::reviewers::access::conditions::Conditions;
use crate::reviewers::access::question::Version;
use crate::reviewers::access::{AccessWebhook, Settings};
use crate::reviewers::config::{self, Configured, Webhook};
use crate::reviewers::io_text;

/// The name of the webhook that flags describe.
const DEFAULT_WEBHOOK: &str = "default";

/// The union, and the parts that must be kept informed.
pub(crate) struct Authorization {
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) rbac: Option<Rbac>,
    pub(crate) node: Option<Node>,
}

/// The authorizers that stay when the configuration changes.
struct Own {
    rbac: Option<Rbac>,
    node: Option<Node>,
    abac: Option<Arc<Abac>>,
}

impl Own {
    fn new(wanted: &[Configured], policies: Option<&Path>, gates: &Gates) -> Result<Self, Error> {
        let has = |kind: &str| wanted.iter().any(|a| a.kind == kind);
        Ok(Self {
            rbac: has("RBAC").then(Rbac::default),
            node: has("Node").then(|| Node::new(node_rules(gates))),
            abac: has("ABAC").then(|| files::policies(policies)).transpose()?.map(Arc::new),
        })
    }

    /// The types that a changed configuration must have, too.
    fn required(wanted: &[Configured]) -> Vec<String> {
        wanted.iter().map(|a| a.kind.clone()).filter(|kind| kind != "Webhook").collect()
    }

    /// The union. Superusers come first whatever the configuration is.
    fn union(&self, wanted: Vec<Configured>) -> Result<Named, String> {
        let superusers = PrivilegedGroups(vec![SYSTEM_PRIVILEGED_GROUP.to_owned()]);
        let mut all: Vec<(String, Arc<dyn Authorizer>)> =
            vec![("kubernetes.io/system-privileged-group".to_owned(), Arc::new(superusers))];
        for Configured { kind, name, webhook } in wanted {
            let absent = || {
                format!(
                    "authorizer type {kind} is not allowed if it was not enabled at initial server startup"
                )
            };
            let made: Arc<dyn Authorizer> = match (kind.as_str(), webhook) {
                ("RBAC", _) => Arc::new(self.rbac.clone().ok_or_else(absent)?),
                ("Node", _) => Arc::new(self.node.clone().ok_or_else(absent)?),
                ("ABAC", _) => self.abac.clone().ok_or_else(absent)?,
                ("Webhook", Some(Webhook { kubeconfig, timeout, settings })) => {
                    Arc::new(AccessWebhook::new(Endpoint::load(&kubeconfig, timeout)?, settings))
                }
                ("AlwaysAllow", _) => Arc::new(AlwaysAllow),
                _ => Arc::new(AlwaysDeny),
            };
            all.push((name, made));
        }
        Ok(Named(all))
    }
}

/// Builds the authorizers, and follows the file that describes them.
///
/// # Errors
/// A file that cannot be used.
pub(crate) fn build(
    asked: &AuthorizationConfig,
    gates: &Gates,
    tasks: &Tasks,
) -> Result<Authorization, Error> {
    let (wanted, followed) = match &asked.file {
        Some(file) => {
            let data = read(file)?;
            (config::parse(&data, &[])?, Some((file.clone(), data)))
        }
        None => (from_flags(asked)?, None),
    };
    let own = Own::new(&wanted, asked.policy_file.as_deref(), gates)?;
    let required = Own::required(&wanted);
    let current = Arc::new(ArcSwap::from_pointee(own.union(wanted)?));
    let (rbac, node) = (own.rbac.clone(), own.node.clone());
    if let Some((file, data)) = followed {
        follow(file, data, own, required, current.clone(), tasks);
    }
    Ok(Authorization { authorizer: Arc::new(Current(current)), rbac, node })
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|e| format!("open {}: {}", file.display(), io_text(&e)))
}

/// Upstream: `buildAuthorizationConfiguration`.
fn from_flags(asked: &AuthorizationConfig) -> Result<Vec<Configured>, Error> {
    let configured = |mode: &String| match (mode.as_str(), &asked.webhook_file) {
        ("Webhook", Some(kubeconfig)) => {
            let text = asked.webhook_version.as_str();
            let version = Version::parse(text).ok_or_else(|| {
                format!(
                    "unsupported webhook authorizer version {text:?}, supported versions are \"v1\", \"v1beta1\""
                )
            })?;
            let settings = Settings {
                version,
                ttl: asked.webhook_ttl,
                denies_on_failure: false,
                conditions: Conditions::default(),
            };
            let webhook = Webhook { kubeconfig: kubeconfig.clone(), timeout: TIMEOUT, settings };
            let name = DEFAULT_WEBHOOK.to_owned();
            Ok(Configured { kind: mode.clone(), name, webhook: Some(webhook) })
        }
        _ => Ok(Configured::plain(mode)),
    };
    asked.modes.iter().map(configured).collect()
}

/// The union in force.
struct Current(Arc<ArcSwap<Named>>);

#[async_trait]
impl Authorizer for Current {
    async fn authorize(&self, attributes: &Attributes) -> Verdict {
        let current = self.0.load_full();
        current.authorize(attributes).await
    }

    fn rules_for(&self, user: &UserInfo, namespace: &str) -> RuleSet {
        self.0.load().rules_for(user, namespace)
    }
}

fn follow(
    file: PathBuf,
    mut known: Vec<u8>,
    own: Own,
    required: Vec<String>,
    current: Arc<ArcSwap<Named>>,
    tasks: &Tasks,
) {
    let stop = tasks.shutdown().clone();
    tasks.spawn("authorization-config-reload", async move {
        let watched = vec![file.clone()];
        let changed = || match reloaded(&file, &mut known, &own, &required) {
            Ok(Some(union)) => {
                current.store(Arc::new(union));
                tracing::info!("reloaded authz config");
            }
            Ok(None) => {}
            Err(why) => tracing::error!(err = why, "reloading authorization config"),
        };
        component::files::watch(watched, stop, changed).await;
    });
}

/// The union of the file's new content; `None` where it is what it was.
fn reloaded(
    file: &Path,
    known: &mut Vec<u8>,
    own: &Own,
    required: &[String],
) -> Result<Option<Named>, String> {
    let data = read(file)?;
    if data == *known {
        return Ok(None);
    }
    known.clone_from(&data);
    own.union(config::parse(&data, required)?).map(Some)
}

/// What `system:node` allows, from the bootstrap policy.
fn node_rules(gates: &Gates) -> Vec<Rule> {
    crate::hooks::rbac::policy(gates)
        .into_iter()
        .find(|object| object["kind"] == "ClusterRole" && object["metadata"]["name"] == "system:node")
        .and_then(|role| serde_json::from_value(role["rules"].clone()).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_rules_exist() {
        assert!(node_rules(&Gates::default()).len() > 10);
    }

    #[test]
    fn own_authorizers_are_those_of_the_start() {
        let wanted = || vec![Configured::plain("RBAC"), Configured::plain("AlwaysDeny")];
        let own = Own::new(&wanted(), None, &Gates::default()).unwrap();
        assert_eq!(own.union(wanted()).map(|u| u.0.len()), Ok(3));
        let node = own.union(vec![Configured::plain("Node")]).map(drop).unwrap_err();
        assert_eq!(
            node,
            "authorizer type Node is not allowed if it was not enabled at initial server startup"
        );
    }
}
