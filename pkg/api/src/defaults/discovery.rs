//! Defaults of the discovery group. Upstream: pkg/apis/discovery/v1/defaults.go.

use super::fields::if_nil;
use super::{Context, Function};
use machinery::Map;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[("discovery/v1.EndpointPort", port)];

fn port(m: &mut Map, _: &Context) {
    if_nil(m, "name", "");
    if_nil(m, "protocol", "TCP");
}
