//! Admission: plugins that may change or refuse a write, in upstream's order, one file each.
//!
//! [`Chain::standard`] is the order (`pkg/kubeapiserver/options/plugins.go`); [`Attributes`] is what a plugin sees.
//! Mutating passes run before the strategy, validating passes after it.

mod always;
mod always_pull_images;
pub(crate) mod certificates;
mod deny_service_external_ips;
pub mod event_rate_limit;
pub mod expressions;
mod extended_resource_toleration;
pub mod image_policy_webhook;
mod limit_pod_hard_anti_affinity_topology;
mod limit_ranger;
mod matching;
mod namespace_lifecycle;
mod namespaces;
mod node_declared_feature_validator;
mod node_restriction;
mod objects;
mod owner_references_permission_enforcement;
mod pod_group_protection;
mod pod_node_selector;
mod pod_resize_validator;
pub mod pod_security;
pub mod pod_toleration_restriction;
mod pods;
pub mod policy;
mod priority;
mod reinvocation;
pub mod resource_quota;
mod service_account;
pub mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;

use ::api::resources::RowKind;
use async_trait::async_trait;
use machinery::Value;

use crate::api::DeleteOptions;
use crate::errors::ApiError;
use crate::meta;
use crate::strategy::Call;
pub use reinvocation::Reinvocation;

/// What the request does to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object, or a POST to a subresource.
    Create,
    /// A changed object.
    Update,
    /// A deleted object.
    Delete,
    /// exec, attach, portforward, proxy.
    Connect,
}

/// The write under admission.
pub struct Attributes<'a> {
    /// The request, the resource and the registry.
    pub call: &'a Call<'a>,
    /// What is done.
    pub operation: Operation,
    /// Kind of `object`; the resource's except for subresources with a kind of their own.
    pub kind: RowKind,
    /// Namespace; of a namespace object, its own name.
    pub namespace: String,
    /// Name, empty when it is yet to be generated.
    pub name: String,
    /// The new object, hub version. `None` on delete.
    pub object: Option<Value>,
    /// The stored object, on update and delete.
    pub old: Option<Value>,
    /// The options of a delete.
    pub delete_options: Option<DeleteOptions>,
    /// What mutating webhooks and policies remember between the passes of the chain.
    pub reinvocation: Reinvocation,
}

impl<'a> Attributes<'a> {
    /// Attributes of a write to the resource or a status-like subresource.
    pub fn new(call: &'a Call<'a>, operation: Operation, object: Option<Value>, old: Option<Value>) -> Self {
        let info = &call.request.info;
        let row = call.resource.row;
        let subject = object.as_ref().or(old.as_ref());
        let name = match subject.map(meta::name) {
            Some(name) if info.name.is_empty() => name.to_owned(),
            _ => info.name.clone(),
        };
        let namespace = match (row.resource, row.kind.group) {
            ("namespaces", "") => name.clone(),
            _ if row.namespaced => info.namespace.clone(),
            _ => String::new(),
        };
        Attributes {
            call,
            operation,
            kind: row.kind,
            namespace,
            name,
            object,
            old,
            delete_options: None,
            reinvocation: Reinvocation::default(),
        }
    }

    /// Attributes of a write whose object is of a kind of its own (Binding, Eviction, Scale).
    pub fn of_kind(mut self, kind: RowKind) -> Self {
        self.kind = kind;
        self
    }

    /// Plural resource.
    pub fn resource(&self) -> &'static str {
        self.call.resource.row.resource
    }

    /// API group of the resource.
    pub fn group(&self) -> &'static str {
        self.call.resource.row.kind.group
    }

    /// Subresource, or empty.
    pub fn subresource(&self) -> &str {
        self.call.subresource
    }

    /// Whether the main resource of this group and name is written.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.is_resource(group, resource) && self.subresource().is_empty()
    }

    /// As [`Attributes::is`], for any subresource too.
    pub fn is_resource(&self, group: &str, resource: &str) -> bool {
        self.group() == group && self.resource() == resource
    }

    /// 403 with upstream's `admission.NewForbidden` wording.
    pub fn forbidden(&self, why: impl std::fmt::Display) -> ApiError {
        let object = self.object.as_ref().or(self.old.as_ref());
        let mut name = self.name.clone();
        if name.is_empty()
            && let Some(generate) = object.map(meta::generate_name).filter(|g| !g.is_empty())
        {
            name = generate.to_owned();
        }
        if name.is_empty() {
            name = "Unknown".to_owned();
        }
        ApiError::forbidden(self.group(), self.resource(), &name, why)
    }
}

