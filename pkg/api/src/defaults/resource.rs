//! Defaults of the resource group. Upstream: pkg/apis/resource/*/defaults.go.

use super::fields::{if_empty, if_nil, if_zero, text};
use super::{Context, Function};
use machinery::Map;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("resource/v1.DeviceSubRequest", request),
    ("resource/v1.DeviceTaint", taint),
    ("resource/v1.ExactDeviceRequest", request),
    ("resource/v1alpha3.DeviceTaint", taint),
    ("resource/v1alpha3.ResourcePoolStatusRequestSpec", pool_status),
    ("resource/v1beta1.DeviceRequest", request_beta1),
    ("resource/v1beta1.DeviceSubRequest", request),
    ("resource/v1beta1.DeviceTaint", taint),
    ("resource/v1beta2.DeviceSubRequest", request),
    ("resource/v1beta2.DeviceTaint", taint),
    ("resource/v1beta2.ExactDeviceRequest", request),
];

fn request(m: &mut Map, _: &Context) {
    if_empty(m, "allocationMode", "ExactCount");
    if text(m, "allocationMode") == "ExactCount" {
        if_zero(m, "count", 1);
    }
}

/// Without a class the request is a list of alternatives, which has neither mode nor count.
fn request_beta1(m: &mut Map, context: &Context) {
    if !text(m, "deviceClassName").is_empty() {
        request(m, context);
    }
}

fn taint(m: &mut Map, context: &Context) {
    if_nil(m, "timeAdded", context.now);
}

fn pool_status(m: &mut Map, _: &Context) {
    if_nil(m, "limit", 100);
}
