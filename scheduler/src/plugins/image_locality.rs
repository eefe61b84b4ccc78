//! Prefers nodes that have the pod's images. Upstream: plugins/imagelocality.

use std::borrow::Cow;

use crate::framework::{CycleState, MAX_SCORE, Plugin, View};
use crate::model::{NodeRow, PodInfo};

pub const NAME: &str = "ImageLocality";

const MEGABYTE: i64 = 1024 * 1024;
const LEAST: i64 = 23 * MEGABYTE;
const MOST_PER_CONTAINER: i64 = 1000 * MEGABYTE;

pub struct ImageLocality;

/// An image without a tag is the latest one.
fn normalized(name: &str) -> Cow<'_, str> {
    if name.rfind(':') <= name.rfind('/') { format!("{name}:latest").into() } else { name.into() }
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        NAME
    }

    fn score(&self, view: View<'_>, _state: &CycleState, pod: &PodInfo, row: &NodeRow) -> i64 {
        let Some(spec) = pod.spec() else { return 0 };
        let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        let images = containers.filter_map(|c| c.image.as_deref());
        let volumes = spec.volumes.iter().flatten().filter_map(|v| v.image.as_ref()?.reference.as_deref());
        let nodes = view.cache.len().max(1) as f64;
        let mut sum = 0;
        for image in images.chain(volumes) {
            let image = normalized(image);
            if let Some(size) = row.images.get(image.as_ref()) {
                let spread = view.cache.image_nodes(&image) as f64 / nodes;
                sum += (*size as f64 * spread) as i64;
            }
        }
        let volumes = spec.volumes.iter().flatten().filter(|v| v.image.is_some()).count();
        let count = spec.init_containers.iter().flatten().count() + spec.containers.len() + volumes;
        let most = MOST_PER_CONTAINER * count.max(1) as i64;
        MAX_SCORE * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST)
    }
}
