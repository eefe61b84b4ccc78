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
use crate::meta;
use crate::strategy::{
    Call, Strategy, generic_prepare_for_create, generic_prepare_for_update, keep_metadata,
    reset_metadata_for_status,
};

/// What a status update may change of the metadata.
#[derive(Clone, Copy)]
pub enum StatusMetadata {
    /// Anything.
    Open,
    /// The identity, which is then refused: `metadata.ResetObjectMetaForStatus`.
    Reset,
    /// Nothing: the stored metadata stands.
    Kept,
}

/// A kind whose objects are normalized as the resource table says, and validated by functions over its type and by the
/// type's declarative rules.
pub struct Checked<T> {
    create: fn(&T) -> Vec<FieldError>,
    update: fn(&T, &T) -> Vec<FieldError>,
    status: Option<fn(&T, &T) -> Vec<FieldError>>,
    status_metadata: StatusMetadata,
    /// What of the stored object counts for nothing in a new one.
    prepare: Option<fn(&mut Value, Option<&Value>)>,
    kind: PhantomData<fn(T)>,
}

impl<T> Checked<T> {
    /// A kind without a status of its own.
    pub const fn new(create: fn(&T) -> Vec<FieldError>, update: fn(&T, &T) -> Vec<FieldError>) -> Self {
        Checked {
            create,
            update,
            status: None,
            status_metadata: StatusMetadata::Open,
            prepare: None,
            kind: PhantomData,
        }
    }

    /// With a check of status updates.
    pub const fn with_status(
        self,
        status: fn(&T, &T) -> Vec<FieldError>,
        status_metadata: StatusMetadata,
    ) -> Self {
        Checked { status: Some(status), status_metadata, ..self }
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
        match self.status_metadata {
            StatusMetadata::Reset if call.is_status() => reset_metadata_for_status(object, old),
            StatusMetadata::Kept if call.is_status() => keep_metadata(object, old),
            _ => {}
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
        .with_status(networking::ingress::validate_status_update, StatusMetadata::Open);

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
        .with_status(networking::service_cidr::validate_status_update, StatusMetadata::Reset);

/// Storage classes.
pub const STORAGE_CLASSES: Checked<storage_v1::StorageClass> =
    Checked::new(storage::class::validate, storage::class::validate_update);

/// CSI drivers.
pub const CSI_DRIVERS: Checked<storage_v1::CSIDriver> =
    Checked::new(storage::csi_driver::validate, storage::csi_driver::validate_update);

/// CSI nodes, whose drivers' health is told only with a feature that is off.
pub const CSI_NODES: Checked<storage_v1::CSINode> =
    Checked::new(storage::csi_node::validate, storage::csi_node::validate_update)
        .with_status(storage::csi_node::validate_status_update, StatusMetadata::Reset)
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
        .with_status(storage::attachment::validate_update, StatusMetadata::Reset);

/// Volume attributes classes.
pub const VOLUME_ATTRIBUTES_CLASSES: Checked<storage_v1::VolumeAttributesClass> =
    Checked::new(storage::attributes_class::validate, storage::attributes_class::validate_update);

/// Runtime classes.
pub const RUNTIME_CLASSES: Checked<k8s_openapi::api::node::v1::RuntimeClass> =
    Checked::new(node::validate, node::validate_update);

/// Flow schemas.
pub const FLOW_SCHEMAS: Checked<flowcontrol_v1::FlowSchema> =
    Checked::new(flowcontrol::flow_schema::validate, flowcontrol::flow_schema::validate_update)
        .with_status(flowcontrol::flow_schema::validate_status_update, StatusMetadata::Kept);

/// Priority levels.
pub const PRIORITY_LEVELS: Checked<flowcontrol_v1::PriorityLevelConfiguration> =
    Checked::new(flowcontrol::priority_level::validate, flowcontrol::priority_level::validate_update)
        .with_status(flowcontrol::priority_level::validate_status_update, StatusMetadata::Kept);

/// Endpoints.
pub const ENDPOINTS: Checked<core_v1::Endpoints> =
    Checked::new(core::endpoints::validate, core::endpoints::validate_update);

/// Limit ranges, which name themselves.
pub const LIMIT_RANGES: Checked<core_v1::LimitRange> =
    Checked::new(core::limit_range::validate, core::limit_range::validate_update).prepared(|range, old| {
        if old.is_none() && meta::name(range).is_empty() {
            meta::set(range, "name", uuid::Uuid::new_v4().to_string());
        }
    });

/// Resource quotas.
pub const RESOURCE_QUOTAS: Checked<core_v1::ResourceQuota> =
    Checked::new(core::resource_quota::validate, core::resource_quota::validate_update)
        .with_status(core::resource_quota::validate_status_update, StatusMetadata::Open);

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

/// Fields of coordinated leader election, a feature that is off: dropped where they are new.
fn drop_election(lease: &mut Value, old: Option<&Value>) {
    for field in [["spec", "strategy"], ["spec", "preferredHolder"]] {
        if old.and_then(|o| o.get_path(&field)).is_none_or(Value::is_null) {
            lease.remove_path(&field);
        }
    }
}

impl Strategy for Leases {
    fn prepare_for_create(&self, _call: &Call<'_>, lease: &mut Value) {
        drop_election(lease, None);
    }

    fn prepare_for_update(&self, _call: &Call<'_>, lease: &mut Value, old: &Value) {
        drop_election(lease, Some(old));
    }

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
