//! Volumes, persistent volumes and claims.

use super::pod::pull_policy;
use crate::defaults::Context;
use crate::defaults::fields::{child, empty, if_empty, if_nil, is_nil, pointer, text};
use machinery::Map;

/// 0644
const FILE_MODE: i64 = 420;

pub(super) fn volume(m: &mut Map, _: &Context) {
    // All members but the name are sources.
    if m.iter().all(|(k, v)| k == "name" || v.is_null()) {
        m.insert("emptyDir", empty());
    }
    if let Some(image) = pointer(m, "image")
        && text(image, "pullPolicy").is_empty()
    {
        let policy = pull_policy(text(image, "reference"));
        image.insert("pullPolicy", policy);
    }
}

pub(super) fn secret(m: &mut Map, _: &Context) {
    if_nil(m, "defaultMode", FILE_MODE);
}

pub(super) fn config_map(m: &mut Map, _: &Context) {
    if_nil(m, "defaultMode", FILE_MODE);
}

pub(super) fn downward_api(m: &mut Map, _: &Context) {
    if_nil(m, "defaultMode", FILE_MODE);
}

pub(super) fn projected(m: &mut Map, _: &Context) {
    if_nil(m, "defaultMode", FILE_MODE);
}

pub(super) fn token_projection(m: &mut Map, _: &Context) {
    if_nil(m, "expirationSeconds", 3600);
}

pub(super) fn host_path(m: &mut Map, _: &Context) {
    if_nil(m, "type", "");
}

pub(super) fn persistent_volume(m: &mut Map, _: &Context) {
    if_empty(child(m, "status"), "phase", "Pending");
    let spec = child(m, "spec");
    if_empty(spec, "persistentVolumeReclaimPolicy", "Retain");
    if_nil(spec, "volumeMode", "Filesystem");
}

pub(super) fn claim(m: &mut Map, _: &Context) {
    if_empty(child(m, "status"), "phase", "Pending");
}

pub(super) fn claim_spec(m: &mut Map, _: &Context) {
    if is_nil(m, "volumeMode") {
        m.insert("volumeMode", "Filesystem");
    }
}
