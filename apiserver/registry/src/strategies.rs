//! The strategies: one file per resource, or per few resources that differ little, that need more than the generic
//! behaviour.

mod admission_policy;
mod api_service;
mod app_armor;
mod batch;
mod certificate;
mod checked;
mod configuration;
mod definition;
mod devices;
mod endpoints;
mod evictions;
mod gated;
mod key_pair;
mod label_keys;
mod namespace;
mod node;
mod pod;
mod pod_certificate;
mod pool_status_request;
mod rbac;
mod service;
mod storage_version;
mod taint_rule;
mod trust_bundle;
mod volume;
mod webhook_configuration;
mod workload;
mod workload_groups;

use std::sync::Arc;

use ::api::resources::ResourceRow;
use ::api::validation::declarative;
use ::api::validation::field::{Error as FieldError, Path};
use ::api::validation::objectmeta::{validate_conditions, validate_long_named};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use machinery::Value;
use serde::de::DeserializeOwned;

use crate::codec;
use crate::conversion;
use crate::conversions;
use crate::strategy::{Call, Generic, Strategy, typed, typed_metadata};

/// The strategy of a row.
pub fn of(row: &ResourceRow) -> Arc<dyn Strategy> {
    match (row.kind.group, row.resource) {
        ("", "pods") => Arc::new(pod::Pods),
        ("", "nodes") => Arc::new(node::Nodes),
        ("", "namespaces") => Arc::new(namespace::Namespaces),
        ("", "configmaps") => Arc::new(configuration::ConfigMaps),
        ("", "secrets") => Arc::new(configuration::Secrets),
        ("", "serviceaccounts") => Arc::new(configuration::ServiceAccounts),
        ("", "services") => Arc::new(service::Services),
        ("", "podtemplates") => Arc::new(pod::PodTemplates),
        ("", "replicationcontrollers") => Arc::new(workload::ReplicationControllers),
        ("", "persistentvolumes") => Arc::new(volume::PersistentVolumes),
        ("", "persistentvolumeclaims") => Arc::new(volume::PersistentVolumeClaims),
        ("apps", "deployments") => Arc::new(workload::Deployments),
        ("apps", "replicasets") => Arc::new(workload::ReplicaSets),
        ("apps", "statefulsets") => Arc::new(workload::StatefulSets),
        ("apps", "daemonsets") => Arc::new(workload::DaemonSets),
        ("apps", "controllerrevisions") => Arc::new(workload::ControllerRevisions),
        ("batch", "jobs") => Arc::new(batch::Jobs),
        ("batch", "cronjobs") => Arc::new(batch::CronJobs),
        ("autoscaling", "horizontalpodautoscalers") => Arc::new(checked::Autoscalers),
        ("coordination.k8s.io", "leases") => Arc::new(checked::Leases),
        ("coordination.k8s.io", "leasecandidates") => Arc::new(checked::LeaseCandidates),
        ("policy", "poddisruptionbudgets") => Arc::new(checked::DisruptionBudgets),
        ("certificates.k8s.io", "certificatesigningrequests") => Arc::new(certificate::SigningRequests),
        ("discovery.k8s.io", "endpointslices") => Arc::new(endpoints::EndpointSlices),
        ("scheduling.k8s.io", "priorityclasses") => Arc::new(endpoints::PriorityClasses),
        ("scheduling.k8s.io", "workloads") => Arc::new(workload_groups::Workloads),
        ("scheduling.k8s.io", "podgroups") => Arc::new(workload_groups::PodGroups),
        ("scheduling.k8s.io", "compositepodgroups") => Arc::new(workload_groups::CompositePodGroups),
        ("storage.k8s.io", "volumeattachments") => Arc::new(checked::VOLUME_ATTACHMENTS),
        ("storage.k8s.io", "storageclasses") => Arc::new(checked::STORAGE_CLASSES),
        ("storage.k8s.io", "csidrivers") => Arc::new(checked::CSI_DRIVERS),
        ("storage.k8s.io", "csinodes") => Arc::new(checked::CSI_NODES),
        ("storage.k8s.io", "csistoragecapacities") => Arc::new(checked::CSI_STORAGE_CAPACITIES),
        ("storage.k8s.io", "volumeattributesclasses") => Arc::new(checked::VOLUME_ATTRIBUTES_CLASSES),
        ("node.k8s.io", "runtimeclasses") => Arc::new(checked::RUNTIME_CLASSES),
        ("resource.k8s.io", "deviceclasses") => Arc::new(devices::DeviceClasses),
        ("resource.k8s.io", "resourceclaims") => Arc::new(devices::ResourceClaims),
        ("resource.k8s.io", "resourceclaimtemplates") => Arc::new(devices::ResourceClaimTemplates),
        ("resource.k8s.io", "resourceslices") => Arc::new(devices::ResourceSlices),
        ("resource.k8s.io", "devicetaintrules") => Arc::new(taint_rule::DeviceTaintRules),
        ("resource.k8s.io", "resourcepoolstatusrequests") => {
            Arc::new(pool_status_request::ResourcePoolStatusRequests)
        }
        ("lifecycle.k8s.io", "evictionrequests") => Arc::new(evictions::EvictionRequests),
        ("lifecycle.k8s.io", "evictions") => Arc::new(evictions::Evictions),
        ("internal.apiserver.k8s.io", "storageversions") => Arc::new(storage_version::StorageVersions),
        ("storagemigration.k8s.io", "storageversionmigrations") => Arc::new(checked::STORAGE_MIGRATIONS),
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => Arc::new(checked::FLOW_SCHEMAS),
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => Arc::new(checked::PRIORITY_LEVELS),
        ("", "endpoints") => Arc::new(checked::ENDPOINTS),
        ("", "limitranges") => Arc::new(checked::LIMIT_RANGES),
        ("", "resourcequotas") => Arc::new(checked::RESOURCE_QUOTAS),
        ("" | "events.k8s.io", "events") => Arc::new(checked::Events),
        ("networking.k8s.io", "ingresses") => Arc::new(checked::INGRESSES),
        ("networking.k8s.io", "ingressclasses") => Arc::new(checked::INGRESS_CLASSES),
        ("networking.k8s.io", "networkpolicies") => Arc::new(checked::NETWORK_POLICIES),
        ("networking.k8s.io", "ipaddresses") => Arc::new(checked::IpAddresses),
        ("networking.k8s.io", "servicecidrs") => Arc::new(checked::SERVICE_CIDRS),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations") => {
            Arc::new(webhook_configuration::MUTATING)
        }
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations") => {
            Arc::new(webhook_configuration::VALIDATING)
        }
        ("apiextensions.k8s.io", "customresourcedefinitions") => {
            Arc::new(definition::CustomResourceDefinitions)
        }
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => {
            Arc::new(admission_policy::ValidatingPolicies)
        }
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings") => {
            Arc::new(admission_policy::Bindings(admission_policy::Policies::Validating))
        }
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => {
            Arc::new(admission_policy::MutatingPolicies)
        }
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings") => {
            Arc::new(admission_policy::Bindings(admission_policy::Policies::Mutating))
        }
        ("apiregistration.k8s.io", "apiservices") => Arc::new(api_service::ApiServices),
        ("rbac.authorization.k8s.io", _) => Arc::new(rbac::Rbac),
        ("certificates.k8s.io", "clustertrustbundles") => Arc::new(trust_bundle::TrustBundles),
        ("certificates.k8s.io", "podcertificaterequests") => Arc::new(pod_certificate::PodCertificates),
        _ => Arc::new(Generic::SUBDOMAIN),
    }
}

