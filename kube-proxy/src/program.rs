//! Runs a program that loads rules, and says what went wrong in its own words.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("running {program}: {cause} (is the package {package} installed?)")]
    Start { program: &'static str, package: &'static str, cause: std::io::Error },
    /// It ended with an error.
    #[error("{program} {arguments}: {message}{}", hint(message))]
    Failed { program: &'static str, arguments: String, message: String },
    /// The kernel does not take a part of a transaction.
    #[error("the kernel refuses {what}: {cause}{}", hint(&cause.to_string()))]
    Refused { what: String, cause: std::io::Error },
    /// It cannot do what is needed, and will not while this process runs.
    #[error("{0}")]
    Unusable(String),
}

impl Error {
    /// Somebody can mend it while this process waits.
    pub fn may_pass(&self) -> bool {
        !matches!(self, Self::Unusable(_))
    }
}

/// What the system's words leave out.
fn hint(message: &str) -> &'static str {
    if ["Permission denied", "Operation not permitted"].iter().any(|words| message.contains(words)) {
        " (is this process without CAP_NET_ADMIN in its network namespace?)"
    } else if message.contains("incompatible") {
        " (another program made this table with nft and hooks of its own: `nft list ruleset` shows it, `nft delete table` \
         removes it)"
    } else {
        ""
    }
}

/// Result of a program.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A program and the package it comes in.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    pub name: &'static str,
    pub package: &'static str,
}

/// A program's complaint is cut here: it may quote all of its input.
const LONGEST_MESSAGE: usize = 1000;

impl Program {
    /// Runs it with an input; returns what it printed.
    pub async fn run(self, arguments: &[&str], input: &str) -> Result<String> {
        self.execute(arguments, input, Stdio::piped()).await
    }

    /// Runs it with an input, whatever it prints.
    pub async fn feed(self, arguments: &[&str], input: &str) -> Result<()> {
        self.execute(arguments, input, Stdio::null()).await.map(drop)
    }

    async fn execute(self, arguments: &[&str], input: &str, printed: Stdio) -> Result<String> {
        let Self { name: program, package } = self;
        let start = |cause| Error::Start { program, package, cause };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(printed)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(start)?;
        let stdin = child.stdin.take();
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // A program that fails early closes its end; its message says more than the broken pipe.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        let output = output.map_err(start)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let text = String::from_utf8_lossy(&output.stderr).trim().to_string();
        let message = if text.is_empty() { output.status.to_string() } else { shortened(&text) };
        Err(Error::Failed { program, arguments: arguments.join(" "), message })
    }
}

fn shortened(text: &str) -> String {
    if text.len() <= LONGEST_MESSAGE {
        return text.to_string();
    }
    text.chars().take(LONGEST_MESSAGE).chain(" ...".chars()).collect()
}
