//! Groups of the machine's own processes: the kubelet in one, and what is in none in another.
//!
//! Every minute what has come meanwhile follows. Threads of the kernel stay where they are, so that no limit of a group
//! holds them up. Start reading at [`Daemons::run`]. Upstream: ensureSystemCgroups and ensureProcessInContainerWithOOMScore in
//! pkg/kubelet/cm/container_manager_linux.go, v1.37.

use std::fs;
use std::path::Path;
use std::time::Duration;

use component::app::Error;
use tokio_util::sync::CancellationToken;

use super::fs::Hierarchy;
use crate::config::Settings;

/// Processes are looked for so often, as upstream.
const PERIOD: Duration = Duration::from_secs(60);
/// So often in a row, as upstream: while some are moved, others begin.
const ROUNDS: usize = 11;

/// Keeps the machine's own processes in their groups.
#[derive(Clone, Debug)]
pub struct Daemons {
    hierarchy: Hierarchy,
    /// Where processes belong that are in the root group; empty if they stay.
    system: String,
    /// Where the kubelet belongs; empty if it stays.
    kubelet: String,
    /// The kubelet's own.
    oom_score_adj: i64,
}

impl Daemons {
    /// As configured.
    ///
    /// # Errors
    /// If the system's group is the root, in which everything is that has no group.
    pub fn new(hierarchy: Hierarchy, settings: &Settings) -> Result<Self, Error> {
        let (system, kubelet) = (settings.system_cgroups.clone(), settings.kubelet_cgroups.clone());
        if system == "/" {
            return Err("failed to start ContainerManager: system container cannot be root (\"/\")".into());
        }
        Ok(Self { hierarchy, system, kubelet, oom_score_adj: settings.oom_score_adj })
    }

    /// Puts the kubelet into its group. What fails is tried again, and logged, as upstream.
    pub fn place_kubelet(&self) {
        if self.kubelet.is_empty() {
            return;
        }
        let result = is_on_host(Path::new("/proc")).and_then(|on_host| match on_host {
            true => self.place(Path::new("/proc/self")),
            false => Ok(()),
        });
        if let Err(error) = result {
            tracing::info!(container = self.kubelet, error, "Failed to ensure state");
        }
    }

    /// `process` is the kubelet's folder below `/proc`.
    fn place(&self, process: &Path) -> Result<(), String> {
        let groups = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
        let mut result = Ok(());
        if group_of(&groups, self.hierarchy.is_v2()) != Some(self.kubelet.as_str()) {
            let moved = self.hierarchy.enter(&self.kubelet, std::process::id());
            result = moved.map_err(|error| error.to_string());
        }
        let score = self.oom_score_adj;
        let set = fs::write(process.join("oom_score_adj"), score.to_string());
        result.and(set.map_err(|error| format!("failed to apply oom score {score} to the kubelet: {error}")))
    }

    /// Puts what is in no group into the system's.
    fn place_system(&self, proc: &Path) -> Result<(), String> {
        let mut result = Ok(());
        for _ in 0..ROUNDS {
            let all = match self.hierarchy.ungrouped() {
                Ok(all) => all,
                Err(error) => {
                    result = Err(format!("failed to list PIDs for root: {error}"));
                    continue;
                }
            };
            let movable: Vec<u32> = all.into_iter().filter(|pid| is_movable(proc, *pid)).collect();
            if movable.is_empty() {
                return Ok(());
            }
            tracing::debug!(pids = ?movable, "Moving non-kernel processes");
            for pid in movable {
                if let Err(error) = self.hierarchy.enter(&self.system, pid) {
                    let group = &self.system;
                    result =
                        Err(format!("failed to move PID {pid} into the system container {group:?}: {error}"));
                }
            }
        }
        result
    }

    /// Keeps everything in its place until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        if self.system.is_empty() && self.kubelet.is_empty() {
            return;
        }
        loop {
            if !self.system.is_empty()
                && let Err(error) = self.place_system(Path::new("/proc"))
            {
                tracing::info!(container = self.system, error, "Failed to ensure state");
            }
            self.place_kubelet();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }
}

/// Whether the kubelet sees the machine's processes. In a container of its own it stays where it is.
fn is_on_host(proc: &Path) -> Result<bool, String> {
    let namespace = |process: &str| {
        let link = fs::read_link(proc.join(process).join("ns/pid"));
        link.map_err(|error| format!("failed to find pid namespace of process {process}: {error}"))
    };
    Ok(namespace("1")? == namespace("self")?)
}

