//! Defaults of the authentication group. Upstream: pkg/apis/authentication/v1/defaults.go.

use super::fields::if_nil;
use super::{Context, Function};
use machinery::Map;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[("authentication/v1.TokenRequestSpec", token_request)];

fn token_request(m: &mut Map, _: &Context) {
    if_nil(m, "expirationSeconds", 3600);
}