/// Validates the typed form of an object.
fn validated<T: DeserializeOwned>(object: &Value, check: impl Fn(&T) -> Vec<FieldError>) -> Vec<FieldError> {
    match typed(object) {
        Ok(typed) => check(&typed),
        Err(error) => vec![error],
    }
}

/// Warnings about the typed form of an object, which is valid.
fn warned<T: DeserializeOwned>(object: &Value, tell: impl Fn(&T) -> Vec<String>) -> Vec<String> {
    typed(object).map(|typed| tell(&typed)).unwrap_or_default()
}

/// The conditions of a status.
fn conditions(object: &Value) -> Vec<FieldError> {
    let status = Path::new("status");
    let path = status.child("conditions");
    let Some(list) = object.get_path(&["status", "conditions"]).filter(|c| !c.is_null()) else {
        return Vec::new();
    };
    match machinery::value::from_value::<Vec<Condition>>(list) {
        Ok(conditions) => validate_conditions(&conditions, &path),
        Err(error) => vec![FieldError::internal(&path, error.to_string())],
    }
}

/// Metadata of kinds whose own rules judge the name too.
fn long_named(call: &Call<'_>, object: &Value) -> Vec<FieldError> {
    match typed_metadata(object) {
        Ok(metadata) => validate_long_named(&metadata, call.resource.row.namespaced, &Path::new("metadata")),
        Err(error) => vec![error],
    }
}