/// The first process and the kernel's threads, which have no program, are not moved. What has ended has none either.
fn is_movable(proc: &Path, pid: u32) -> bool {
    let program = fs::read_link(proc.join(pid.to_string()).join("exe"));
    pid != 1 && !program.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// The group of a process, from its list of groups; `None` if there is not one for both processors and memory. With systemd
/// it is the one that systemd knows. Upstream: getContainer.
fn group_of(text: &str, v2: bool) -> Option<&str> {
    let of = |controller: &str| {
        let mut fields = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        fields.find(|(names, _)| names.split(',').any(|name| name == controller)).map(|(_, path)| path)
    };
    if v2 {
        return of("");
    }
    let group = of("cpu").filter(|cpu| Some(*cpu) == of("memory"))?;
    Some(of("name=systemd").unwrap_or(group))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::os::unix::fs::symlink;

    fn daemons(hierarchy: Hierarchy, system: &str, kubelet: &str) -> Daemons {
        let settings = Settings {
            system_cgroups: system.into(),
            kubelet_cgroups: kubelet.into(),
            oom_score_adj: -7,
            ..Settings::default()
        };
        Daemons::new(hierarchy, &settings).unwrap()
    }

    #[test]
    fn groups() {
        let v1 = "4:cpu,cpuacct:/a\n3:memory:/a\n2:devices:/b\n";
        let cases = [
            ("0::/kubelet\n", true, Some("/kubelet")),
            (v1, true, None),
            (v1, false, Some("/a")),
            ("4:cpu,cpuacct:/a\n3:memory:/b\n", false, None),
            (
                "4:cpu,cpuacct:/\n3:memory:/\n1:name=systemd:/k.service\n0::/k.service",
                false,
                Some("/k.service"),
            ),
            ("", false, None),
        ];
        for (text, v2, expected) in cases {
            assert_eq!(group_of(text, v2), expected, "{text}");
        }
    }

    #[test]
    fn root_is_no_group() {
        let settings = Settings { system_cgroups: "/".into(), ..Settings::default() };
        let refused = Daemons::new(Hierarchy::V2("/".into()), &settings).unwrap_err();
        assert!(refused.to_string().ends_with(r#"system container cannot be root ("/")"#), "{refused}");
    }

    /// Played on folders: writing to a real group removes a process from the root, here the list stays as it is.
    #[test]
    fn the_system_has_its_group() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, proc) = (dir.path().join("devices"), dir.path().join("proc"));
        fs::create_dir(&tree).unwrap();
        for pid in [1, 2, 3, 4] {
            fs::create_dir_all(proc.join(pid.to_string())).unwrap();
        }
        symlink("/bin/init", proc.join("1/exe")).unwrap();
        symlink("/bin/sh", proc.join("4/exe")).unwrap();
        let hierarchy = Hierarchy::V1(BTreeMap::from([("devices".to_owned(), tree.clone())]));
        let daemons = daemons(hierarchy, "/system", "");
        fs::write(tree.join("cgroup.procs"), "1\n2\n3\n").unwrap();
        assert_eq!(daemons.place_system(&proc), Ok(()));
        assert!(!tree.join("system").exists());
        fs::write(tree.join("cgroup.procs"), "1\n2\n4\n").unwrap();
        assert_eq!(daemons.place_system(&proc), Ok(()));
        assert_eq!(fs::read_to_string(tree.join("system/cgroup.procs")).unwrap(), "4");
        fs::remove_dir_all(tree.join("system")).unwrap();
        fs::write(tree.join("system"), "").unwrap();
        let refused = daemons.place_system(&proc).unwrap_err();
        assert!(
            refused.starts_with(r#"failed to move PID 4 into the system container "/system": "#),
            "{refused}"
        );
        fs::remove_file(tree.join("cgroup.procs")).unwrap();
        assert!(daemons.place_system(&proc).unwrap_err().starts_with("failed to list PIDs for root: "));
    }

    #[test]
    fn the_kubelet_has_its_group() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, own) = (dir.path().join("tree"), dir.path().join("self"));
        fs::create_dir(&tree).unwrap();
        fs::create_dir(&own).unwrap();
        fs::write(tree.join("cgroup.controllers"), "").unwrap();
        let daemons = daemons(Hierarchy::V2(tree.clone()), "", "/kubelet");
        fs::write(own.join("cgroup"), "0::/kubelet\n").unwrap();
        assert_eq!(daemons.place(&own), Ok(()));
        assert!(!tree.join("kubelet").exists());
        assert_eq!(fs::read_to_string(own.join("oom_score_adj")).unwrap(), "-7");
        fs::write(own.join("cgroup"), "0::/user.slice\n").unwrap();
        assert_eq!(daemons.place(&own), Ok(()));
        let moved = fs::read_to_string(tree.join("kubelet/cgroup.procs")).unwrap();
        assert_eq!(moved, std::process::id().to_string());
    }

    #[test]
    fn containers_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for (process, namespace) in [("1", "pid:[1]"), ("self", "pid:[2]")] {
            fs::create_dir_all(dir.path().join(process).join("ns")).unwrap();
            symlink(namespace, dir.path().join(process).join("ns/pid")).unwrap();
        }
        assert_eq!(is_on_host(dir.path()), Ok(false));
        assert_eq!(is_on_host(Path::new("/nowhere")).map_err(|e| e.contains("process 1")), Err(true));
    }
}
