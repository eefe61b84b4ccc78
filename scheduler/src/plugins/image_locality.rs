//! Prefers nodes that have the pod's images. Upstream: plugins/imagelocality.

use crate::framework::{CycleState, MAX_SCORE, Plugin, View};
use crate::model::{NodeRow, PodInfo};

pub const NAME: &str = "ImageLocality";

const MEGABYTE: i64 = 1024 * 1024;
const LEAST: i64 = 23 * MEGABYTE;
const MOST_PER_CONTAINER: i64 = 1000 * MEGABYTE;

pub struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        NAME
    }

    fn scores(&self, view: View<'_>, pod: &PodInfo) -> bool {
        pod.images.iter().any(|image| view.cache.image_nodes(image) > 0)
    }

    fn score(&self, view: View<'_>, _state: &CycleState, pod: &PodInfo, row: &NodeRow) -> i64 {
        if row.images.is_empty() {
            return 0;
        }
        let nodes = view.cache.len().max(1) as f64;
        let mut sum = 0;
        for image in &pod.images {
            if let Some(size) = row.images.get(image.as_str()) {
                let spread = view.cache.image_nodes(image) as f64 / nodes;
                sum += (*size as f64 * spread) as i64;
            }
        }
        let most = MOST_PER_CONTAINER * pod.image_count.max(1);
        MAX_SCORE * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST)
    }
}
