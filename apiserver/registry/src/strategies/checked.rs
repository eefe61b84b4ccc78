//! Kinds that have nothing of their own but validation.

use std::marker::PhantomData;

use ::api::validation::field::Error as FieldError;
use ::api::validation::objectmeta::{self, NameRule};
use ::api::validation::{
    autoscaling, coordination, core, declarative, flowcontrol, networking, node, policy, storage,
    storagemigration,
};
use ::api::warnings;
use k8s_openapi::api::core::v1 as core_v1;
use k8s_openapi::api::flowcontrol::v1 as flowcontrol_v1;
use k8s_openapi::api::networking::v1 as networking_v1;
use k8s_openapi::api::storage::v1 as storage_v1;
use k8s_openapi::api::storagemigration::v1::StorageVersionMigration;
use machinery::Value;
use serde::de::DeserializeOwned;

use super::{validated, validated_update, warned, with_declared};
use crate::meta;
use crate::strategy::{
    Call, Strategy, generic_judges_finalizers, generic_prepare_for_create, generic_prepare_for_update,
    keep_metadata, reset_metadata_for_status, validate_metadata,
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

/// Which changes are judged as new objects first, metadata and all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Renewed {
    Never,
    Main,
    Always,
}

/// A kind whose objects are normalized as the resource table says, and validated by functions over its type and by the
/// type's declarative rules.
pub struct Checked<T> {
    create: fn(&T) -> Vec<FieldError>,
    update: fn(&T, &T) -> Vec<FieldError>,
    status: Option<fn(&T, &T) -> Vec<FieldError>>,
    status_metadata: StatusMetadata,
    renewed: Renewed,
    /// What of the stored object counts for nothing in a new one.
    prepare: Option<fn(&mut Value, Option<&Value>)>,
    warn: Option<Warn<T>>,
    kind: PhantomData<fn(T)>,
}

/// Warnings about a valid object; those about a changed one are told what changed.
type Warn<T> = fn(&T, Change<&T>) -> Vec<String>;

/// How an object is written.
#[derive(Clone, Copy)]
pub enum Change<T> {
    /// It is new.
    New,
    /// It takes the place of this one.
    Of(T),
    /// Its status changes.
    Status,
}

