//! Short ways into an object's tree, and the texts that cells share.

use jiff::Timestamp;
use machinery::Value;
use machinery::labels::Selector;
use serde_json::Value as Cell;

/// A read view of a tree, with the time the table is made at.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) tree: &'a Value,
    pub(super) now: Timestamp,
}

/// `a.b.c` as path segments.
fn segments(path: &str) -> Vec<&str> {
    path.split('.').collect()
}

impl<'a> View<'a> {
    fn at(&self, tree: &'a Value) -> Self {
        Self { tree, now: self.now }
    }

    /// Text at a path, empty when absent.
    pub(super) fn text(&self, path: &str) -> &'a str {
        self.tree.str_at(&segments(path)).unwrap_or_default()
    }

    /// Text at a path, or something else.
    pub(super) fn text_or(&self, path: &str, otherwise: &'a str) -> &'a str {
        Some(self.text(path)).filter(|t| !t.is_empty()).unwrap_or(otherwise)
    }

    /// Text at a path where something is, or something else: empty text is something.
    pub(super) fn given(&self, path: &str, otherwise: &'a str) -> &'a str {
        if self.has(path) { self.text(path) } else { otherwise }
    }

    /// Integer at a path, 0 when absent.
    pub(super) fn int(&self, path: &str) -> i64 {
        self.tree.i64_at(&segments(path)).unwrap_or(0)
    }

    pub(super) fn flag(&self, path: &str) -> bool {
        self.tree.bool_at(&segments(path)).unwrap_or(false)
    }

    pub(super) fn flag_or(&self, path: &str, otherwise: bool) -> bool {
        self.tree.bool_at(&segments(path)).unwrap_or(otherwise)
    }

    /// Whether something other than null is at a path.
    pub(super) fn has(&self, path: &str) -> bool {
        self.tree.get_path(&segments(path)).is_some_and(|v| !v.is_null())
    }

    /// What is at a path, printed: text as it is, numbers in decimal.
    pub(super) fn show(&self, path: &str) -> Option<String> {
        let value = self.tree.get_path(&segments(path)).filter(|v| !v.is_null())?;
        Some(match value.as_str() {
            Some(text) => text.to_owned(),
            None => value.as_i64().map(|i| i.to_string()).unwrap_or_default(),
        })
    }

    /// A value whose last path segment holds dots (label and resource names).
    pub(super) fn entry(&self, path: &str, key: &str) -> Option<&'a str> {
        self.tree.map_at(&segments(path))?.get(key)?.as_str()
    }

    /// Items of a list.
    pub(super) fn items(&self, path: &str) -> Vec<View<'a>> {
        let list = self.tree.list_at(&segments(path)).into_iter().flat_map(|l| l.iter());
        list.map(|item| self.at(item)).collect()
    }

    /// Texts of a list.
    pub(super) fn texts(&self, path: &str) -> Vec<&'a str> {
        self.items(path).into_iter().filter_map(|v| v.tree.as_str()).collect()
    }

    pub(super) fn count(&self, path: &str) -> i64 {
        self.tree.list_at(&segments(path)).map_or(0, |l| l.iter().count() as i64)
    }

    /// Entries of a map, sorted by key.
    pub(super) fn entries(&self, path: &str) -> Vec<(String, String)> {
        let map = self.tree.map_at(&segments(path)).into_iter().flat_map(|m| m.iter());
        let mut all: Vec<(String, String)> =
            map.map(|(k, v)| (k.to_string(), v.as_str().unwrap_or_default().to_owned())).collect();
        all.sort();
        all
    }

    /// Number of entries of a map.
    pub(super) fn size(&self, path: &str) -> i64 {
        self.tree.map_at(&segments(path)).map_or(0, |m| m.len() as i64)
    }

    pub(super) fn name(&self) -> &'a str {
        self.text("metadata.name")
    }

    /// Age of the object.
    pub(super) fn age(&self) -> String {
        self.since("metadata.creationTimestamp")
    }

    /// Time at a path.
    pub(super) fn time(&self, path: &str) -> Option<Timestamp> {
        self.text(path).parse().ok()
    }

    /// How long ago, or `<unknown>`.
    pub(super) fn since(&self, path: &str) -> String {
        self.time(path).map_or_else(|| "<unknown>".to_owned(), |at| self.ago(at))
    }

    pub(super) fn ago(&self, at: Timestamp) -> String {
        between(at, self.now)
    }

    /// The time of creation as text; Go's zero time when there is none.
    pub(super) fn created(&self) -> &'a str {
        self.text_or("metadata.creationTimestamp", "0001-01-01T00:00:00Z")
    }

    pub(super) fn deleting(&self) -> bool {
        self.has("metadata.deletionTimestamp")
    }

    /// The first condition of a type.
    pub(super) fn condition(&self, kind: &str) -> Option<View<'a>> {
        self.items("status.conditions").into_iter().find(|c| c.text("type") == kind)
    }

    pub(super) fn is_true(&self, kind: &str) -> bool {
        self.condition(kind).is_some_and(|c| c.text("status") == "True")
    }

    /// Names and images of the containers at a path.
    pub(super) fn containers(&self, path: &str) -> [Cell; 2] {
        let all = self.items(path);
        let join = |field: &str| all.iter().map(|c| c.text(field)).collect::<Vec<_>>().join(",");
        [join("name").into(), join("image").into()]
    }

    /// `a=b,c=d`, or `<none>`.
    pub(super) fn labels(&self, path: &str) -> String {
        let all: Vec<String> = self.entries(path).iter().map(|(k, v)| format!("{k}={v}")).collect();
        if all.is_empty() { "<none>".to_owned() } else { all.join(",") }
    }

    /// A label selector as text. Upstream: `metav1.FormatLabelSelector`.
    pub(super) fn selector(&self, path: &str) -> String {
        match Selector::from_value(self.tree.get_path(&segments(path))) {
            Err(_) => "<error>".to_owned(),
            Ok(selector) => {
                Some(selector.to_string()).filter(|t| !t.is_empty()).unwrap_or_else(|| "<none>".into())
            }
        }
    }
}

/// [`human`], as Go cuts off what is not a second: towards zero.
pub(super) fn between(from: Timestamp, to: Timestamp) -> String {
    human(to.duration_since(from).as_secs())
}

/// A duration in seconds, as short as is useful. Upstream: `apimachinery/pkg/util/duration.HumanDuration`.
pub(super) fn human(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let seconds = seconds.max(0);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let with = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => with(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => with(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => with(hours / 24, "d", hours % 24, "h"),
        () if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        () if hours < 24 * 365 * 8 => with(hours / 24 / 365, "y", (hours / 24) % 365, "d"),
        () => format!("{}y", hours / 24 / 365),
    }
}

/// The first few, and how many more.
pub(super) fn some_of(list: &[String], max: usize) -> String {
    match list.len() {
        n if n > max => format!("{} + {} more...", list[..max].join(","), n - max),
        _ => Some(list.join(",")).filter(|t| !t.is_empty()).unwrap_or_else(|| "<unset>".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn durations() {
        for (seconds, want) in [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (28_800, "8h"),
            (172_800, "2d"),
            (176_400, "2d1h"),
            (700_000, "8d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
        ] {
            assert_eq!(human(seconds), want, "{seconds}");
        }
    }
}
