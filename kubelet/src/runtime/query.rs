//! Asking the runtime what runs. Upstream: kuberuntime_manager.go GetPods, GetPodStatus; kuberuntime_container.go.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Read as _, Seek as _, SeekFrom};

use cri::v1;

use super::labels::{self, ContainerInfo, container_info};
use super::model::{ContainerId, ContainerState, ContainerStatus, PodStatus, SandboxStatus, User};

/// Most bytes of a termination message.
const MESSAGE_LIMIT: u64 = 4096;
/// Most bytes of log that may stand in for a termination message, and most lines.
const LOG_MESSAGE_LIMIT: usize = 2048;
const LOG_MESSAGE_LINES: usize = 80;

/// The full state of one pod.
///
/// # Errors
/// If the runtime does not answer.
pub async fn pod_status(cri: &cri::Client, runtime: &str, uid: &str) -> cri::Result<PodStatus> {
    let selector = HashMap::from([(labels::POD_UID.to_owned(), uid.to_owned())]);
    let sandbox_filter = v1::PodSandboxFilter { label_selector: selector.clone(), ..Default::default() };
    let container_filter = v1::ContainerFilter { label_selector: selector, ..Default::default() };
    let (mut sandboxes, mut containers) = tokio::try_join!(
        cri.list_pod_sandbox(v1::ListPodSandboxRequest { filter: Some(sandbox_filter) }),
        cri.list_containers(v1::ListContainersRequest { filter: Some(container_filter) })
    )?;
    // Newest first; the id breaks ties so that the order is stable.
    sandboxes.items.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
    containers.containers.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
    let mut out = PodStatus { uid: uid.to_owned(), ..PodStatus::default() };
    if let Some(metadata) = sandboxes.items.first().and_then(|s| s.metadata.as_ref()) {
        out.name.clone_from(&metadata.name);
        out.namespace.clone_from(&metadata.namespace);
    }
    for sandbox in &sandboxes.items {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: sandbox.id.clone(), verbose: false };
        match cri.pod_sandbox_status(request).await {
            Ok(answer) => out.sandboxes.extend(answer.status.map(sandbox_status)),
            // Removed between the list and now, which is normal.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    if let Some(newest) = out.sandboxes.first().filter(|s| s.ready) {
        out.ips = newest.ips.clone().unwrap_or_default();
    }
    for container in &containers.containers {
        match container_status(cri, runtime, &container.id).await {
            Ok(mut status) => {
                status.sandbox_id.clone_from(&container.pod_sandbox_id);
                out.containers.push(status);
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(out)
}

/// The full state of one container.
///
/// # Errors
/// If the runtime does not know it or does not answer.
pub async fn container_status(cri: &cri::Client, runtime: &str, id: &str) -> cri::Result<ContainerStatus> {
    let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
    let answer = cri.container_status(request).await?;
    let status = answer.status.ok_or(cri::Error::Incomplete { call: "ContainerStatus", part: "a status" })?;
    Ok(convert(runtime, status))
}

fn sandbox_status(status: v1::PodSandboxStatus) -> SandboxStatus {
    let network = status.linux.as_ref().and_then(|l| l.namespaces.as_ref()).and_then(|n| n.options.as_ref());
    let ips = status.network.map(|network| {
        std::iter::once(network.ip)
            .chain(network.additional_ips.into_iter().map(|ip| ip.ip))
            .filter(|ip| ip.parse::<std::net::IpAddr>().is_ok())
            .collect()
    });
    SandboxStatus {
        attempt: status.metadata.map_or(0, |m| m.attempt),
        ready: status.state == i32::from(v1::PodSandboxState::SandboxReady),
        created_at: status.created_at,
        host_network: network.is_some_and(|o| o.network == i32::from(v1::NamespaceMode::Node)),
        ips,
        runtime_handler: status.runtime_handler,
        id: status.id,
    }
}

fn convert(runtime: &str, status: v1::ContainerStatus) -> ContainerStatus {
    let annotations: BTreeMap<String, String> = status.annotations.into_iter().collect();
    let info = container_info(&annotations);
    let state = v1::ContainerState::try_from(status.state).map_or(ContainerState::Unknown, Into::into);
    let mut message = status.message;
    if state == ContainerState::Exited {
        let fallback = info.message_policy == "FallbackToLogsOnError"
            && status.exit_code != 0
            && status.reason != "ContainerCannotRun";
        let left = termination_message(&info, &status.mounts, &status.log_path, fallback);
        if !left.is_empty() {
            if !message.is_empty() {
                message.push_str(": ");
            }
            message.push_str(&left);
        }
    }
    ContainerStatus {
        id: ContainerId { runtime: runtime.to_owned(), id: status.id },
        name: status.metadata.map(|m| m.name).unwrap_or_default(),
        state,
        created_at: status.created_at,
        started_at: if state == ContainerState::Created { 0 } else { status.started_at },
        finished_at: if state == ContainerState::Exited { status.finished_at } else { 0 },
        exit_code: status.exit_code,
        image: status.image.as_ref().map(|i| i.image.clone()).unwrap_or_default(),
        // Runtimes that do not tell the id use the same text for both.
        image_id: if status.image_id.is_empty() { status.image_ref.clone() } else { status.image_id },
        image_ref: status.image_ref,
        hash: info.hash,
        restart_count: info.restart_count,
        reason: status.reason,
        message,
        limits: status.resources.and_then(|r| r.linux),
        user: status.user.and_then(|u| u.linux).map(|u| User {
            uid: u.uid,
            gid: u.gid,
            groups: u.supplemental_groups,
        }),
        log_path: status.log_path,
        sandbox_id: String::new(),
        image_runtime_handler: status.image.map(|i| i.runtime_handler).unwrap_or_default(),
        annotations,
    }
}

/// Pod and name of all containers that run; none if the runtime does not say.
pub async fn running(cri: &cri::Client) -> HashSet<(String, String)> {
    let running = v1::ContainerStateValue { state: v1::ContainerState::ContainerRunning.into() };
    let filter = v1::ContainerFilter { state: Some(running), ..v1::ContainerFilter::default() };
    match cri.list_containers(v1::ListContainersRequest { filter: Some(filter) }).await {
        Ok(answer) => (answer.containers.into_iter())
            .filter_map(|mut c| {
                Some((c.labels.remove(labels::POD_UID)?, c.labels.remove(labels::CONTAINER_NAME)?))
            })
            .collect(),
        Err(error) => {
            tracing::error!(%error, "Failed to list running containers");
            HashSet::new()
        }
    }
}

/// What the container left as its last words: its message file, or the end of its log.
fn termination_message(info: &ContainerInfo, mounts: &[v1::Mount], log: &str, fallback: bool) -> String {
    let mut message = String::new();
    if !info.message_path.is_empty() {
        let path = if info.message_path.starts_with('/') {
            info.message_path.clone()
        } else {
            format!("/{}", info.message_path)
        };
        if let Some(mount) = mounts.iter().find(|m| m.container_path == path) {
            match tail(&mount.host_path, MESSAGE_LIMIT) {
                Ok(text) => message = text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    return format!("Error on reading termination log {}: {error}", mount.host_path);
                }
            }
        }
    }
    if message.is_empty() && fallback {
        message = crate::logs::read::last_words(log, LOG_MESSAGE_LINES, LOG_MESSAGE_LIMIT)
            .unwrap_or_else(|error| format!("Error on reading termination message from logs: {error}"));
    }
    message
}

/// The last `limit` bytes of a file. Only regular files: a container may have put anything else there.
fn tail(path: &str, limit: u64) -> std::io::Result<String> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let mut file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    file.seek(SeekFrom::Start(metadata.len().saturating_sub(limit)))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
