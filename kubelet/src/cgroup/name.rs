//! Names of control groups, independent of the driver, and how each driver spells them.
//!
//! `{kubepods, burstable, pod1-2}` is `/kubepods/burstable/pod1-2` on the file system and
//! `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice` with systemd: a slice's name holds those of
//! all its parents, so dashes within a part become underscores. Upstream: CgroupName in
//! pkg/kubelet/cm/cgroup_manager_linux.go, v1.37.

const SLICE: &str = ".slice";

/// The parts of a group's name from the root on; none for the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupName(Vec<String>);

impl CgroupName {
    /// Reads a path such as `/a/b`.
    pub fn from_cgroupfs(path: &str) -> Self {
        Self(path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect())
    }

    /// Reads the last part of a path such as `/a.slice/a-b.slice`, which holds the whole name.
    pub fn from_systemd(path: &str) -> Self {
        let last = path.rsplit('/').next().unwrap_or_default();
        let name = last.strip_suffix(SLICE).unwrap_or(last);
        Self(name.split('-').filter(|part| !part.is_empty()).map(|part| part.replace('_', "-")).collect())
    }

    /// The group of that name below this one.
    #[must_use]
    pub fn child(&self, part: &str) -> Self {
        let mut parts = self.0.clone();
        parts.push(part.to_owned());
        Self(parts)
    }

    /// The group above; none above the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (_, above) = self.0.split_last()?;
        Some(Self(above.to_vec()))
    }

    /// The last part; empty for the root.
    pub fn last(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    /// True for the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Absolute path with the `cgroupfs` driver.
    pub fn to_cgroupfs(&self) -> String {
        format!("/{}", self.0.join("/"))
    }

    /// Absolute path with the `systemd` driver.
    pub fn to_systemd(&self) -> String {
        let mut path = String::new();
        for end in 1..=self.0.len() {
            path = format!("{path}/{}", Self(self.0[..end].to_vec()).slice());
        }
        if path.is_empty() { "/".to_owned() } else { path }
    }

    /// The unit of this group; `-.slice` for the root.
    pub fn slice(&self) -> String {
        if self.is_root() {
            return format!("-{SLICE}");
        }
        let parts: Vec<String> = self.0.iter().map(|part| part.replace('-', "_")).collect();
        format!("{}{SLICE}", parts.join("-"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from upstream's functions, see `e2e/oracle/cgroups`.
    #[test]
    fn as_upstream() {
        for line in include_str!("testdata/names.txt").lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let [name, cgroupfs, systemd, back] = fields[..] else { panic!("{line}") };
            let parts = name.split(' ').filter(|part| !part.is_empty());
            let name = CgroupName(parts.map(str::to_owned).collect());
            assert_eq!((name.to_cgroupfs().as_str(), name.to_systemd().as_str()), (cgroupfs, systemd));
            assert_eq!(CgroupName::from_cgroupfs(cgroupfs), name);
            assert_eq!(CgroupName::from_systemd(systemd).0.join(" "), back);
        }
    }

    #[test]
    fn units() {
        let name = CgroupName::from_cgroupfs("/kubepods/burstable/pod1-2");
        assert_eq!(name.slice(), "kubepods-burstable-pod1_2.slice");
        assert_eq!(name.parent().map(|p| p.slice()).as_deref(), Some("kubepods-burstable.slice"));
        assert_eq!((CgroupName::default().slice().as_str(), name.last()), ("-.slice", "pod1-2"));
    }
}
