//! Where the kubelet keeps things. Layout as upstream's: pkg/kubelet/kubelet_getters.go and config/defaults.go, v1.37.

use std::path::{Path, PathBuf};

/// The kubelet's folders.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Root folder, usually `/var/lib/kubelet`.
    pub root: PathBuf,
    /// Folder of pods' logs, usually `/var/log/pods`.
    pub pod_logs: String,
}

impl Paths {
    /// Folder with one folder per pod.
    pub fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// A pod's folder.
    pub fn pod(&self, uid: &str) -> PathBuf {
        self.pods().join(uid)
    }

    /// A pod's volumes.
    pub fn volumes(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("volumes")
    }

    /// One volume of a pod; `plugin` such as `kubernetes.io/empty-dir`.
    pub fn volume(&self, uid: &str, plugin: &str, name: &str) -> PathBuf {
        self.volumes(uid).join(plugin.replace('/', "~")).join(name)
    }

    /// Places where parts of volumes are mounted for containers.
    pub fn subpaths(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("volume-subpaths")
    }

    /// What plugins keep for a pod.
    pub fn plugins(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("plugins")
    }

    /// Files of one container, such as its termination message.
    pub fn container(&self, uid: &str, container: &str) -> PathBuf {
        self.pod(uid).join("containers").join(container)
    }

    /// The hosts file of a pod.
    pub fn hosts(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("etc-hosts")
    }

    /// Folder of localhost seccomp profiles.
    pub fn seccomp(&self) -> PathBuf {
        self.root.join("seccomp")
    }

    /// Folder of the kubelet's certificates.
    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    /// Folder of sockets that plugins register by.
    pub fn plugins_registry(&self) -> PathBuf {
        self.root.join("plugins_registry")
    }

    /// Folder of the socket that tells what containers were given.
    pub fn pod_resources(&self) -> PathBuf {
        self.root.join("pod-resources")
    }

    /// Folder of the socket that tells of the node's pods.
    pub fn pods_api(&self) -> PathBuf {
        self.root.join("pods-api")
    }

    /// Folders that must exist before anything else, with their modes.
    pub fn base_dirs(&self) -> [(PathBuf, u32); 5] {
        let at = |name: &str| self.root.join(name);
        [
            (self.root.clone(), 0o750),
            (at("pods"), 0o750),
            (at("plugins"), 0o750),
            (self.plugins_registry(), 0o750),
            (PathBuf::from(&self.pod_logs), 0o750),
        ]
    }

    /// Folders of one pod, with their modes.
    pub fn pod_dirs(&self, uid: &str) -> [PathBuf; 3] {
        [self.pod(uid), self.volumes(uid), self.plugins(uid)]
    }
}

/// Makes the kubelet's folder a mount whose mounts below propagate, so that containers may mount for others and a swap of
/// kubelets hides nothing: upstream would mount the folder over itself and with that hide what is mounted below.
/// Upstream: setupDataDirs, MakeRShared in pkg/volume/util/hostutil/hostutil_linux.go.
///
/// # Errors
/// If the kernel refuses.
pub fn share(root: &Path) -> std::io::Result<()> {
    let root = root.canonicalize()?;
    let mounts = sys::mounts::list()?;
    // The last one listed is the one on top.
    let under =
        mounts.iter().filter(|m| root.starts_with(&m.target)).max_by_key(|m| m.target.as_os_str().len());
    if under.is_some_and(|mount| mount.shared) {
        return Ok(());
    }
    if mounts.iter().any(|m| m.target.starts_with(&root) && m.target != root) {
        tracing::warn!(root = %root.display(), "Pods have volumes here already, so mounts are not made to propagate before the node is empty");
        return Ok(());
    }
    sys::mounts::bind(&root, &root)?;
    sys::mounts::make_shared(&root)
}

/// Creates a folder with its parents; the mode holds for the last one.
///
/// # Errors
/// If the disk refuses.
pub fn make_dir(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}
