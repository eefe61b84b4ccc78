//! Defaults of the core group. Upstream: pkg/apis/core/v1/defaults.go.

mod misc;
mod pod;
pub mod pod_level;
mod service;
mod volume;

use super::Function;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("core/v1.ConfigMapVolumeSource", volume::config_map),
    ("core/v1.Container", pod::container),
    ("core/v1.DownwardAPIVolumeSource", volume::downward_api),
    ("core/v1.Endpoints", service::endpoints),
    ("core/v1.EphemeralContainer", pod::container),
    ("core/v1.HTTPGetAction", pod::http_get),
    ("core/v1.HostPathVolumeSource", volume::host_path),
    ("core/v1.LimitRangeItem", misc::limit_range_item),
    ("core/v1.Namespace", misc::namespace),
    ("core/v1.NamespaceStatus", misc::namespace_status),
    ("core/v1.NodeStatus", misc::node_status),
    ("core/v1.ObjectFieldSelector", misc::object_field_selector),
    ("core/v1.PersistentVolume", volume::persistent_volume),
    ("core/v1.PersistentVolumeClaim", volume::claim),
    ("core/v1.PersistentVolumeClaimSpec", volume::claim_spec),
    ("core/v1.Pod", pod::pod),
    ("core/v1.PodLogOptions", pod::log_options),
    ("core/v1.PodSpec", pod::spec),
    ("core/v1.PodStatus", pod::status),
    ("core/v1.Probe", pod::probe),
    ("core/v1.ProjectedVolumeSource", volume::projected),
    ("core/v1.ReplicationController", misc::replication_controller),
    ("core/v1.Secret", misc::secret),
    ("core/v1.SecretVolumeSource", volume::secret),
    ("core/v1.Service", service::service),
    ("core/v1.ServiceAccountTokenProjection", volume::token_projection),
    ("core/v1.Volume", volume::volume),
];
