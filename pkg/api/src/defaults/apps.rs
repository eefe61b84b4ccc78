//! Defaults of the apps group. Upstream: pkg/apis/apps/v1/defaults.go.

use super::fields::{child, empty, if_empty, if_nil, is_nil, pointer, text};
use super::{Context, Function};
use machinery::Map;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("apps/v1.DaemonSet", daemon_set),
    ("apps/v1.Deployment", deployment),
    ("apps/v1.ReplicaSet", replica_set),
    ("apps/v1.StatefulSet", stateful_set),
];

const ROLLING: &str = "RollingUpdate";

fn deployment(m: &mut Map, _: &Context) {
    let spec = child(m, "spec");
    if_nil(spec, "replicas", 1);
    let strategy = child(spec, "strategy");
    if_empty(strategy, "type", ROLLING);
    if text(strategy, "type") == ROLLING {
        let rolling = child(strategy, "rollingUpdate");
        if_nil(rolling, "maxUnavailable", "25%");
        if_nil(rolling, "maxSurge", "25%");
    }
    if_nil(spec, "revisionHistoryLimit", 10);
    if_nil(spec, "progressDeadlineSeconds", 600);
}

fn daemon_set(m: &mut Map, _: &Context) {
    let spec = child(m, "spec");
    let strategy = child(spec, "updateStrategy");
    if_empty(strategy, "type", ROLLING);
    if text(strategy, "type") == ROLLING {
        let rolling = child(strategy, "rollingUpdate");
        if_nil(rolling, "maxUnavailable", 1);
        if_nil(rolling, "maxSurge", 0);
    }
    if_nil(spec, "revisionHistoryLimit", 10);
}

fn stateful_set(m: &mut Map, context: &Context) {
    let spec = child(m, "spec");
    if_empty(spec, "podManagementPolicy", "OrderedReady");
    let strategy = child(spec, "updateStrategy");
    if text(strategy, "type").is_empty() {
        strategy.insert("type", ROLLING);
        if_nil(strategy, "rollingUpdate", empty());
    }
    if text(strategy, "type") == ROLLING
        && let Some(rolling) = pointer(strategy, "rollingUpdate")
    {
        if_nil(rolling, "partition", 0);
        if context.gates.max_unavailable_stateful_set {
            if_nil(rolling, "maxUnavailable", 1);
        }
    }
    let retention = child(spec, "persistentVolumeClaimRetentionPolicy");
    if_empty(retention, "whenDeleted", "Retain");
    if_empty(retention, "whenScaled", "Retain");
    if_nil(spec, "replicas", 1);
    if_nil(spec, "revisionHistoryLimit", 10);
}

fn replica_set(m: &mut Map, _: &Context) {
    let spec = child(m, "spec");
    if is_nil(spec, "replicas") {
        spec.insert("replicas", 1);
    }
}
