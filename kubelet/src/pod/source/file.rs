//! Static pods from a file or folder. Upstream: pkg/kubelet/config/file.go and file_linux.go, v1.37.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use inotify::{EventMask, Inotify, WatchMask};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::manifest;
use crate::pod::view::PodView;

/// Largest manifest that is read, as upstream.
const MAX_SIZE: u64 = 10 << 20;

/// Reads all manifests until `stop`: when something changes in the folder, and every `period`. A file that is removed and
/// made again at once is gone in between, so that its pod is stopped and begins anew.
pub async fn run(
    path: PathBuf,
    node: String,
    period: Duration,
    deliver: impl Fn(Vec<Arc<Pod>>) + Send,
    stop: CancellationToken,
) {
    let mut known: HashMap<String, (PathBuf, Arc<Pod>)> = HashMap::new();
    let mut folder = None;
    loop {
        // Before the look, so that nothing is missed between it and the wait.
        if folder.is_none() {
            folder = watch(&path);
        }
        let found = read_all(&path, &node);
        // A pod that has not changed keeps the moment it was first seen.
        known = found
            .into_iter()
            .map(|(file, pod)| {
                let pod = known.get(pod.uid()).map_or_else(|| Arc::new(pod), |(_, known)| known.clone());
                (pod.uid().to_owned(), (file, pod))
            })
            .collect();
        deliver(known.values().map(|(_, pod)| pod.clone()).collect());
        let removed = tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(period) => Vec::new(),
            removed = changed(&mut folder) => removed,
        };
        let before = known.len();
        known.retain(|_, (file, _)| !file.file_name().is_some_and(|name| removed.iter().any(|r| r == name)));
        if known.len() != before {
            deliver(known.values().map(|(_, pod)| pod.clone()).collect());
        }
    }
}

fn read_all(path: &Path, node: &str) -> Vec<(PathBuf, Pod)> {
    let mut files: Vec<PathBuf> = if path.is_dir() {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path());
        entries.filter(|p| p.is_file() && !hidden(p)).collect()
    } else if path.is_file() {
        vec![path.to_owned()]
    } else {
        Vec::new()
    };
    files.sort();
    files.into_iter().filter_map(|file| read(&file, node).map(|pod| (file, pod))).collect()
}

fn hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'))
}

fn read(file: &Path, node: &str) -> Option<Pod> {
    let too_large = std::fs::metadata(file).is_ok_and(|m| m.len() > MAX_SIZE);
    let text = if too_large {
        Err(std::io::Error::other("larger than 10 MiB"))
    } else {
        std::fs::read_to_string(file)
    };
    let origin = file.display().to_string();
    let parsed = text.map_err(|e| e.to_string()).and_then(|text| {
        manifest::parse(&text, &origin, node, &Timestamp::now().to_string()).map_err(|e| e.to_string())
    });
    match parsed {
        Ok(pod) => Some(pod),
        Err(error) => {
            tracing::error!(path = origin, err = error, "Could not process manifest file");
            None
        }
    }
}

type Folder = inotify::EventStream<[u8; 4096]>;

fn watch(path: &Path) -> Option<Folder> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let mask = WatchMask::CREATE | WatchMask::CLOSE_WRITE | WatchMask::MOVE | WatchMask::DELETE;
    let stream = Inotify::init().and_then(|inotify| {
        inotify.watches().add(folder, mask)?;
        inotify.into_event_stream([0u8; 4096])
    });
    stream
        .inspect_err(|error| {
            tracing::warn!(path = %folder.display(), %error, "Cannot watch the folder of static pods; it is read periodically");
        })
        .ok()
}

/// Returns when something in the folder changed, with the names that were removed; never, if it cannot be watched.
async fn changed(folder: &mut Option<Folder>) -> Vec<OsString> {
    let Some(stream) = folder else { return std::future::pending().await };
    let (mut removed, mut gone) = (Vec::new(), false);
    let mut next = stream.next().await;
    // Editors write in several steps; a moment later all of them are done. One that never ends is not waited for.
    let late = Instant::now() + Duration::from_secs(1);
    while let Some(Ok(event)) = next {
        gone |= event.mask.contains(EventMask::IGNORED);
        if event.mask.intersects(EventMask::DELETE | EventMask::MOVED_FROM) {
            removed.extend(event.name);
        }
        let moment = Duration::from_millis(100).min(late.saturating_duration_since(Instant::now()));
        next = tokio::time::timeout(moment, stream.next()).await.ok().flatten();
    }
    if gone {
        *folder = None;
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn what_is_made_again_was_gone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pod.yaml");
        let text =
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i}]}\n";
        std::fs::write(&file, text).unwrap();
        let (sender, mut counts) = mpsc::unbounded_channel();
        let deliver = move |pods: Vec<Arc<Pod>>| sender.send(pods.len()).unwrap();
        let stop = CancellationToken::new();
        let long = Duration::from_secs(3600);
        tokio::spawn(run(dir.path().to_owned(), "n".to_owned(), long, deliver, stop.clone()));
        assert_eq!(counts.recv().await, Some(1));
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, text).unwrap();
        assert_eq!((counts.recv().await, counts.recv().await), (Some(0), Some(1)));
        stop.cancel();
    }
}