/// One plugin.
#[async_trait]
pub trait Plugin: Send + Sync + 'static {
    /// Upstream's name, as in `--enable-admission-plugins`.
    fn name(&self) -> &'static str;

    /// Which operations it looks at.
    fn handles(&self, operation: Operation) -> bool;

    /// Mutating pass: may change `attributes.object`.
    async fn admit(&self, _attributes: &mut Attributes<'_>) -> Result<(), ApiError> {
        Ok(())
    }

    /// Validating pass.
    async fn validate(&self, _attributes: &Attributes<'_>) -> Result<(), ApiError> {
        Ok(())
    }
}

/// Plugins in order.
#[derive(Clone, Default)]
pub struct Chain(Vec<Arc<dyn Plugin>>);

impl Chain {
    /// A chain of exactly these plugins.
    pub fn new(plugins: Vec<Arc<dyn Plugin>>) -> Self {
        Chain(plugins)
    }

    /// The plugins of these names, in upstream's order.
    ///
    /// # Errors
    /// Names the plugin that lacks its configuration.
    pub fn of(names: &[&str], configuration: &Configuration) -> Result<Self, String> {
        let mut plugins: Vec<Arc<dyn Plugin>> = Vec::new();
        for name in names {
            let plugin = configured(name, configuration)
                .map_err(|why| format!("couldn't init admission plugin {name:?}: {why}"))?;
            plugins.extend(plugin.or_else(|| build(name)));
        }
        Ok(Chain(plugins))
    }

    /// The plugins' names in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|p| p.name()).collect()
    }

    /// Runs the mutating passes; the first refusal ends the chain. When a webhook or policy changed the object,
    /// all run once more on what it made (`k8s.io/apiserver/pkg/admission/reinvocation.go`).
    pub async fn admit(&self, attributes: &mut Attributes<'_>) -> Result<(), ApiError> {
        self.pass(attributes).await?;
        if attributes.reinvocation.begin_again() { self.pass(attributes).await } else { Ok(()) }
    }

    async fn pass(&self, attributes: &mut Attributes<'_>) -> Result<(), ApiError> {
        let operation = attributes.operation;
        for plugin in self.0.iter().filter(|p| p.handles(operation)) {
            plugin.admit(attributes).await?;
        }
        Ok(())
    }

    /// Runs the validating passes; the first refusal ends the chain.
    pub async fn validate(&self, attributes: &Attributes<'_>) -> Result<(), ApiError> {
        for plugin in self.0.iter().filter(|p| p.handles(attributes.operation)) {
            plugin.validate(attributes).await?;
        }
        Ok(())
    }
}

/// All plugins of upstream in execution order, with whether they are on by default
/// (`pkg/kubeapiserver/options/plugins.go`).
const UPSTREAM_ORDER: [(&str, bool); 39] = [
    ("AlwaysAdmit", false),
    ("NamespaceAutoProvision", false),
    ("NamespaceLifecycle", true),
    ("NamespaceExists", false),
    ("LimitPodHardAntiAffinityTopology", false),
    ("LimitRanger", true),
    ("ServiceAccount", true),
    ("NodeRestriction", false),
    ("TaintNodesByCondition", true),
    ("AlwaysPullImages", false),
    ("ImagePolicyWebhook", false),
    ("PodSecurity", true),
    ("PodNodeSelector", false),
    ("Priority", true),
    ("DefaultTolerationSeconds", true),
    ("PodTolerationRestriction", false),
    ("EventRateLimit", false),
    ("ExtendedResourceToleration", false),
    ("DefaultStorageClass", true),
    ("StorageObjectInUseProtection", true),
    ("PodGroupProtection", true),
    ("OwnerReferencesPermissionEnforcement", false),
    ("PersistentVolumeClaimResize", true),
    ("RuntimeClass", true),
    ("CertificateApproval", true),
    ("CertificateSigning", true),
    ("ClusterTrustBundleAttest", true),
    ("CertificateSubjectRestriction", true),
    ("DefaultIngressClass", true),
    ("DenyServiceExternalIPs", false),
    ("PodTopologyLabels", true),
    ("NodeDeclaredFeatureValidator", true),
    ("PodResizeValidator", true),
    ("MutatingAdmissionPolicy", true),
    ("MutatingAdmissionWebhook", true),
    ("ValidatingAdmissionPolicy", true),
    ("ValidatingAdmissionWebhook", true),
    ("ResourceQuota", true),
    ("AlwaysDeny", false),
];

