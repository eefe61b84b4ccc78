//! Where lines go: one `write` per line, so that lines of threads do not mix.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;

/// Destination of log lines.
#[derive(Debug, Clone)]
pub enum Output {
    /// Everything to standard error (upstream's default for both formats).
    Stderr,
    /// Errors to standard error, the rest to standard output.
    Split,
    /// Memory, for tests.
    Memory(Arc<Mutex<String>>),
}

thread_local! {
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A line longer than this gives its memory back.
const KEEP: usize = 16 << 10;

impl Output {
    pub(super) fn write(&self, severe: bool, fill: impl FnOnce(&mut String)) {
        LINE.with(|line| {
            // A value's Debug may itself log; the inner line then gets its own memory.
            let Ok(mut line) = line.try_borrow_mut() else {
                let mut line = String::new();
                fill(&mut line);
                return self.emit(severe, &line);
            };
            line.clear();
            fill(&mut line);
            self.emit(severe, &line);
            if line.capacity() > KEEP {
                *line = String::new();
            }
        });
    }

    fn emit(&self, severe: bool, line: &str) {
        // A failure to log has nowhere to go.
        let _ = match self {
            Output::Split if !severe => std::io::stdout().lock().write_all(line.as_bytes()),
            Output::Stderr | Output::Split => std::io::stderr().lock().write_all(line.as_bytes()),
            Output::Memory(memory) => {
                memory.lock().push_str(line);
                Ok(())
            }
        };
    }
}
