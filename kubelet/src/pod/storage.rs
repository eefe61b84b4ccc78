//! What the files that the kubelet keeps for a pod take: logs and the hosts file.
//!
//! Upstream: pkg/kubelet/stats/host_stats_provider.go, v1.37.

use std::collections::BTreeMap;
use std::path::Path;

use crate::paths::Paths;
use crate::volume::usage::{DiskUsage, disk_usage, files_in};

/// Whose files.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod's name.
    pub name: &'a str,
    /// The pod's id.
    pub uid: &'a str,
}

/// What was found; what cannot be read is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFiles {
    /// Logs by container.
    pub logs: BTreeMap<String, DiskUsage>,
    /// Files right in the pod's log folder.
    pub pod_logs: Option<DiskUsage>,
    /// The hosts file.
    pub hosts: Option<DiskUsage>,
}

impl HostFiles {
    /// Measures them. Blocking.
    pub fn measure<'a>(
        paths: &Paths,
        owner: Owner<'_>,
        containers: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let dir = crate::logs::pod_log_directory(&paths.pod_logs, owner.namespace, owner.name, owner.uid);
        let dir = Path::new(&dir);
        let own = |name: &str| files_in(&dir.join(name)).ok().map(|usage| (name.to_owned(), usage));
        Self {
            logs: containers.into_iter().filter_map(own).collect(),
            pod_logs: files_in(dir).ok(),
            hosts: disk_usage(&paths.hosts(owner.uid)).ok(),
        }
    }

    /// All but the containers' logs.
    pub fn other(&self) -> DiskUsage {
        let mut out = self.pod_logs.unwrap_or_default();
        out += self.hosts.unwrap_or_default();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn finds_files() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths {
            root: dir.path().join("kubelet"),
            pod_logs: dir.path().join("logs").display().to_string(),
        };
        let logs = dir.path().join("logs/n_p_u");
        fs::create_dir_all(logs.join("c/below")).unwrap();
        fs::create_dir_all(paths.pod("u")).unwrap();
        fs::write(logs.join("c/0.log"), "x").unwrap();
        fs::write(logs.join("c/below/no"), "x").unwrap();
        fs::write(paths.hosts("u"), "x").unwrap();
        let owner = Owner { namespace: "n", name: "p", uid: "u" };
        let found = HostFiles::measure(&paths, owner, ["c", "gone"]);
        assert_eq!(found.logs.iter().map(|(n, u)| (n.as_str(), u.inodes)).collect::<Vec<_>>(), [("c", 1)]);
        assert_eq!((found.pod_logs, found.hosts.unwrap().inodes), (Some(DiskUsage::default()), 1));
        assert_eq!(found.other().inodes, 1);
    }
}
