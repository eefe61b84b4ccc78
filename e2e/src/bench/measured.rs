//! A scheduler's process and what it costs, from `/proc`.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

/// What a case took.
pub struct Measured {
    pub cpu: Duration,
    pub time: Duration,
    /// KiB.
    pub peak: u64,
}

/// A running scheduler; dropping it ends it.
pub struct Scheduler(Child);

impl Scheduler {
    pub fn start(binary: &Path, kubeconfig: &Path) -> Result<Self> {
        let mut command = Command::new(binary);
        command
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .args([
                "--leader-elect=false",
                "--secure-port=0",
                "--kube-api-qps=100000",
                "--kube-api-burst=100000",
                "--v=0",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().map(Self).with_context(|| format!("starting {}", binary.display()))
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.0.id());
        std::fs::read_to_string(&path).with_context(|| format!("reading {path}; did the scheduler end?"))
    }

    /// User and system time so far. The kernel counts in hundredths of a second.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = self.proc("stat")?;
        let after = stat.rsplit_once(')').context("no command in stat")?.1;
        let fields: Vec<&str> = after.split_whitespace().collect();
        let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        Ok(Duration::from_millis(10 * (ticks(11) + ticks(12))))
    }

    /// Peak resident memory in KiB.
    pub fn peak(&self) -> Result<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0))
    }

    pub fn stop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.stop();
    }
}