/// What was told already, and what the declarative rules of the object's type refuse.
fn with_declared(
    call: &Call<'_>,
    written: Vec<FieldError>,
    object: &Value,
    old: Option<&Value>,
) -> Vec<FieldError> {
    let kind = call.resource.row.kind;
    let Some(id) = ::api::types().kind(&kind.api_version(), kind.kind) else { return written };
    let options = call.core.settings.gates.options();
    if kind.group != "resource.k8s.io" || conversion::hub(kind) == kind {
        return declarative::together(written, declarative::validate(id, object, old, &options));
    }
    // Rules are of the version of the request, and tell its paths.
    match (codec::served(object, kind), old.map(|old| codec::served(old, kind)).transpose()) {
        (Ok(object), Ok(old)) => {
            let declared = declarative::validate(id, &object, old.as_ref(), &options);
            declarative::together_by(written, declared, conversions::devices::path_in_v1)
        }
        (Err(error), _) | (_, Err(error)) => vec![FieldError::internal(&Path::ROOT, error.message)],
    }
}

/// As [`with_declared`], of a pod or of a kind with a pod template at a path. Responders to evictions, which typed pods
/// do not know, do not go with a scheduling group; both are of features that are off by default.
fn with_pod_rules(
    call: &Call<'_>,
    mut written: Vec<FieldError>,
    object: &Value,
    old: Option<&Value>,
    pod: &[&str],
) -> Vec<FieldError> {
    let at = |field| pod.iter().copied().chain(["spec", field]).collect::<Vec<_>>();
    let (group, responders) = (at("schedulingGroup"), at("evictionResponders"));
    let grouped = object.get_path(&group).is_some_and(|g| !g.is_null());
    if !call.is_status() && grouped && object.list_at(&responders).is_some_and(|r| !r.is_empty()) {
        let detail = "may not be set when evictionResponders is set";
        written.push(FieldError::forbidden(&Path::new(&group.join(".")), detail));
    }
    with_declared(call, written, object, old)
}

/// Validates the typed forms of a changed object and its stored version.
fn validated_update<T: DeserializeOwned>(
    object: &Value,
    old: &Value,
    check: impl Fn(&T, &T) -> Vec<FieldError>,
) -> Vec<FieldError> {
    match (typed(object), typed(old)) {
        (Ok(new), Ok(old)) => check(&new, &old),
        (Err(error), _) | (_, Err(error)) => vec![error],
    }
}

/// Copies what stands at a path of the old object where the new one has nothing.
fn keep_if_absent(object: &mut Value, old: &Value, path: &[&str]) {
    let absent = match object.get_path(path) {
        None | Some(Value::Null) => true,
        Some(Value::Str(text)) => text.is_empty(),
        Some(Value::Int(n)) => *n == 0,
        Some(_) => false,
    };
    if let (true, Some(value)) = (absent, old.get_path(path).filter(|v| !v.is_null())) {
        // A path that cannot be set is one that decoding has already refused.
        let _ = object.set_path(path, value.clone());
    }
}
