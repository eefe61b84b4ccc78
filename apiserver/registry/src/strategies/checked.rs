//! Kinds that have nothing of their own but validation.

use std::marker::PhantomData;

use ::api::validation::field::Error as FieldError;
use ::api::validation::objectmeta::{self, NameRule};
use ::api::validation::{autoscaling, coordination, core, flowcontrol, networking, node, policy, storage};
use k8s_openapi::api::core::v1 as core_v1;
use k8s_openapi::api::flowcontrol::v1 as flowcontrol_v1;
use k8s_openapi::api::networking::v1 as networking_v1;
use k8s_openapi::api::storage::v1 as storage_v1;
use machinery::Value;
use serde::de::DeserializeOwned;

use super::{validated, validated_update, with_declared};
use crate::strategy::{
    Call, Strategy, generic_prepare_for_create, generic_prepare_for_update, reset_metadata_for_status,
};

/// A kind whose objects are normalized as the resource table says, and validated by functions over its type and by the
/// type's declarative rules.
pub struct Checked<T> {
    create: fn(&T) -> Vec<FieldError>,
    update: fn(&T, &T) -> Vec<FieldError>,
    status: Option<fn(&T, &T) -> Vec<FieldError>>,
    /// A status update touches no metadata.
    status_alone: bool,
    /// What of the stored object counts for nothing in a new one.
    prepare: Option<fn(&mut Value, Option<&Value>)>,
    kind: PhantomData<fn(T)>,
}

impl<T> Checked<T> {
    /// A kind without a status of its own.
    pub const fn new(create: fn(&T) -> Vec<FieldError>, update: fn(&T, &T) -> Vec<FieldError>) -> Self {
        Checked { create, update, status: None, status_alone: false, prepare: None, kind: PhantomData }
    }

    /// With a check of status updates; `alone` says that these touch no metadata.
    pub const fn with_status(self, status: fn(&T, &T) -> Vec<FieldError>, alone: bool) -> Self {
        Checked { status: Some(status), status_alone: alone, ..self }
    }

    /// With a last change before validation, which is told the stored object, if there is one.
    pub const fn prepared(self, prepare: fn(&mut Value, Option<&Value>)) -> Self {
        Checked { prepare: Some(prepare), ..self }
    }
}

impl<T: DeserializeOwned + 'static> Strategy for Checked<T> {
    fn prepare_for_create(&self, call: &Call<'_>, object: &mut Value) {
        generic_prepare_for_create(call, object);
        if let Some(prepare) = self.prepare {
            prepare(object, None);
        }
    }

    fn validate(&self, call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        let errors = validated(object, self.create);
        with_declared(call, errors, object, None)
    }

    fn prepare_for_update(&self, call: &Call<'_>, object: &mut Value, old: &Value) {
        generic_prepare_for_update(call, object, old);
        if call.is_status() && self.status_alone {
            reset_metadata_for_status(object, old);
        }
        if let Some(prepare) = self.prepare {
            prepare(object, Some(old));
        }
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        let check = if call.is_status() { self.status } else { Some(self.update) };
        let errors = check.map_or_else(Vec::new, |check| validated_update(object, old, check));
        with_declared(call, errors, object, Some(old))
    }
}

/// Ingresses.
pub const INGRESSES: Checked<networking_v1::Ingress> =
    Checked::new(networking::ingress::validate, networking::ingress::validate_update)
        .with_status(networking::ingress::validate_status_update, false);

/// Ingress classes.
pub const INGRESS_CLASSES: Checked<networking_v1::IngressClass> =
    Checked::new(networking::ingress_class::validate, networking::ingress_class::validate_update);

/// Network policies.
pub const NETWORK_POLICIES: Checked<networking_v1::NetworkPolicy> =
    Checked::new(networking::network_policy::validate, networking::network_policy::validate_update);

/// Addresses of services.
pub const IP_ADDRESSES: Checked<networking_v1::IPAddress> =
    Checked::new(networking::ip_address::validate, networking::ip_address::validate_update);

/// Networks of services.
pub const SERVICE_CIDRS: Checked<networking_v1::ServiceCIDR> =
    Checked::new(networking::service_cidr::validate, networking::service_cidr::validate_update)
        .with_status(networking::service_cidr::validate_status_update, true);

/// Storage classes.
pub const STORAGE_CLASSES: Checked<storage_v1::StorageClass> =
    Checked::new(storage::class::validate, storage::class::validate_update);

