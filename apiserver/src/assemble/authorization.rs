//! The authorizers of `--authorization-mode`, in the order given.

use std::sync::Arc;

use auth::node::Node;
use auth::rbac::Rbac;
use auth::rbac::rule::Rule;
use auth::{AlwaysAllow, AlwaysDeny, Authorizer, PrivilegedGroups, SYSTEM_PRIVILEGED_GROUP, Union};

/// The union, and the parts that must be kept informed.
pub(crate) struct Authorization {
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) rbac: Option<Rbac>,
    pub(crate) node: Option<Node>,
}

/// Builds the authorizers. Superusers come first whatever the modes are.
pub(crate) fn build(modes: &[String]) -> Authorization {
    let superusers = PrivilegedGroups(vec![SYSTEM_PRIVILEGED_GROUP.to_owned()]);
    let mut all: Vec<Arc<dyn Authorizer>> = vec![Arc::new(superusers)];
    let (mut rbac, mut node) = (None, None);
    for mode in modes {
        match mode.as_str() {
            "RBAC" => {
                let made = Rbac::default();
                all.push(Arc::new(made.clone()));
                rbac = Some(made);
            }
            "Node" => {
                let made = Node::new(node_rules());
                all.push(Arc::new(made.clone()));
                node = Some(made);
            }
            "AlwaysAllow" => all.push(Arc::new(AlwaysAllow)),
            _ => all.push(Arc::new(AlwaysDeny)),
        }
    }
    Authorization { authorizer: Arc::new(Union(all)), rbac, node }
}

/// What `system:node` allows, from the bootstrap policy.
fn node_rules() -> Vec<Rule> {
    crate::hooks::rbac::policy()
        .into_iter()
        .find(|object| object["kind"] == "ClusterRole" && object["metadata"]["name"] == "system:node")
        .and_then(|role| serde_json::from_value(role["rules"].clone()).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn node_rules_exist() {
        assert!(super::node_rules().len() > 10);
    }
}