impl<T> Checked<T> {
    /// A kind without a status of its own.
    pub const fn new(create: fn(&T) -> Vec<FieldError>, update: fn(&T, &T) -> Vec<FieldError>) -> Self {
        Checked {
            create,
            update,
            status: None,
            status_metadata: StatusMetadata::Open,
            renewed: Renewed::Never,
            prepare: None,
            warn: None,
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

    /// Whose update validation begins with that of a new object.
    pub const fn renewed(self) -> Self {
        Checked { renewed: Renewed::Main, ..self }
    }

    /// As [`Checked::renewed`], and so does that of a changed status.
    pub const fn always_renewed(self) -> Self {
        Checked { renewed: Renewed::Always, ..self }
    }

    /// With a last change before validation, which is told the stored object, if there is one.
    pub const fn prepared(self, prepare: fn(&mut Value, Option<&Value>)) -> Self {
        Checked { prepare: Some(prepare), ..self }
    }
}

impl<T> Checked<T> {
    /// With warnings.
    pub const fn warned(self, warn: Warn<T>) -> Self {
        Checked { warn: Some(warn), ..self }
    }
}

impl<T: DeserializeOwned + 'static> Strategy for Checked<T> {
    fn warnings_on_create(&self, _call: &Call<'_>, object: &Value) -> Vec<String> {
        self.warn.map(|warn| warned(object, |typed: &T| warn(typed, Change::New))).unwrap_or_default()
    }

    fn warnings_on_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<String> {
        let Some(warn) = self.warn else { return Vec::new() };
        if call.is_status() {
            return warned(object, |typed: &T| warn(typed, Change::Status));
        }
        warned(object, |typed: &T| warned(old, |old: &T| warn(typed, Change::Of(old))))
    }

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

    fn judges_finalizers(&self, call: &Call<'_>) -> bool {
        match self.renewed {
            Renewed::Never => generic_judges_finalizers(call),
            Renewed::Main => call.is_status(),
            Renewed::Always => false,
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
        .with_status(networking::ingress::validate_status_update, StatusMetadata::Open)
        .warned(|ingress, change| match change {
            Change::New => warnings::networking::ingress(ingress),
            Change::Of(_) => Vec::new(),
            Change::Status => warnings::networking::ingress_status(ingress),
        });

/// Ingress classes.
pub const INGRESS_CLASSES: Checked<networking_v1::IngressClass> =
    Checked::new(networking::ingress_class::validate, networking::ingress_class::validate_update);

/// Network policies.
pub const NETWORK_POLICIES: Checked<networking_v1::NetworkPolicy> =
    Checked::new(networking::network_policy::validate, networking::network_policy::validate_update)
        .warned(|policy, _| warnings::networking::network_policy(policy));

/// Networks of services.
pub const SERVICE_CIDRS: Checked<networking_v1::ServiceCIDR> =
    Checked::new(networking::service_cidr::validate, networking::service_cidr::validate_update)
        .with_status(networking::service_cidr::validate_status_update, StatusMetadata::Reset);

/// Storage classes.
pub const STORAGE_CLASSES: Checked<storage_v1::StorageClass> =
    Checked::new(storage::class::validate, storage::class::validate_update)
        .renewed()
        .warned(|class, _| warnings::storage::class(class));

/// CSI drivers.
pub const CSI_DRIVERS: Checked<storage_v1::CSIDriver> =
    Checked::new(storage::csi_driver::validate, storage::csi_driver::validate_update).warned(
        |driver, change| match change {
            Change::New => warnings::storage::csi_driver(driver, None),
            Change::Of(old) => warnings::storage::csi_driver(driver, Some(old)),
            Change::Status => Vec::new(),
        },
    );

/// CSI nodes, whose drivers' health is told only with a feature that is off.
pub const CSI_NODES: Checked<storage_v1::CSINode> =
    Checked::new(storage::csi_node::validate, storage::csi_node::validate_update)
        .with_status(storage::csi_node::validate_status_update, StatusMetadata::Reset)
        .renewed()
        .prepared(|node, old| {
            let known = old.and_then(|o| o.list_at(&["status", "storageHealth"]));
            if known.is_none_or(|l| l.is_empty()) {
                node.remove_path(&["status", "storageHealth"]);
            }
        });

/// CSI storage capacities.
pub const CSI_STORAGE_CAPACITIES: Checked<storage_v1::CSIStorageCapacity> =
    Checked::new(storage::capacity::validate, storage::capacity::validate_update)
        .renewed()
        .warned(|capacity, _| warnings::storage::capacity(capacity));

/// Volume attachments.
pub const VOLUME_ATTACHMENTS: Checked<storage_v1::VolumeAttachment> =
    Checked::new(storage::attachment::validate, storage::attachment::validate_update)
        .with_status(storage::attachment::validate_update, StatusMetadata::Reset)
        .always_renewed();

/// Volume attributes classes.
pub const VOLUME_ATTRIBUTES_CLASSES: Checked<storage_v1::VolumeAttributesClass> =
    Checked::new(storage::attributes_class::validate, storage::attributes_class::validate_update);

/// Runtime classes.
pub const RUNTIME_CLASSES: Checked<k8s_openapi::api::node::v1::RuntimeClass> =
    Checked::new(node::validate, node::validate_update)
        .warned(|class, _| warnings::node::runtime_class(class));

/// Flow schemas.
pub const FLOW_SCHEMAS: Checked<flowcontrol_v1::FlowSchema> =
    Checked::new(flowcontrol::flow_schema::validate, flowcontrol::flow_schema::validate_update)
        .with_status(flowcontrol::flow_schema::validate_status_update, StatusMetadata::Kept);

/// Priority levels.
pub const PRIORITY_LEVELS: Checked<flowcontrol_v1::PriorityLevelConfiguration> =
    Checked::new(flowcontrol::priority_level::validate, flowcontrol::priority_level::validate_update)
        .with_status(flowcontrol::priority_level::validate_status_update, StatusMetadata::Kept);

/// Migrations of stored objects.
pub const STORAGE_MIGRATIONS: Checked<StorageVersionMigration> =
    Checked::new(storagemigration::validate, storagemigration::validate_update)
        .with_status(storagemigration::validate_status_update, StatusMetadata::Reset)
        .renewed();

/// Endpoints.
pub const ENDPOINTS: Checked<core_v1::Endpoints> =
    Checked::new(core::endpoints::validate, core::endpoints::validate_update)
        .warned(|endpoints, _| warnings::networking::endpoints(endpoints));

/// Limit ranges, which name themselves.
pub const LIMIT_RANGES: Checked<core_v1::LimitRange> =
    Checked::new(core::limit_range::validate, core::limit_range::validate_update).renewed().prepared(
        |range, old| {
            if old.is_none() && meta::name(range).is_empty() {
                meta::set(range, "name", uuid::Uuid::new_v4().to_string());
            }
        },
    );

/// Resource quotas.
pub const RESOURCE_QUOTAS: Checked<core_v1::ResourceQuota> =
    Checked::new(core::resource_quota::validate, core::resource_quota::validate_update)
        .with_status(core::resource_quota::validate_status_update, StatusMetadata::Open)
        .warned(|quota, change| match change {
            Change::New => warnings::workload::quota(quota),
            Change::Of(_) | Change::Status => Vec::new(),
        });

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

/// Autoscalers, which are judged as what they are in v2.
pub struct Autoscalers;

fn with_declared_of_v2(written: Vec<FieldError>, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let Some(id) = ::api::types().kind("autoscaling/v2", "HorizontalPodAutoscaler") else { return written };
    // The feature is on.
    let declared = declarative::validate(id, object, old, &["HPAScaleToZero"]);
    declarative::together(written, declared)
}

impl Strategy for Autoscalers {
    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        with_declared_of_v2(validated(object, autoscaling::validate), object, None)
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        let errors = if call.is_status() {
            validated_update(object, old, autoscaling::validate_status_update)
        } else {
            validated_update(object, old, autoscaling::validate_update)
        };
        with_declared_of_v2(errors, object, Some(old))
    }
}

/// Addresses of services.
pub struct IpAddresses;

fn parented(address: &Value) -> bool {
    address.get_path(&["spec", "parentRef"]).is_some_and(|p| !p.is_null())
}

impl Strategy for IpAddresses {
    fn judges_finalizers(&self, _call: &Call<'_>) -> bool {
        false
    }

    fn validate(&self, call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        let errors = validated(object, |a| networking::ip_address::validate(a, parented(object)));
        with_declared(call, errors, object, None)
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        let check = |new: &_, old: &_| networking::ip_address::validate_update(new, old, parented(object));
        with_declared(call, validated_update(object, old, check), object, Some(old))
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

/// Candidates for leases. What a change may do to metadata is judged, metadata that stays is not.
pub struct LeaseCandidates;

impl Strategy for LeaseCandidates {
    fn name_rule(&self) -> NameRule {
        coordination::name_is_config_key
    }

    fn prepare_for_create(&self, _call: &Call<'_>, _candidate: &mut Value) {}

    fn prepare_for_update(&self, _call: &Call<'_>, _candidate: &mut Value, _old: &Value) {}

    fn validate(&self, call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = validate_metadata(call, object, self.name_rule());
        errors.extend(validated(object, coordination::validate_candidate));
        errors
    }

    fn validate_update(&self, _call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        validated_update(object, old, coordination::validate_candidate_update)
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
