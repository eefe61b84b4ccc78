//! Control groups on the file system, version 1 and 2.
//!
//! Upstream: pkg/kubelet/cm/cgroup_manager_linux.go, cgroup_v1_manager_linux.go and cgroup_v2_manager_linux.go, v1.37.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::container::limits::CgroupLimits;

/// A control group that could not be handled.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} cgroup {path}: {source}")]
pub struct Error {
    action: &'static str,
    path: String,
    source: io::Error,
}

/// The hierarchies of this machine.
#[derive(Clone, Debug)]
pub enum Hierarchy {
    /// One tree per controller, by the controllers' names.
    V1(BTreeMap<String, PathBuf>),
    /// One tree for all.
    V2(PathBuf),
}

/// Controllers of version 2 that groups of pods need.
const V2_CONTROLLERS: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];

impl Hierarchy {
    /// Finds out what is mounted.
    ///
    /// # Errors
    /// If the mount table cannot be read.
    pub fn detect() -> io::Result<Self> {
        let mounts = sys::mounts::list()?;
        let root = Path::new("/sys/fs/cgroup");
        if mounts.iter().any(|m| m.fs_type == "cgroup2" && m.target == root) {
            return Ok(Self::V2(root.to_owned()));
        }
        let v1 = mounts.into_iter().filter(|m| m.fs_type == "cgroup" && m.target.starts_with(root));
        let name =
            |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self::V1(v1.map(|m| (name(&m.target), m.target)).collect()))
    }

    /// True for version 2.
    pub fn is_v2(&self) -> bool {
        matches!(self, Self::V2(_))
    }

    fn dirs(&self, path: &str) -> Vec<PathBuf> {
        match self {
            Self::V1(mounts) => mounts.values().map(|mount| mount.join(path)).collect(),
            Self::V2(root) => vec![root.join(path)],
        }
    }

    /// Where a controller's files of a group are.
    pub fn controller_dir(&self, controller: &str, path: &str) -> Option<PathBuf> {
        match self {
            // Controllers may share one mount, named after all of them.
            Self::V1(mounts) => (mounts.iter())
                .find(|(name, _)| name.split(',').any(|part| part == controller))
                .map(|(_, mount)| mount.join(path)),
            Self::V2(root) => Some(root.join(path)),
        }
    }

    /// True if the group exists in all trees.
    pub fn exists(&self, path: &str) -> bool {
        self.dirs(path).iter().all(|dir| dir.is_dir())
    }

    /// Makes the group with its parents, then sets its limits.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn create(&self, path: &str, limits: &CgroupLimits) -> Result<(), Error> {
        let made = match self {
            Self::V1(mounts) => mounts.values().try_for_each(|mount| create_v1(mount, path)),
            Self::V2(root) => create_v2(root, path),
        };
        made.map_err(|source| Error { action: "create", path: path.to_owned(), source })?;
        self.set(path, limits)
    }

    /// Sets the limits that are given.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set(&self, path: &str, limits: &CgroupLimits) -> Result<(), Error> {
        for (controller, file, value) in self.settings(limits) {
            let Some(dir) = self.controller_dir(controller, path) else { continue };
            let file = dir.join(file);
            if !file.exists() {
                continue;
            }
            fs::write(&file, value).map_err(|source| Error {
                action: "limit",
                path: file.display().to_string(),
                source,
            })?;
        }
        Ok(())
    }

    fn settings(&self, limits: &CgroupLimits) -> Vec<(&'static str, &'static str, String)> {
        let mut out = Vec::new();
        let v2 = self.is_v2();
        if let Some(shares) = limits.shares {
            out.push(if v2 {
                ("cpu", "cpu.weight", shares_to_weight(shares).to_string())
            } else {
                ("cpu", "cpu.shares", shares.to_string())
            });
        }
        if let Some((quota, period)) = limits.quota {
            if v2 {
                let quota = if quota > 0 { quota.to_string() } else { "max".to_owned() };
                out.push(("cpu", "cpu.max", format!("{quota} {period}")));
            } else {
                out.push(("cpu", "cpu.cfs_period_us", period.to_string()));
                out.push(("cpu", "cpu.cfs_quota_us", if quota > 0 { quota } else { -1 }.to_string()));
            }
        }
        if let Some(memory) = limits.memory.filter(|m| *m > 0) {
            let file = if v2 { "memory.max" } else { "memory.limit_in_bytes" };
            out.push(("memory", file, memory.to_string()));
        }
        if let Some(pids) = limits.pids.filter(|p| *p > 0) {
            out.push(("pids", "pids.max", pids.to_string()));
        }
        out
    }

    /// Ends what is left in the group and removes it with everything below.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn remove(&self, path: &str) -> Result<(), Error> {
        self.dirs(path).iter().try_for_each(|dir| {
            remove_dir(dir).map_err(|source| Error {
                action: "remove",
                path: dir.display().to_string(),
                source,
            })
        })
    }

    /// Names of the groups directly below a group.
    pub fn children(&self, path: &str) -> Vec<String> {
        let mut out: Vec<String> = (self.dirs(path).iter())
            .filter_map(|dir| fs::read_dir(dir).ok())
            .flat_map(|entries| entries.flatten())
            .filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        out.sort();
        out.dedup();
        out
    }
}