/// Whether upstream has a plugin of this name.
pub fn is_known(name: &str) -> bool {
    UPSTREAM_ORDER.iter().any(|(known, _)| *known == name)
}

/// All names in order.
pub fn all_names() -> impl Iterator<Item = &'static str> {
    UPSTREAM_ORDER.iter().map(|(name, _)| *name)
}

/// The names of the plugins that are on by default without those in `disable`, and of those in `enable`, in order.
pub fn enabled(enable: &[String], disable: &[String]) -> Vec<&'static str> {
    let named = |list: &[String], name: &str| list.iter().any(|n| n == name);
    let on = |(name, default): &&(&str, bool)| named(enable, name) || (*default && !named(disable, name));
    UPSTREAM_ORDER.iter().filter(on).map(|(name, _)| *name).collect()
}

/// What plugins are configured with, decoded and checked (`--admission-control-config-file`).
#[derive(Clone, Default)]
pub struct Configuration {
    /// Of EventRateLimit, which has no default.
    pub event_rate_limit: event_rate_limit::Configuration,
    /// Of ImagePolicyWebhook, which has no default: its way to the webhook.
    pub image_policy: Option<Arc<image_policy_webhook::ImagePolicyWebhook>>,
    /// Of PodNodeSelector.
    pub pod_node_selector: BTreeMap<String, String>,
    /// Of PodSecurity.
    pub pod_security: pod_security::Configuration,
    /// Of PodTolerationRestriction.
    pub pod_toleration_restriction: pod_toleration_restriction::Configuration,
    /// Of ResourceQuota.
    pub resource_quota: resource_quota::Configuration,
}

/// A plugin that can be configured; `None` for others.
fn configured(name: &str, with: &Configuration) -> Result<Option<Arc<dyn Plugin>>, String> {
    Ok(Some(match name {
        "EventRateLimit" => {
            with.event_rate_limit.check()?;
            Arc::new(event_rate_limit::EventRateLimit::new(&with.event_rate_limit))
        }
        "ImagePolicyWebhook" => with.image_policy.clone().ok_or("no config specified")?,
        "PodNodeSelector" => Arc::new(pod_node_selector::PodNodeSelector(with.pod_node_selector.clone())),
        "PodSecurity" => Arc::new(pod_security::PodSecurity::new(&with.pod_security)?),
        "PodTolerationRestriction" => {
            let configuration = &with.pod_toleration_restriction;
            configuration.check()?;
            Arc::new(pod_toleration_restriction::PodTolerationRestriction(configuration.clone()))
        }
        "ResourceQuota" => {
            with.resource_quota.check()?;
            Arc::new(resource_quota::ResourceQuota(with.resource_quota.clone()))
        }
        _ => return Ok(None),
    }))
}

