//! Defaults of the flowcontrol group. Upstream: pkg/apis/flowcontrol/v1/defaults.go.

use super::fields::{if_nil, if_zero};
use super::{Context, Function};
use machinery::Map;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("flowcontrol/v1.ExemptPriorityLevelConfiguration", exempt),
    ("flowcontrol/v1.FlowSchemaSpec", flow_schema),
    ("flowcontrol/v1.LimitedPriorityLevelConfiguration", limited),
    ("flowcontrol/v1.QueuingConfiguration", queuing),
];

fn flow_schema(m: &mut Map, _: &Context) {
    if_zero(m, "matchingPrecedence", 1000);
}

fn exempt(m: &mut Map, _: &Context) {
    if_nil(m, "nominalConcurrencyShares", 0);
    if_nil(m, "lendablePercent", 0);
}

fn limited(m: &mut Map, _: &Context) {
    if_nil(m, "nominalConcurrencyShares", 30);
    if_nil(m, "lendablePercent", 0);
}

fn queuing(m: &mut Map, _: &Context) {
    if_zero(m, "handSize", 8);
    if_zero(m, "queues", 64);
    if_zero(m, "queueLengthLimit", 50);
}
