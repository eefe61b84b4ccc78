//! Long-running processes, started detached and ended by pid.
//!
//! A record (`run/<name>.json`) holds the pid and the process's start time, so that a reused pid is never signalled.
//! Where systemd runs, the machine's own cluster consists of its units instead ([`unit`]).

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::json;

use crate::unit;

/// Starts and ends the processes of one cluster.
pub struct Processes {
    /// Holds `run/` and `log/`.
    pub dir: PathBuf,
    /// Network namespace to start everything in; none = the machine's own.
    pub netns: Option<String>,
}

/// A process as its record tells.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Record {
    pid: i32,
    start_ticks: u64,
}

impl Processes {
    /// Processes are units of systemd. Not in a network namespace: such a cluster is thrown away, and its processes
    /// are killed on purpose.
    pub fn supervised(&self) -> bool {
        self.netns.is_none() && unit::available()
    }

    /// A command that runs inside the cluster's network namespace.
    pub fn command(&self, program: &str) -> Command {
        match &self.netns {
            None => Command::new(program),
            Some(name) => {
                // Only the network namespace: a new mount namespace would hide volumes from containers.
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{name}")).arg(program);
                command
            }
        }
    }

    /// Runs `work` on a thread inside the cluster's network namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let Some(name) = &self.netns else { return work() };
        let namespace =
            File::open(format!("/run/netns/{name}")).with_context(|| format!("opening namespace {name}"))?;
        std::thread::scope(|scope| {
            let inner = scope.spawn(|| {
                nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET)
                    .context("entering the namespace")?;
                work()
            });
            inner.join().map_err(|_| anyhow::anyhow!("a thread inside namespace {name} panicked"))?
        })
    }

    /// Starts `argv` unless it runs already. True when it was started now.
    pub fn start(&self, name: &str, argv: &[String], env: &[(&str, String)]) -> Result<bool> {
        if self.running(name).is_some() {
            return Ok(false);
        }
        fs::create_dir_all(self.dir.join("run"))?;
        fs::create_dir_all(self.dir.join("log"))?;
        if self.supervised() {
            unit::start(name, argv, env, &self.log_path(name))?;
            let pid = unit::pid(name).with_context(|| format!("{name} ended at once, see its log"))?;
            fs::write(
                self.record_path(name),
                json!({"pid": pid, "startTicks": start_ticks(pid)}).to_string(),
            )?;
            return Ok(true);
        }
        let (program, arguments) = argv.split_first().context("an empty command line")?;
        let log = File::options().create(true).append(true).open(self.log_path(name))?;
        let mut command = self.command(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        command.envs(env.iter().map(|(k, v)| (*k, v.as_str())));
        let child = command.spawn().with_context(|| format!("starting {name} ({program})"))?;
        let pid = i32::try_from(child.id())?;
        let start_ticks = start_ticks(pid).with_context(|| format!("{name} ended at once, see its log"))?;
        fs::write(self.record_path(name), json!({"pid": pid, "startTicks": start_ticks}).to_string())?;
        Ok(true)
    }

    /// The pid, if the process still runs.
    pub fn running(&self, name: &str) -> Option<i32> {
        let record = self.record(name)?;
        if self.supervised() {
            return unit::pid(name);
        }
        (start_ticks(record.pid) == Some(record.start_ticks)).then_some(record.pid)
    }

    /// Sends `signal`, then waits up to `grace` for the end; kills after that.
    pub fn stop(&self, name: &str, signal: Signal, grace: Duration) -> Result<()> {
        let Some(record) = self.record(name) else { return Ok(()) };
        if self.supervised() {
            unit::stop(name)?;
        } else if self.running(name).is_some() {
            kill(Pid::from_raw(record.pid), signal).with_context(|| format!("signalling {name}"))?;
            if !wait_gone(record, grace) {
                kill(Pid::from_raw(record.pid), Signal::SIGKILL)
                    .with_context(|| format!("killing {name}"))?;
                if !wait_gone(record, Duration::from_secs(10)) {
                    bail!("{name} (pid {}) does not end after SIGKILL", record.pid);
                }
            }
        }
        fs::remove_file(self.record_path(name)).with_context(|| format!("removing the record of {name}"))
    }

    /// Names with a record, whether they run or not.
    pub fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.dir.join("run")) else { return Vec::new() };
        entries
            .filter_map(|e| e.ok()?.file_name().to_str()?.strip_suffix(".json").map(str::to_string))
            .collect()
    }

    /// Where `name` logs to.
    pub fn log_path(&self, name: &str) -> PathBuf {
        self.dir.join("log").join(format!("{name}.log"))
    }

    /// The last lines of a log, for error messages.
    pub fn log_tail(&self, name: &str, lines: usize) -> String {
        let text = fs::read(self.log_path(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self, name: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.running(name)?)).ok()?;
        status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse().ok())
    }

    fn record_path(&self, name: &str) -> PathBuf {
        self.dir.join("run").join(format!("{name}.json"))
    }

    fn record(&self, name: &str) -> Option<Record> {
        let text = fs::read_to_string(self.record_path(name)).ok()?;
        let value: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some(Record {
            pid: i32::try_from(value["pid"].as_i64()?).ok()?,
            start_ticks: value["startTicks"].as_u64()?,
        })
    }
}

/// Start time in clock ticks since boot; none when there is no such process, or it is a zombie.
fn start_ticks(pid: i32) -> Option<u64> {
    read_stat(pid).and_then(|(state, ticks)| (state != "Z").then_some(ticks))
}

/// State and start time.
fn read_stat(pid: i32) -> Option<(String, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.rsplit_once(") ")?.1;
    let mut fields = after_name.split(' ');
    let state = fields.next()?.to_string();
    Some((state, fields.nth(18)?.parse().ok()?))
}

fn wait_gone(record: Record, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if is_gone(record) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// The process and all its threads have ended. A zombie whose other threads still end holds its ports: only its
/// parent's wait, or its disappearance, tells that they are free.
fn is_gone(record: Record) -> bool {
    match waitpid(Pid::from_raw(record.pid), Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) => false,
        Ok(_) => true,
        Err(_) => read_stat(record.pid).is_none_or(|(_, ticks)| ticks != record.start_ticks),
    }
}
