//! The authorizers of `--authorization-mode`, in the order given.

use std::sync::Arc;

use auth::node::Node;
use auth::rbac::Rbac;
use auth::rbac::rule::Rule;
use auth::{AlwaysAllow, AlwaysDeny, Authorizer, Named, PrivilegedGroups, SYSTEM_PRIVILEGED_GROUP};

/// The union, and the parts that must be kept informed.
pub(crate) struct Authorization {
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) rbac: Option<Rbac>,
    pub(crate) node: Option<Node>,
}

/// Builds the authorizers. Superusers come first whatever the modes are.
pub(crate) fn build(modes: &[String]) -> Authorization {
    let superusers = PrivilegedGroups(vec![SYSTEM_PRIVILEGED_GROUP.to_owned()]);
    let mut all: Vec<(String, Arc<dyn Authorizer>)> =
        vec![("system-masters".to_owned(), Arc::new(superusers))];
    let (mut rbac, mut node) = (None, None);
    for mode in modes {
        // Upstream names authorizers by their mode in lower case.
        let name = mode.to_ascii_lowercase();
        let made: Arc<dyn Authorizer> = match mode.as_str() {
            "RBAC" => {
                let made = Rbac::default();
                rbac = Some(made.clone());
                Arc::new(made)
            }
            "Node" => {
                let made = Node::new(node_rules());
                node = Some(made.clone());
                Arc::new(made)
            }
            "AlwaysAllow" => Arc::new(AlwaysAllow),
            _ => Arc::new(AlwaysDeny),
        };
        all.push((name, made));
    }
    Authorization { authorizer: Arc::new(Named(all)), rbac, node }
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
