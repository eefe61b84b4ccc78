//! Which images to remove when the disk fills up. Upstream: pkg/kubelet/images/image_gc_manager.go, v1.37.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

/// When images are removed.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Usage in percent at which removal begins.
    pub high: u64,
    /// Usage in percent at which it ends.
    pub low: u64,
    /// Images younger than this stay.
    pub min_age: Duration,
    /// Images unused for longer than this go; zero for never.
    pub max_age: Duration,
}

/// One image as the runtime knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The runtime's id.
    pub id: String,
    /// Bytes on disk.
    pub size: u64,
    /// True if the runtime keeps it by itself.
    pub pinned: bool,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    first: Timestamp,
    last_used: Timestamp,
}

/// When each image was first seen and last used.
#[derive(Debug, Default)]
pub struct Usage(HashMap<String, Seen>);

impl Usage {
    /// Takes note of what is there and what is in use.
    pub fn observe(&mut self, images: &[Image], in_use: impl Fn(&Image) -> bool, now: Timestamp) {
        let mut next = HashMap::with_capacity(images.len());
        for image in images {
            let never = Seen { first: now, last_used: Timestamp::UNIX_EPOCH };
            let mut seen = self.0.get(&image.id).copied().unwrap_or(never);
            if in_use(image) {
                seen.last_used = now;
            }
            next.insert(image.id.clone(), seen);
        }
        self.0 = next;
    }

    /// Images to remove, in this order, to free `bytes`; unused ones only, least recently used first.
    pub fn plan(&self, images: &[Image], bytes: u64, policy: &Policy, now: Timestamp) -> Vec<Image> {
        let mut candidates: Vec<(&Image, Seen)> = (images.iter())
            .filter(|image| !image.pinned)
            .filter_map(|image| Some((image, *self.0.get(&image.id)?)))
            .filter(|(_, seen)| seen.last_used < now)
            .collect();
        candidates.sort_by_key(|(image, seen)| (seen.last_used, seen.first, image.id.clone()));
        let age = |since: Timestamp| Duration::try_from(now.duration_since(since)).unwrap_or_default();
        let mut freed = 0u64;
        let mut out = Vec::new();
        for (image, seen) in candidates {
            let unused = age(seen.last_used.max(seen.first));
            let too_old = !policy.max_age.is_zero() && unused > policy.max_age;
            if (freed >= bytes && !too_old) || age(seen.first) < policy.min_age {
                continue;
            }
            freed = freed.saturating_add(image.size);
            out.push(image.clone());
        }
        out
    }
}

/// Bytes to free: down to the low mark once the high mark is reached.
pub fn bytes_to_free(capacity: u64, available: u64, policy: &Policy) -> u64 {
    let used = capacity.saturating_sub(available.min(capacity));
    let percent = (used.saturating_mul(100)).checked_div(capacity).unwrap_or_default();
    if percent < policy.high { 0 } else { used.saturating_sub(capacity / 100 * policy.low) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy =
        Policy { high: 85, low: 80, min_age: Duration::from_secs(120), max_age: Duration::ZERO };

    fn image(id: &str) -> Image {
        Image { id: id.into(), size: 100, pinned: id == "pinned" }
    }

    #[test]
    fn least_recently_used_first() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let images = [image("a"), image("b"), image("used"), image("pinned")];
        let mut usage = Usage::default();
        usage.observe(&images, |i| i.id == "a", at(100));
        usage.observe(&images, |i| i.id == "used", at(1000));
        let ids = |list: Vec<Image>| list.into_iter().map(|i| i.id).collect::<Vec<_>>();
        assert_eq!(ids(usage.plan(&images, 150, &POLICY, at(1000))), ["b", "a"]);
        assert_eq!(ids(usage.plan(&images, 50, &POLICY, at(1000))), ["b"]);
        assert!(usage.plan(&images, 500, &POLICY, at(150)).is_empty());
        let old = Policy { max_age: Duration::from_secs(500), ..POLICY };
        assert_eq!(ids(usage.plan(&images, 0, &old, at(1000))), ["b", "a"]);
    }

    #[test]
    fn thresholds() {
        assert_eq!(bytes_to_free(1000, 200, &POLICY), 0);
        assert_eq!(bytes_to_free(1000, 100, &POLICY), 100);
        assert_eq!(bytes_to_free(0, 0, &POLICY), 0);
    }
}
