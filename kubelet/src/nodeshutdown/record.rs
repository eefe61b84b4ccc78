//! When the last shutdown began and ended, as a file that upstream reads too. Upstream: nodeshutdown/storage.go.

use std::fs;
use std::io;
use std::path::Path;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::metrics::shutdown as metrics;

/// Name of the file in the kubelet's folder.
pub const FILE: &str = "graceful_node_shutdown_state";
/// Go's zero time: not yet.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// A shutdown's times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// When it began.
    pub start: Option<Timestamp>,
    /// When everything was stopped.
    pub end: Option<Timestamp>,
}

impl Record {
    /// Reads the file; an absent one is an empty record.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error.to_string()),
        };
        let value: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        let time = |key: &str| -> Result<Option<Timestamp>, String> {
            match value[key].as_str().filter(|text| *text != NEVER) {
                None => Ok(None),
                Some(text) => text.parse().map(Some).map_err(|e| format!("{key}: {e}")),
            }
        };
        Ok(Self { start: time("startTime")?, end: time("endTime")? })
    }

    /// Writes the file.
    pub fn store(&self, path: &Path) -> io::Result<()> {
        let time = |at: Option<Timestamp>| at.map_or_else(|| NEVER.to_owned(), |at| at.to_string());
        let text = json!({"startTime": time(self.start), "endTime": time(self.end)}).to_string();
        let temporary = path.with_file_name(format!(".tmp-{FILE}"));
        fs::write(&temporary, text)?;
        fs::File::open(&temporary)?.sync_all()?;
        fs::rename(temporary, path)
    }

    /// Shows it in the metrics.
    pub fn show(&self) {
        #[expect(clippy::cast_precision_loss, reason = "a number of seconds")]
        let seconds = |at: Option<Timestamp>| at.map_or(0.0, |at| at.as_second() as f64);
        metrics::times(seconds(self.start), seconds(self.end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(Record::load(&path), Ok(Record::default()));
        let record = Record { start: Some("2026-01-02T03:04:05.6Z".parse().unwrap()), end: None };
        record.store(&path).unwrap();
        assert_eq!(Record::load(&path), Ok(record));
        // As upstream writes it, with the zone of the machine.
        fs::write(
            &path,
            r#"{"startTime":"2026-01-02T03:04:05.6+01:00","endTime":"2026-01-02T03:05:05+01:00"}"#,
        )
        .unwrap();
        assert_eq!(Record::load(&path).unwrap().end.unwrap().to_string(), "2026-01-02T02:05:05Z");
        fs::write(&path, "x").unwrap();
        assert!(Record::load(&path).is_err());
    }
}
