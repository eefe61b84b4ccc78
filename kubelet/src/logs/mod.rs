//! Container logs on the node: where they are, reading them, keeping them small.

pub mod parse;
pub mod read;
pub mod rotate;

/// Folder with all pods' logs, unless configured otherwise.
pub const POD_LOGS_ROOT: &str = "/var/log/pods";
/// Folder with one link per running container, for log collectors.
pub const CONTAINER_LOGS_ROOT: &str = "/var/log/containers";

/// A pod's log folder.
pub fn pod_log_directory(root: &str, namespace: &str, name: &str, uid: &str) -> String {
    format!("{root}/{namespace}_{name}_{uid}")
}

/// Name of the link that points at a container's log.
pub fn link_name(pod: &str, namespace: &str, container: &str, id: &str) -> String {
    // Longer names do not fit in a file name; upstream cuts the first part.
    let suffix = format!("_{namespace}_{container}-{id}.log");
    let head: String = pod.chars().take(251usize.saturating_sub(suffix.len())).collect();
    format!("{head}{suffix}")
}
