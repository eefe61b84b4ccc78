//! Control groups on the file system, version 1 and 2.
//!
//! Upstream: pkg/kubelet/cm/cgroup_manager_linux.go, cgroup_v1_manager_linux.go and cgroup_v2_manager_linux.go, v1.37.

use std::borrow::Cow;
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

/// Hierarchies of version 1 in which a group has to be, as far as they are mounted.
const V1_NEEDED: [&str; 7] = ["cpu", "cpuacct", "cpuset", "memory", "systemd", "pids", "hugetlb"];
/// Controllers of version 2 that groups of pods need, as far as the kernel has them.
const V2_CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "memory", "hugetlb", "pids"];

/// A file of a controller, and what is written into it.
type Setting = (&'static str, Cow<'static, str>, String);

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
        // Besides the controllers' trees there may be one without controllers; runtimes put their processes into it, too.
        // Upstream: github.com/opencontainers/cgroups IsCgroup2HybridMode.
        let is_used = |m: &sys::mounts::Mount| match m.fs_type.as_str() {
            "cgroup" => m.target.starts_with(root),
            "cgroup2" => m.target == root.join("unified"),
            _ => false,
        };
        let v1 = mounts.into_iter().filter(is_used);
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

    /// Whether the group is there, in all trees and with all controllers that the kubelet needs. Upstream: Validate.
    ///
    /// # Errors
    /// What is missing.
    pub fn validate(&self, path: &str) -> Result<(), String> {
        let missing: Vec<String> = match self {
            Self::V1(mounts) => (mounts.iter())
                .filter(|(name, _)| name.split(',').any(|part| V1_NEEDED.contains(&part)))
                .map(|(_, mount)| mount.join(path))
                .filter(|dir| !dir.is_dir())
                .map(|dir| dir.display().to_string())
                .collect(),
            Self::V2(root) => {
                let (available, enabled) = (controllers(root), controllers(&root.join(path)));
                let available =
                    available.map_err(|e| format!("could not read controllers for cgroup \"/\": {e}"))?;
                let enabled =
                    enabled.map_err(|e| format!("could not read controllers for cgroup {path:?}: {e}"))?;
                (V2_CONTROLLERS.iter())
                    .map(|needed| (*needed).to_owned())
                    .filter(|needed| available.contains(needed) && !enabled.contains(needed))
                    .collect()
            }
        };
        match (missing.is_empty(), self) {
            (true, _) => Ok(()),
            (_, Self::V1(_)) => {
                Err(format!("cgroup {path:?} has some missing paths: {}", missing.join(", ")))
            }
            (_, Self::V2(_)) => {
                Err(format!("cgroup {path:?} has some missing controllers: {}", missing.join(", ")))
            }
        }
    }

    /// True if the group exists.
    pub fn exists(&self, path: &str) -> bool {
        self.validate(path).is_ok()
    }

    /// Makes the group with its parents.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn create(&self, path: &str) -> Result<(), Error> {
        let made = match self {
            Self::V1(mounts) => mounts.values().try_for_each(|mount| create_v1(mount, path)),
            Self::V2(root) => create_v2(root, path),
        };
        made.map_err(|source| Error { action: "create", path: path.to_owned(), source })
    }

    /// Puts a process into the group, which is made if need be.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn enter(&self, path: &str, pid: u32) -> Result<(), Error> {
        let path = path.trim_start_matches('/');
        self.create(path)?;
        let failed = |source| Error { action: "enter", path: path.to_owned(), source };
        let write = |dir: PathBuf| fs::write(dir.join("cgroup.procs"), pid.to_string());
        self.dirs(path).into_iter().try_for_each(write).map_err(failed)
    }

    /// Processes in no group but the root. Of version 1, what the tree of devices says counts, as upstream (GetPids in
    /// pkg/kubelet/cm/util): everything is in it.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn ungrouped(&self) -> io::Result<Vec<u32>> {
        let root = self.controller_dir("devices", "");
        let root = root.ok_or_else(|| io::Error::other("mountpoint for devices not found"))?;
        let text = fs::read_to_string(root.join("cgroup.procs"))?;
        Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect())
    }

    /// Sets the limits that are given, as many as the kernel takes.
    ///
    /// # Errors
    /// The first that the kernel refuses.
    pub fn set(&self, path: &str, limits: &CgroupLimits) -> Result<(), Error> {
        let mut result = Ok(());
        for (controller, file, value) in self.settings(limits) {
            let Some(dir) = self.controller_dir(controller, path) else { continue };
            let file = dir.join(&*file);
            if !file.exists() {
                continue;
            }
            let written = fs::write(&file, value);
            result = result.and(written.map_err(|source| Error {
                action: "limit",
                path: file.display().to_string(),
                source,
            }));
        }
        result
    }

    /// Upstream: fs and fs2 of github.com/opencontainers/cgroups v0.0.7.
    fn settings(&self, limits: &CgroupLimits) -> Vec<Setting> {
        let mut out: Vec<Setting> = Vec::new();
        let v2 = self.is_v2();
        let mut put = |controller, file: &'static str, value| out.push((controller, file.into(), value));
        if let Some(shares) = limits.shares {
            if v2 {
                put("cpu", "cpu.weight", shares_to_weight(shares).to_string());
            } else {
                put("cpu", "cpu.shares", shares.to_string());
            }
        }
        if let Some((quota, period)) = limits.quota {
            if v2 {
                let quota = if quota > 0 { quota.to_string() } else { "max".to_owned() };
                put("cpu", "cpu.max", format!("{quota} {period}"));
            } else {
                put("cpu", "cpu.cfs_period_us", period.to_string());
                put("cpu", "cpu.cfs_quota_us", if quota > 0 { quota } else { -1 }.to_string());
            }
        }
        if let Some(memory) = limits.memory.filter(|m| *m != 0) {
            let file = if v2 { "memory.max" } else { "memory.limit_in_bytes" };
            put("memory", file, if v2 && memory == -1 { "max".to_owned() } else { memory.to_string() });
        }
        if let Some(pids) = limits.pids {
            let most = match pids {
                // Zero is one, as with systemd.
                0 => "1".to_owned(),
                n if n > 0 => n.to_string(),
                _ => "max".to_owned(),
            };
            put("pids", "pids.max", most);
        }
        if let Some(cpus) = limits.cpus.clone().filter(|cpus| !cpus.is_empty()) {
            put("cpuset", "cpuset.cpus", cpus);
        }
        for (size, bytes) in limits.huge_pages.iter().flatten() {
            let suffix = if v2 { "max" } else { "limit_in_bytes" };
            for file in [format!("hugetlb.{size}.{suffix}"), format!("hugetlb.{size}.rsvd.{suffix}")] {
                out.push(("hugetlb", file.into(), bytes.to_string()));
            }
        }
        for (file, value) in limits.unified.iter().filter(|_| v2) {
            out.push(("memory", (*file).into(), value.clone()));
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

    /// Bytes of memory that the group has; `None` if that cannot be read.
    pub fn memory_usage(&self, path: &str) -> Option<i64> {
        let file = if self.is_v2() { "memory.current" } else { "memory.usage_in_bytes" };
        let text = fs::read_to_string(self.controller_dir("memory", path)?.join(file)).ok()?;
        text.trim().parse().ok()
    }

    /// True if anything of the group is there, in any tree.
    pub fn is_present(&self, path: &str) -> bool {
        self.dirs(path).iter().any(|dir| dir.exists())
    }

    /// Ends all processes in the group and below.
    pub fn kill(&self, path: &str) {
        for dir in self.dirs(path) {
            // What cannot be read has gone meanwhile.
            descendants(&dir).unwrap_or_default().iter().for_each(|dir| kill_all(dir));
        }
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

/// The controllers that a group of version 2 has.
fn controllers(dir: &Path) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(dir.join("cgroup.controllers"))?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// Shares (2 to 262144) as weight (1 to 10000). Upstream: getCPUWeight in pkg/kubelet/cm/cgroup_manager_linux.go; container
/// runtimes convert otherwise.
pub(super) fn shares_to_weight(shares: u64) -> u64 {
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

/// Enables whatever the kernel has all the way down; what cannot be enabled shows when it is set. Upstream:
/// CreateCgroupPath in fs2/create.go.
fn create_v2(root: &Path, path: &str) -> io::Result<()> {
    let available = controllers(root)?;
    let all: Vec<String> = available.iter().map(|name| format!("+{name}")).collect();
    let mut dir = root.to_owned();
    for part in Path::new(path).components() {
        let file = dir.join("cgroup.subtree_control");
        if fs::write(&file, all.join(" ")).is_err() {
            for one in &all {
                // A group with processes, or within a container, may not have them all.
                let _ = fs::write(&file, one);
            }
        }
        dir.push(part);
        match fs::create_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let kind = fs::read_to_string(dir.join("cgroup.type")).unwrap_or_default();
        if !matches!(kind.trim(), "" | "domain") {
            let text = format!(
                "cannot enter cgroupv2 {:?} with domain controllers -- it is in {} mode",
                dir.display(),
                kind.trim()
            );
            return Err(io::Error::other(text));
        }
    }
    Ok(())
}

/// A group and all below it, parents first.
fn descendants(dir: &Path) -> io::Result<Vec<PathBuf>> {
    // A list instead of recursion because containers may nest as deep as they like.
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
    Ok(all)
}

fn remove_dir(dir: &Path) -> io::Result<()> {
    for dir in descendants(dir)?.iter().rev() {
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
        let limits = CgroupLimits {
            shares: Some(102),
            quota: Some((0, 100_000)),
            memory: Some(5),
            huge_pages: Some(vec![("2MB".into(), 7)]),
            cpus: Some("0-1".into()),
            pids: Some(0),
            unified: [("memory.min", "0".to_owned())].into(),
        };
        let v1 = Hierarchy::V1(BTreeMap::new()).settings(&limits);
        assert_eq!(v1[0], ("cpu", "cpu.shares".into(), "102".into()));
        assert_eq!(v1[2], ("cpu", "cpu.cfs_quota_us".into(), "-1".into()));
        let v2 = Hierarchy::V2(PathBuf::new()).settings(&limits);
        assert_eq!(v2[0].2, "4");
        assert_eq!(v2[1], ("cpu", "cpu.max".into(), "max 100000".into()));
        assert_eq!(v2[2], ("memory", "memory.max".into(), "5".into()));
        let rest: Vec<(&str, &str)> =
            v2[3..].iter().map(|(_, file, value)| (&**file, value.as_str())).collect();
        let expected = [
            ("pids.max", "1"),
            ("cpuset.cpus", "0-1"),
            ("hugetlb.2MB.max", "7"),
            ("hugetlb.2MB.rsvd.max", "7"),
            ("memory.min", "0"),
        ];
        assert_eq!(rest, expected);
        assert_eq!(v1.len(), 8, "{v1:?}");
        assert_eq!([2, 102, 1024, 262_144, 300_000].map(shares_to_weight), [1, 4, 39, 10_000, 10_000]);
    }

    #[test]
    fn enters_every_tree() {
        let dir = tempfile::tempdir().unwrap();
        let trees = ["pids", "unified"].map(|name| (name.to_owned(), dir.path().join(name)));
        trees.iter().for_each(|(_, tree)| fs::create_dir(tree).unwrap());
        Hierarchy::V1(trees.clone().into()).enter("/kubelet.slice/x", 42).unwrap();
        for (_, tree) in trees {
            assert_eq!(fs::read_to_string(tree.join("kubelet.slice/x/cgroup.procs")).unwrap(), "42");
        }
    }

    #[test]
    fn finds_controllers() {
        let mounts = BTreeMap::from([("cpu,cpuacct".to_owned(), PathBuf::from("/c"))]);
        let hierarchy = Hierarchy::V1(mounts);
        assert_eq!(hierarchy.controller_dir("cpuacct", "x"), Some("/c/x".into()));
        assert_eq!(hierarchy.controller_dir("memory", "x"), None);
    }
}
