//! The store of the crash test, which two programs open.

use std::path::Path;

use storage::embedded::Options;

pub fn options(dir: &Path) -> Options {
    Options { log_bytes: 100_000, ..Options::new(dir) }
}
