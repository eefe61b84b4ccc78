//! Which images to remove when the disk fills up, or because nobody has used them for long.
//!
//! Pure; [`super::collect`] asks the runtime and removes. Upstream: pkg/kubelet/images/image_gc_manager.go, v1.37.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

/// When images are removed.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Usage in percent at which removal begins.
    pub high: i64,
    /// Usage in percent at which it ends.
    pub low: i64,
    /// Images younger than this stay.
    pub min_age: Duration,
    /// Images unused for longer than this go; zero for never.
    pub max_age: Duration,
}

impl Policy {
    /// False if images are only removed before pods are evicted.
    pub fn is_active(&self) -> bool {
        self.high != 100 || !self.max_age.is_zero()
    }
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
    /// True if a container is made from it, or mounts it.
    pub in_use: bool,
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
    pub fn observe(&mut self, images: &[Image], now: Timestamp) {
        let mut next = HashMap::with_capacity(images.len());
        for image in images {
            let never = Seen { first: now, last_used: Timestamp::UNIX_EPOCH };
            let mut seen = self.0.get(&image.id).copied().unwrap_or(never);
            if image.in_use {
                seen.last_used = now;
            }
            next.insert(image.id.clone(), seen);
        }
        self.0 = next;
    }

    /// Images that nobody uses and nothing keeps, the longest unused first.
    fn unused<'a>(&self, images: &'a [Image]) -> Vec<(&'a Image, Seen)> {
        let free = images.iter().filter(|image| !image.pinned && !image.in_use);
        let mut out: Vec<_> = free.filter_map(|image| Some((image, *self.0.get(&image.id)?))).collect();
        out.sort_by(|(a, x), (b, y)| (x.last_used, x.first, &a.id).cmp(&(y.last_used, y.first, &b.id)));
        out
    }

    /// Images that have not been used for too long; none before the kubelet, which began at `began`, can know. One that
    /// was never used counts from when it was first seen: upstream would take one that a pod has just pulled.
    pub fn old<'a>(
        &self,
        images: &'a [Image],
        policy: &Policy,
        began: Timestamp,
        now: Timestamp,
    ) -> Vec<&'a Image> {
        if policy.max_age.is_zero() || age(began, now) <= policy.max_age {
            return Vec::new();
        }
        let is_old = |seen: &Seen| age(seen.last_used.max(seen.first), now) > policy.max_age;
        self.unused(images).into_iter().filter(|(_, seen)| is_old(seen)).map(|(image, _)| image).collect()
    }

    /// Images that may be removed to make room, in this order. Those that came just now may be for a pod that starts.
    pub fn spare<'a>(&self, images: &'a [Image], policy: &Policy, now: Timestamp) -> Vec<&'a Image> {
        let all = self.unused(images).into_iter();
        all.filter(|(_, seen)| age(seen.first, now) >= policy.min_age).map(|(image, _)| image).collect()
    }
}

fn age(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

/// How full the images' disk is, and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess {
    /// Percent in use, rounded up.
    pub percent: i64,
    /// Bytes to free.
    pub bytes: i64,
}

/// What to free, down to the low mark once the high mark is reached. Both figures in bytes, `capacity` above zero.
pub fn excess(capacity: i64, available: i64, policy: &Policy) -> Option<Excess> {
    let share = |part: i64, of: i64, whole: i64| {
        i64::try_from(i128::from(part) * i128::from(of) / i128::from(whole.max(1))).unwrap_or(i64::MAX)
    };
    let available = available.min(capacity);
    let percent = 100 - share(available, 100, capacity);
    let bytes = share(capacity, 100 - policy.low, 100) - available;
    (percent >= policy.high).then_some(Excess { percent, bytes })
}

/// What the event says when what may be removed is not enough.
pub fn too_little(excess: Excess, capacity: i64, freed: i64) -> String {
    format!(
        "Insufficient free disk space on the node's image filesystem ({}% of {} used). Failed to free sufficient space by \
         deleting unused images (freed {freed} bytes). Investigate disk usage, as it could be used by active images, logs, \
         volumes, or other data.",
        excess.percent,
        readable(capacity)
    )
}

/// Bytes in the largest unit that fits, as upstream's `formatSize`.
fn readable(bytes: i64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
    let mut size = bytes as f64;
    if size < 1024.0 {
        return format!("{bytes} B");
    }
    let mut unit = "";
    for next in units {
        if !unit.is_empty() && size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    format!("{size:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy =
        Policy { high: 85, low: 80, min_age: Duration::from_secs(120), max_age: Duration::ZERO };

    fn image(id: &str, in_use: bool) -> Image {
        Image { id: id.into(), size: 100, pinned: id == "pinned", in_use }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ids(list: Vec<&Image>) -> Vec<&str> {
        list.into_iter().map(|i| i.id.as_str()).collect()
    }

    #[test]
    fn least_recently_used_first() {
        let mut usage = Usage::default();
        let first = [image("a", true), image("b", false), image("used", false), image("pinned", false)];
        usage.observe(&first, at(100));
        let mut images =
            vec![image("a", false), image("b", false), image("used", true), image("pinned", false)];
        usage.observe(&images, at(1000));
        assert_eq!(ids(usage.spare(&images, &POLICY, at(1000))), ["b", "a"]);
        // What has just come is too young for two minutes, to this kubelet all images at its start.
        assert!(usage.spare(&images, &POLICY, at(219)).is_empty());
        images.push(image("new", false));
        usage.observe(&images, at(1100));
        assert_eq!(ids(usage.spare(&images, &POLICY, at(1219))), ["b", "a"]);
        assert_eq!(ids(usage.spare(&images, &POLICY, at(1220))), ["b", "new", "a"]);
    }

    #[test]
    fn unused_for_long() {
        let mut usage = Usage::default();
        usage.observe(&[image("a", true), image("b", false)], at(1000));
        let images = [image("a", false), image("b", false), image("new", false)];
        usage.observe(&images, at(1400));
        let policy = Policy { max_age: Duration::from_secs(500), ..POLICY };
        let old = |began, now| ids(usage.old(&images, &policy, at(began), at(now)));
        assert_eq!(old(1000, 1500), Vec::<&str>::new());
        assert_eq!(old(1000, 1501), ["b", "a"]);
        assert_eq!(old(1000, 1901), ["b", "new", "a"]);
        assert!(usage.old(&images, &POLICY, at(0), at(9000)).is_empty());
    }

    #[test]
    fn marks() {
        let of = |capacity, available| excess(capacity, available, &POLICY).map(|e| (e.percent, e.bytes));
        assert_eq!(of(1000, 200), None);
        assert_eq!(of(1000, 159), Some((85, 41)));
        assert_eq!(of(1000, 100), Some((90, 100)));
        assert_eq!(of(1000, 2000), None);
        assert_eq!(of(i64::MAX, 0).unwrap().0, 100);
        let full = Excess { percent: 90, bytes: 100 };
        let text = too_little(full, 3 << 29, 7);
        assert!(text.contains("(90% of 1.5 GiB used)") && text.contains("(freed 7 bytes)"), "{text}");
        assert_eq!(
            [1023, 1024, 1 << 20, 5 << 40, 5 << 50].map(readable),
            ["1023 B", "1.0 KiB", "1.0 MiB", "5.0 TiB", "5120.0 TiB"]
        );
    }

    #[test]
    fn switched_off() {
        assert!(POLICY.is_active());
        assert!(!Policy { high: 100, ..POLICY }.is_active());
        assert!(Policy { high: 100, max_age: Duration::from_secs(1), ..POLICY }.is_active());
    }
}