/// A plugin without configuration by upstream's name.
fn build(name: &str) -> Option<Arc<dyn Plugin>> {
    Some(match name {
        "AlwaysAdmit" => Arc::new(always::AlwaysAdmit),
        "NamespaceAutoProvision" => Arc::new(namespaces::NamespaceAutoProvision),
        "NamespaceExists" => Arc::new(namespaces::NamespaceExists),
        "LimitPodHardAntiAffinityTopology" => {
            Arc::new(limit_pod_hard_anti_affinity_topology::LimitPodHardAntiAffinityTopology)
        }
        "AlwaysPullImages" => Arc::new(always_pull_images::AlwaysPullImages),
        "ExtendedResourceToleration" => Arc::new(extended_resource_toleration::ExtendedResourceToleration),
        "OwnerReferencesPermissionEnforcement" => {
            Arc::new(owner_references_permission_enforcement::OwnerReferencesPermissionEnforcement)
        }
        "DenyServiceExternalIPs" => Arc::new(deny_service_external_ips::DenyServiceExternalIPs),
        "NodeDeclaredFeatureValidator" => {
            Arc::new(node_declared_feature_validator::NodeDeclaredFeatureValidator)
        }
        "PodResizeValidator" => Arc::new(pod_resize_validator::PodResizeValidator),
        "AlwaysDeny" => Arc::new(always::AlwaysDeny),
        "NamespaceLifecycle" => Arc::new(namespace_lifecycle::NamespaceLifecycle),
        "LimitRanger" => Arc::new(limit_ranger::LimitRanger),
        "ServiceAccount" => Arc::new(service_account::ServiceAccount),
        "NodeRestriction" => Arc::new(node_restriction::NodeRestriction),
        "TaintNodesByCondition" => Arc::new(objects::TaintNodesByCondition),
        "Priority" => Arc::new(priority::Priority),
        "DefaultTolerationSeconds" => Arc::new(pods::DefaultTolerationSeconds),
        "DefaultStorageClass" => Arc::new(objects::DefaultStorageClass),
        "StorageObjectInUseProtection" => Arc::new(objects::StorageObjectInUseProtection),
        "PodGroupProtection" => Arc::new(pod_group_protection::PodGroupProtection),
        "PersistentVolumeClaimResize" => Arc::new(objects::PersistentVolumeClaimResize),
        "RuntimeClass" => Arc::new(pods::RuntimeClass),
        "CertificateApproval" => Arc::new(certificates::CertificateApproval),
        "CertificateSigning" => Arc::new(certificates::CertificateSigning),
        "ClusterTrustBundleAttest" => Arc::new(certificates::ClusterTrustBundleAttest),
        "CertificateSubjectRestriction" => Arc::new(certificates::CertificateSubjectRestriction),
        "DefaultIngressClass" => Arc::new(objects::DefaultIngressClass),
        "PodTopologyLabels" => Arc::new(pods::PodTopologyLabels),
        "MutatingAdmissionPolicy" => Arc::new(policy::mutating::MutatingAdmissionPolicy),
        "MutatingAdmissionWebhook" => Arc::new(webhook::MutatingAdmissionWebhook),
        "ValidatingAdmissionPolicy" => Arc::new(policy::validating::ValidatingAdmissionPolicy),
        "ValidatingAdmissionWebhook" => Arc::new(webhook::ValidatingAdmissionWebhook),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plugin_is_here() {
        let mut configuration = Configuration::default();
        configuration.event_rate_limit.limits.push(event_rate_limit::Limit {
            kind: "Server".to_owned(),
            qps: 1,
            burst: 1,
            cache_size: 0,
        });
        let names: Vec<&str> = all_names().filter(|name| *name != "ImagePolicyWebhook").collect();
        assert_eq!(Chain::of(&names, &configuration).unwrap().names(), names);
    }

    #[test]
    fn enabled_ones() {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(enabled(&[], &[]).len(), 25);
        let some = enabled(&list(&["AlwaysDeny", "NodeRestriction"]), &list(&["LimitRanger"]));
        assert_eq!((some.len(), some[0], some[2]), (26, "NamespaceLifecycle", "NodeRestriction"));
        assert_eq!(some.last(), Some(&"AlwaysDeny"));
        let error = Chain::of(&["EventRateLimit"], &Configuration::default()).map(drop).unwrap_err();
        assert_eq!(
            error,
            "couldn't init admission plugin \"EventRateLimit\": limits: Invalid value: null: must not be empty"
        );
    }
}