/// CSI drivers.
pub const CSI_DRIVERS: Checked<storage_v1::CSIDriver> =
    Checked::new(storage::csi_driver::validate, storage::csi_driver::validate_update);

/// CSI nodes, whose drivers' health is told only with a feature that is off.
pub const CSI_NODES: Checked<storage_v1::CSINode> =
    Checked::new(storage::csi_node::validate, storage::csi_node::validate_update)
        .with_status(storage::csi_node::validate_status_update, true)
        .prepared(|node, old| {
            let known = old.and_then(|o| o.list_at(&["status", "storageHealth"]));
            if known.is_none_or(|l| l.is_empty()) {
                node.remove_path(&["status", "storageHealth"]);
            }
        });

/// CSI storage capacities.
pub const CSI_STORAGE_CAPACITIES: Checked<storage_v1::CSIStorageCapacity> =
    Checked::new(storage::capacity::validate, storage::capacity::validate_update);

/// Volume attachments.
pub const VOLUME_ATTACHMENTS: Checked<storage_v1::VolumeAttachment> =
    Checked::new(storage::attachment::validate, storage::attachment::validate_update)
        .with_status(storage::attachment::validate_update, true);

/// Volume attributes classes.
pub const VOLUME_ATTRIBUTES_CLASSES: Checked<storage_v1::VolumeAttributesClass> =
    Checked::new(storage::attributes_class::validate, storage::attributes_class::validate_update);

/// Runtime classes.
pub const RUNTIME_CLASSES: Checked<k8s_openapi::api::node::v1::RuntimeClass> =
    Checked::new(node::validate, node::validate_update);

/// Flow schemas.
pub const FLOW_SCHEMAS: Checked<flowcontrol_v1::FlowSchema> =
    Checked::new(flowcontrol::flow_schema::validate, flowcontrol::flow_schema::validate_update)
        .with_status(flowcontrol::flow_schema::validate_status_update, false);

/// Priority levels.
pub const PRIORITY_LEVELS: Checked<flowcontrol_v1::PriorityLevelConfiguration> =
    Checked::new(flowcontrol::priority_level::validate, flowcontrol::priority_level::validate_update)
        .with_status(flowcontrol::priority_level::validate_status_update, false);

/// Endpoints.
pub const ENDPOINTS: Checked<core_v1::Endpoints> =
    Checked::new(core::endpoints::validate, core::endpoints::validate_update);

/// Limit ranges.
pub const LIMIT_RANGES: Checked<core_v1::LimitRange> =
    Checked::new(core::limit_range::validate, core::limit_range::validate_update);

/// Resource quotas.
pub const RESOURCE_QUOTAS: Checked<core_v1::ResourceQuota> =
    Checked::new(core::resource_quota::validate, core::resource_quota::validate_update)
        .with_status(core::resource_quota::validate_status_update, false);

/// Events. What comes through events.k8s.io is judged strictly.
pub struct Events;

impl Events {
    fn strict(call: &Call<'_>) -> bool {
        call.resource.row.kind.group == "events.k8s.io"
    }
}

impl Strategy for Events {
    fn judges_finalizers(&self, call: &Call<'_>) -> bool {
        Self::strict(call)
    }

    fn validate(&self, call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, |event| core::event::validate(event, Self::strict(call)))
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        validated_update(object, old, |new, old| core::event::validate_update(new, old, Self::strict(call)))
    }
}

/// Autoscalers.
pub struct Autoscalers;

impl Strategy for Autoscalers {
    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, autoscaling::validate)
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        if call.is_status() {
            return validated_update(object, old, autoscaling::validate_status_update);
        }
        validated_update(object, old, autoscaling::validate_update)
    }
}

/// Leases.
pub struct Leases;

impl Strategy for Leases {
    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, coordination::validate_lease)
    }

    fn validate_update(&self, _call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        validated_update(object, old, coordination::validate_lease_update)
    }
}

/// Disruption budgets; of their metadata only what is common to all kinds is validated.
pub struct DisruptionBudgets;

impl Strategy for DisruptionBudgets {
    fn name_rule(&self) -> NameRule {
        objectmeta::name_is_path_segment
    }

    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, policy::validate_pod_disruption_budget)
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, _old: &Value) -> Vec<FieldError> {
        if call.is_status() {
            return validated(object, policy::validate_pod_disruption_budget_status);
        }
        validated(object, policy::validate_pod_disruption_budget)
    }
}
