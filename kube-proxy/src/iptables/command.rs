//! Runs the iptables programs of one family.
//!
//! The programs wait for the lock of the legacy back end themselves; the nft back end has none.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::model::Family;

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("running {program}: {source} (is the package iptables installed?)")]
    Start {
        program: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// It ended with an error.
    #[error("{program} {arguments}: {message}")]
    Failed { program: &'static str, arguments: String, message: String },
}

/// Result of a program.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The programs of one family.
#[derive(Clone, Copy, Debug)]
pub struct Iptables {
    pub family: Family,
}

/// Seconds to wait for the lock that other users of iptables may hold.
const LOCK_WAIT: &str = "5";

impl Iptables {
    fn program(self, v4: &'static str, v6: &'static str) -> &'static str {
        match self.family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// All tables as text.
    pub async fn save(self) -> Result<String> {
        run(self.program("iptables-save", "ip6tables-save"), &[], "").await
    }

    /// Applies a load; all of it or nothing per table.
    pub async fn restore(self, text: &str) -> Result<()> {
        let arguments = ["-w", LOCK_WAIT, "--noflush", "--counters"];
        run(self.program("iptables-restore", "ip6tables-restore"), &arguments, text).await.map(drop)
    }

    /// One call of iptables itself.
    pub async fn call(self, arguments: &[&str]) -> Result<String> {
        let all: Vec<&str> = ["-w", LOCK_WAIT].iter().chain(arguments).copied().collect();
        run(self.program("iptables", "ip6tables"), &all, "").await
    }

    /// Says whether the program and the kernel's table can be used at all.
    pub async fn present(self) -> Result<()> {
        self.call(&["-t", "nat", "-n", "-L", "POSTROUTING"]).await.map(drop)
    }
}

async fn run(program: &'static str, arguments: &[&str], input: &str) -> Result<String> {
    let start = |source| Error::Start { program, source };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
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
    let message = if text.is_empty() { output.status.to_string() } else { text };
    Err(Error::Failed { program, arguments: arguments.join(" "), message })
}
