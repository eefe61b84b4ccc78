//! Reading container logs: filters, limits, following a file that is still written and rotated.
//!
//! Upstream: k8s.io/cri-client/pkg/logs/logs.go ReadLogs and pkg/util/tail, v1.37.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use k8s_openapi::jiff::Timestamp;

use super::parse::parse;

/// Longest record that is read as one; the runtime splits lines at 16 KiB.
const MAX_RECORD: u64 = 1 << 20;
/// Block in which the end of a file is searched for line ends.
const BLOCK: u64 = 64 << 10;

/// Which lines are wanted and how they are written.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Lines from this moment on.
    pub since: Option<Timestamp>,
    /// The last so many lines of the file.
    pub tail: Option<u64>,
    /// Most bytes to write.
    pub limit: Option<u64>,
    /// Put the time in front of each line.
    pub timestamps: bool,
    /// Only standard output (`Some(false)`) or only standard error (`Some(true)`).
    pub only_stderr: Option<bool>,
}

/// A log being read.
pub struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    inode: u64,
    filter: Filter,
    written: u64,
    /// Bytes of a record whose end has not been written yet.
    pending: Vec<u8>,
    at_line_start: bool,
}

impl Reader {
    /// Opens a log and finds where reading begins.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn open(path: &Path, filter: Filter) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let inode = file.metadata()?.ino();
        if let Some(lines) = filter.tail {
            let start = tail_offset(&mut file, lines)?;
            file.seek(SeekFrom::Start(start))?;
        }
        Ok(Self {
            path: path.to_owned(),
            file: BufReader::with_capacity(32 << 10, file),
            inode,
            filter,
            written: 0,
            pending: Vec::new(),
            at_line_start: true,
        })
    }

    /// Writes what is there now into `out`, at most about `budget` bytes; returns how far it got.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read_some(&mut self, out: &mut Vec<u8>, budget: usize) -> io::Result<Progress> {
        while out.len() < budget {
            if self.filter.limit.is_some_and(|limit| self.written >= limit) {
                return Ok(Progress::Done);
            }
            let limit = MAX_RECORD.saturating_sub(self.pending.len() as u64);
            let read = (&mut self.file).take(limit).read_until(b'\n', &mut self.pending)?;
            let complete = self.pending.last() == Some(&b'\n') || self.pending.len() as u64 >= MAX_RECORD;
            if !complete {
                // The end of what is there; a record without its end waits for the rest.
                return Ok(if read == 0 { Progress::End } else { continue });
            }
            let record = std::mem::take(&mut self.pending);
            self.write_record(&record, out);
        }
        Ok(Progress::More)
    }

    /// Writes a last record that has no line end, once it is known that none will come.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let record = std::mem::take(&mut self.pending);
        if !record.is_empty() {
            self.write_record(&record, out);
        }
    }

    fn write_record(&mut self, record: &[u8], out: &mut Vec<u8>) {
        let Some(line) = parse(record) else { return };
        if self.filter.only_stderr.is_some_and(|stderr| stderr != line.stderr) {
            return;
        }
        if let Some(since) = self.filter.since
            && line.time.parse::<Timestamp>().is_ok_and(|at| at < since)
        {
            return;
        }
        let before = out.len();
        if self.filter.timestamps && self.at_line_start {
            out.extend_from_slice(line.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(line.text);
        if !line.partial {
            out.push(b'\n');
        }
        self.at_line_start = !line.partial;
        if let Some(limit) = self.filter.limit {
            let room = usize::try_from(limit.saturating_sub(self.written)).unwrap_or(usize::MAX);
            out.truncate(before.saturating_add(room));
        }
        self.written += (out.len() - before) as u64;
    }

    /// True if the path now names another file: the log was rotated, and reading goes on there.
    ///
    /// # Errors
    /// If the new file cannot be opened.
    pub fn reopen_if_rotated(&mut self) -> io::Result<bool> {
        let now = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            // Between the rename and the runtime's new file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let position = self.file.stream_position()?;
        if now.ino() == self.inode && now.len() >= position {
            return Ok(false);
        }
        let file = File::open(&self.path)?;
        self.inode = file.metadata()?.ino();
        self.file = BufReader::with_capacity(32 << 10, file);
        self.pending.clear();
        Ok(true)
    }
}

/// How far a read got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more right now.
    More,
    /// All that is there has been read; more may be written.
    End,
    /// The limit is reached; nothing more is wanted.
    Done,
}

