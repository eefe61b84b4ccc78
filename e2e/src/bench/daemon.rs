//! A daemon's process and what it costs.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

/// What a case took.
pub struct Measured {
    pub cpu: Duration,
    pub time: Duration,
    /// KiB.
    pub peak: u64,
}

/// A running daemon; dropping it ends it.
pub struct Daemon(Child);

impl Daemon {
    /// Starts a daemon that elects no leader and serves nothing. `flags` are added.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(binary: &Path, kubeconfig: &Path, flags: &[&str]) -> Result<Self> {
        let mut command = Command::new(binary);
        command
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .args(["--leader-elect=false", "--secure-port=0", "--v=0"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().map(Self).with_context(|| format!("starting {}", binary.display()))
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.0.id());
        std::fs::read_to_string(&path).with_context(|| format!("reading {path}; did the daemon end?"))
    }

    /// User and system time so far, of threads that have ended too.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn cpu(&self) -> Result<Duration> {
        let pid = Pid::from_raw(i32::try_from(self.0.id())?);
        let clock = clock_getcpuclockid(pid).and_then(ClockId::now);
        clock
            .map(Duration::from)
            .with_context(|| format!("reading the clock of process {pid}; did the daemon end?"))
    }

    /// Peak resident memory in KiB.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn peak(&self) -> Result<u64> {
        self.status("VmHWM:")
    }

    /// Resident memory in KiB.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn resident(&self) -> Result<u64> {
        self.status("VmRSS:")
    }

    fn status(&self, name: &str) -> Result<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|l| l.strip_prefix(name)).with_context(|| format!("no {name}"))?;
        Ok(line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0))
    }

    /// Kills it without notice.
    pub fn stop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}
