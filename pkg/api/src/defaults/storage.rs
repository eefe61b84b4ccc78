//! Defaults of the storage group. Upstream: pkg/apis/storage/v1/defaults.go.

use super::fields::{child, if_nil, items};
use super::{Context, Function};
use machinery::Map;

pub(super) const FUNCTIONS: &[(&str, Function)] =
    &[("storage/v1.CSIDriver", csi_driver), ("storage/v1.StorageClass", storage_class)];

fn storage_class(m: &mut Map, _: &Context) {
    if_nil(m, "reclaimPolicy", "Delete");
    if_nil(m, "volumeBindingMode", "Immediate");
}

fn csi_driver(m: &mut Map, context: &Context) {
    let spec = child(m, "spec");
    if_nil(spec, "attachRequired", true);
    if_nil(spec, "podInfoOnMount", false);
    if_nil(spec, "storageCapacity", false);
    if_nil(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if items(spec, "volumeLifecycleModes").is_empty() {
        spec.insert("volumeLifecycleModes", vec!["Persistent"]);
    }
    if_nil(spec, "requiresRepublish", false);
    if_nil(spec, "seLinuxMount", false);
    if context.gates.volume_limit_scaling {
        if_nil(spec, "preventPodSchedulingIfMissing", false);
    }
}
