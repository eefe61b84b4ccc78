//! Events as lines of a file or of standard output. Upstream: `plugin/pkg/audit/log/backend.go`.

use std::io::{self, Write};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::config::{LogConfig, LogFormat};
use crate::event::Event;
use crate::rotate::Rotating;
use crate::sink::Sink;
use crate::{legacy, metrics};

const PLUGIN: &str = "log";

/// What lines are written to.
enum Output {
    Stdout,
    File(std::fs::File),
    Rotating(Rotating),
}

/// The sink. Lines are written one after the other and at once: the system's cache takes them.
pub struct Log {
    format: LogFormat,
    output: Mutex<Output>,
}

impl Log {
    /// Opens the file, creating it and the directories to it.
    ///
    /// # Errors
    /// The system refuses.
    pub fn open(config: &LogConfig) -> io::Result<Self> {
        let output = match config.path.to_str() {
            Some("-") => Output::Stdout,
            _ => {
                crate::rotate::ensure(&config.path)?;
                match config.rotation.max_bytes {
                    0 => Output::File(std::fs::OpenOptions::new().append(true).open(&config.path)?),
                    _ => Output::Rotating(Rotating::new(config.path.clone(), config.rotation)),
                }
            }
        };
        Ok(Self { format: config.format, output: Mutex::new(output) })
    }

    fn write(&self, event: &Event) -> Result<(), String> {
        let line = match self.format {
            LogFormat::Json => event.to_json().map_err(|e| e.to_string())?,
            LogFormat::Legacy => format!("{}\n", legacy::line(event)).into_bytes(),
        };
        let written = match &mut *self.output.lock() {
            Output::Stdout => io::stdout().lock().write_all(&line),
            Output::File(file) => file.write_all(&line),
            Output::Rotating(file) => file.write(&line),
        };
        written.map_err(|e| e.to_string())
    }
}

#[async_trait]
impl Sink for Log {
    async fn process(&self, events: &[Arc<Event>]) -> bool {
        let mut kept = true;
        for event in events {
            if let Err(why) = self.write(event) {
                metrics::lost(PLUGIN, &why, std::slice::from_ref(event));
                kept = false;
            }
        }
        kept
    }
}
