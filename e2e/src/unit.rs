//! Long-running processes as units of systemd, on a machine that systemd runs: it starts again what ends, and each has a
//! cgroup of its own. The units are transient: nothing is written below `/etc`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// How long a unit may take to end.
const GRACE: Duration = Duration::from_secs(20);

/// Whether systemd is this machine's init (`sd_booted(3)`).
pub fn available() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The unit of the process `name`.
fn unit(name: &str) -> String {
    format!("corten-{name}.service")
}

/// Starts `argv` as the unit of `name`; what it prints is appended to `log`.
pub fn start(name: &str, argv: &[String], env: &[(&str, String)], log: &Path) -> Result<()> {
    let mut arguments =
        vec!["--quiet".to_string(), "--collect".to_string(), format!("--unit={}", unit(name))];
    let log = log.display();
    arguments.extend(
        [
            "Type=exec".to_string(),
            "Restart=on-failure".to_string(),
            "RestartSec=1".to_string(),
            "StartLimitIntervalSec=0".to_string(),
            // What containerd and the kubelet started lives on without them.
            "KillMode=process".to_string(),
            "Delegate=yes".to_string(),
            "LimitNOFILE=1048576".to_string(),
            "TasksMax=infinity".to_string(),
            format!("TimeoutStopSec={}", GRACE.as_secs()),
            format!("StandardOutput=append:{log}"),
            format!("StandardError=append:{log}"),
        ]
        .map(|property| format!("--property={property}")),
    );
    arguments.extend(env.iter().map(|(name, value)| format!("--setenv={name}={value}")));
    arguments.push("--".to_string());
    arguments.extend(argv.iter().cloned());
    run("systemd-run", &arguments).map(drop)
}

/// The main process of the unit of `name`, if it runs.
pub fn pid(name: &str) -> Option<i32> {
    let arguments = ["show", "--property=MainPID", "--value", &unit(name)].map(str::to_string);
    run("systemctl", &arguments).ok()?.trim().parse().ok().filter(|pid| *pid != 0)
}

/// Ends the unit of `name`, by force after [`GRACE`].
pub fn stop(name: &str) -> Result<()> {
    if pid(name).is_none() {
        return Ok(());
    }
    run("systemctl", &["stop", &unit(name)].map(str::to_string)).map(drop)
}

fn run(program: &str, arguments: &[String]) -> Result<String> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("running {program}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{program} {}: {}", arguments.join(" "), stderr.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