/// Where the last `lines` lines begin.
fn tail_offset(file: &mut File, lines: u64) -> io::Result<u64> {
    let size = file.seek(SeekFrom::End(0))?;
    if lines == 0 || size == 0 {
        return Ok(size);
    }
    let mut block = vec![0u8; usize::try_from(BLOCK).unwrap_or(65536)];
    let mut end = size;
    let mut found = 0u64;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let length = usize::try_from(end - start).unwrap_or_default();
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block[..length])?;
        for (index, byte) in block[..length].iter().enumerate().rev() {
            let at = start + index as u64;
            // The end of the last line does not begin another one.
            if *byte == b'\n' && at + 1 < size {
                found += 1;
                if found == lines {
                    return Ok(at + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

/// The end of a log as a message: at most so many lines and bytes.
///
/// # Errors
/// If the file cannot be read.
pub fn last_words(path: &str, lines: usize, bytes: usize) -> io::Result<String> {
    let filter = Filter { tail: Some(lines as u64), ..Filter::default() };
    let mut reader = Reader::open(Path::new(path), filter)?;
    let mut out = Vec::new();
    loop {
        let progress = reader.read_some(&mut out, bytes.saturating_mul(2))?;
        let excess = out.len().saturating_sub(bytes);
        out.drain(..excess);
        if progress != Progress::More {
            break;
        }
    }
    reader.finish(&mut out);
    let excess = out.len().saturating_sub(bytes);
    out.drain(..excess);
    Ok(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:01Z stderr F two\n2026-01-01T00:00:02Z stdout P thr\n2026-01-01T00:00:03Z stdout F ee\n";

    fn check(filter: Filter, expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let mut reader = Reader::open(&path, filter.clone()).unwrap();
        let mut out = Vec::new();
        while reader.read_some(&mut out, 1 << 20).unwrap() == Progress::More {}
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{filter:?}");
    }

    #[test]
    fn filters() {
        check(Filter::default(), "one\ntwo\nthree\n");
        check(Filter { tail: Some(3), ..Filter::default() }, "two\nthree\n");
        check(Filter { tail: Some(0), ..Filter::default() }, "");
        check(Filter { tail: Some(99), ..Filter::default() }, "one\ntwo\nthree\n");
        check(Filter { limit: Some(5), ..Filter::default() }, "one\nt");
        check(Filter { only_stderr: Some(true), ..Filter::default() }, "two\n");
        check(Filter { since: "2026-01-01T00:00:01Z".parse().ok(), ..Filter::default() }, "two\nthree\n");
        check(
            Filter { timestamps: true, tail: Some(2), ..Filter::default() },
            "2026-01-01T00:00:02Z three\n",
        );
    }

    #[test]
    fn follows_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, "t stdout F a\nt stdout F incompl").unwrap();
        let mut reader = Reader::open(&path, Filter::default()).unwrap();
        let mut out = Vec::new();
        assert_eq!(reader.read_some(&mut out, 100).unwrap(), Progress::End);
        assert!(!reader.reopen_if_rotated().unwrap());
        std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        assert!(!reader.reopen_if_rotated().unwrap());
        std::fs::write(&path, "t stdout F b\n").unwrap();
        assert!(reader.reopen_if_rotated().unwrap());
        reader.read_some(&mut out, 100).unwrap();
        assert_eq!(out, b"a\nb\n");
    }

    #[test]
    fn last_words_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        assert_eq!(last_words(path.to_str().unwrap(), 80, 6).unwrap(), "three\n");
    }
}
