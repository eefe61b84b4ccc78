//! Source text, positions within it, and the errors that point at them.

use std::fmt;

/// A place in the source: a count of code points from its start. `None` where upstream has no location.
pub type Offset = Option<u32>;

/// The place before the first character: upstream has it for nodes that stand for what could not be read.
pub(crate) const BEFORE: u32 = u32::MAX;

/// One problem with an expression and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    pub at: Offset,
    pub message: String,
}

/// Everything found wrong with an expression; prints as upstream's `Issues.String`, one snippet per error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issues {
    /// Sorted by position.
    pub issues: Vec<Issue>,
    /// How many were found beyond the [`MAX_REPORTED`] kept.
    pub truncated: usize,
    text: String,
}

/// Errors kept; the rest are counted.
pub const MAX_REPORTED: usize = 100;

/// The longest source line shown below an error, in bytes.
const MAX_SNIPPET: usize = 16_384;

/// Collects issues while compiling.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    issues: Vec<Issue>,
    total: usize,
}

impl Reporter {
    pub fn report(&mut self, at: Offset, message: impl Into<String>) {
        self.total += 1;
        if self.total <= MAX_REPORTED {
            self.issues.push(Issue { at, message: message.into() });
        }
    }

    pub fn count(&self) -> usize {
        self.issues.len()
    }

    /// Takes back what was reported since there were `count` errors, except about syntax.
    pub fn retract(&mut self, count: usize) {
        let before = self.issues.len();
        let mut i = 0;
        self.issues.retain(|issue| {
            i += 1;
            i <= count || issue.message.starts_with("Syntax error")
        });
        self.total -= before - self.issues.len();
    }

    pub fn finish(self, source: &str) -> Result<(), Box<Issues>> {
        if self.issues.is_empty() {
            return Ok(());
        }
        let mut issues = self.issues;
        issues.sort_by_key(|i| match i.at {
            None => 0,
            Some(BEFORE) => 1,
            Some(at) => u64::from(at) + 2,
        });
        Err(Box::new(Issues { truncated: self.total - issues.len(), issues, text: source.to_owned() }))
    }
}

impl Issues {
    /// A single error without a place.
    pub(crate) fn plain(message: String) -> Box<Issues> {
        Box::new(Issues { issues: vec![Issue { at: None, message }], truncated: 0, text: String::new() })
    }

    /// Line (from 1) and column (from 0) of an offset.
    pub fn location(&self, at: u32) -> (usize, usize) {
        let (mut line, mut column) = (1, 0);
        if at == BEFORE {
            return (line, column);
        }
        for c in self.text.chars().take(at as usize) {
            if c == '\n' {
                line += 1;
                column = 0;
            } else {
                column += 1;
            }
        }
        // Offsets beyond the end count on, as the last line's.
        let len = self.text.chars().count();
        (line, column + (at as usize).saturating_sub(len))
    }

    fn write_issue(&self, f: &mut fmt::Formatter<'_>, issue: &Issue) -> fmt::Result {
        let Some(at) = issue.at else {
            return write!(f, "ERROR: <input>:-1:0: {}", issue.message);
        };
        let (line, column) = self.location(at);
        // Of nothing upstream knows no columns.
        let column_shown = column + usize::from(!self.text.is_empty() && at != BEFORE);
        write!(f, "ERROR: <input>:{line}:{column_shown}: {}", issue.message)?;
        let Some(text) = self.text.split('\n').nth(line - 1) else { return Ok(()) };
        if self.text.is_empty() || text.len() > MAX_SNIPPET {
            return Ok(());
        }
        write!(f, "\n | {}\n | ", text.replace('\t', " "))?;
        let mut chars = text.chars();
        for c in chars.by_ref().take(column) {
            f.write_str(if c.len_utf8() > 1 { "\u{ff0e}" } else { "." })?;
        }
        let wide = chars.next().is_some_and(|c| c.len_utf8() > 1);
        f.write_str(if wide { "\u{ff3e}" } else { "^" })
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, issue) in self.issues.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            self.write_issue(f, issue)?;
        }
        if self.truncated > 0 {
            write!(f, "\n{} more errors were truncated", self.truncated)?;
        }
        Ok(())
    }
}

impl std::error::Error for Issues {}
