//! Defaults of the apiregistration group. Upstream: kube-aggregator pkg/apis/apiregistration/v1/defaults.go.

use super::fields::if_nil;
use super::{Context, Function};
use machinery::Map;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[("apiregistration/v1.ServiceReference", service)];

fn service(m: &mut Map, _: &Context) {
    if_nil(m, "port", 443);
}