/// Shares (2 to 262144) as weight (1 to 10000), as the runtime does it.
fn shares_to_weight(shares: u64) -> u64 {
    match shares {
        0 => 0,
        s => 1 + (s.clamp(2, 262_144) - 2) * 9999 / 262_142,
    }
}

fn create_v1(mount: &Path, path: &str) -> io::Result<()> {
    let mut dir = mount.to_owned();
    for part in Path::new(path).components() {
        let parent = dir.clone();
        dir.push(part);
        match fs::create_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // A new cpuset group admits no process until it has processors and memory nodes.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(own) = fs::read_to_string(dir.join(file))
                && own.trim().is_empty()
            {
                fs::write(dir.join(file), fs::read_to_string(parent.join(file))?)?;
            }
        }
        let hierarchy = dir.join("memory.use_hierarchy");
        if fs::read_to_string(&hierarchy).is_ok_and(|v| v.trim() == "0") {
            // Fails if the parent has it already, which is as good.
            let _ = fs::write(&hierarchy, "1");
        }
    }
    Ok(())
}

fn create_v2(root: &Path, path: &str) -> io::Result<()> {
    let mut dir = root.to_owned();
    for part in Path::new(path).components() {
        let available = fs::read_to_string(dir.join("cgroup.controllers"))?;
        for controller in V2_CONTROLLERS.iter().filter(|c| available.split_whitespace().any(|a| a == **c)) {
            fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"))?;
        }
        dir.push(part);
        match fs::create_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn remove_dir(dir: &Path) -> io::Result<()> {
    // Deepest first; a list instead of recursion because containers may nest as deep as they like.
    let mut pending = vec![dir.to_owned()];
    let mut all = Vec::new();
    while let Some(dir) = pending.pop() {
        match fs::read_dir(&dir) {
            Ok(entries) => {
                for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
                    pending.push(entry.path());
                }
                all.push(dir);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    for dir in all.iter().rev() {
        kill_all(dir);
        match fs::remove_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn kill_all(dir: &Path) {
    let pids = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    for pid in pids.lines().filter_map(|line| line.trim().parse::<i32>().ok()).filter(|pid| *pid > 1) {
        // Gone already is as good as killed.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings() {
        let limits =
            CgroupLimits { shares: Some(102), quota: Some((0, 100_000)), memory: Some(5), pids: None };
        let v1 = Hierarchy::V1(BTreeMap::new()).settings(&limits);
        assert_eq!(v1[0], ("cpu", "cpu.shares", "102".into()));
        assert_eq!(v1[2], ("cpu", "cpu.cfs_quota_us", "-1".into()));
        let v2 = Hierarchy::V2(PathBuf::new()).settings(&limits);
        assert_eq!(v2[0].2, "4");
        assert_eq!(v2[1], ("cpu", "cpu.max", "max 100000".into()));
        assert_eq!(v2[2], ("memory", "memory.max", "5".into()));
    }

    #[test]
    fn finds_controllers() {
        let mounts = BTreeMap::from([("cpu,cpuacct".to_owned(), PathBuf::from("/c"))]);
        let hierarchy = Hierarchy::V1(mounts);
        assert_eq!(hierarchy.controller_dir("cpuacct", "x"), Some("/c/x".into()));
        assert_eq!(hierarchy.controller_dir("memory", "x"), None);
    }
}
