//! Static pods from a file or folder. Upstream: pkg/kubelet/config/file.go and file_linux.go, v1.37.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use inotify::{Inotify, WatchMask};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::manifest;
use crate::pod::view::PodView;

/// Largest manifest that is read, as upstream.
const MAX_SIZE: u64 = 10 << 20;

/// Reads all manifests until `stop`: when something changes in the folder, and every `period`.
pub async fn run(
    path: PathBuf,
    node: String,
    period: Duration,
    deliver: impl Fn(Vec<Arc<Pod>>) + Send,
    stop: CancellationToken,
) {
    let mut known: HashMap<String, Arc<Pod>> = HashMap::new();
    loop {
        let found = read_all(&path, &node);
        // A pod that has not changed keeps the moment it was first seen.
        known = found
            .into_iter()
            .map(|pod| {
                let pod = known.get(pod.uid()).cloned().unwrap_or_else(|| Arc::new(pod));
                (pod.uid().to_owned(), pod)
            })
            .collect();
        deliver(known.values().cloned().collect());
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(period) => {}
            () = changed(&path) => {}
        }
    }
}

fn read_all(path: &Path, node: &str) -> Vec<Pod> {
    let mut files: Vec<PathBuf> = if path.is_dir() {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path());
        entries.filter(|p| p.is_file() && !hidden(p)).collect()
    } else if path.is_file() {
        vec![path.to_owned()]
    } else {
        Vec::new()
    };
    files.sort();
    files.iter().filter_map(|file| read(file, node)).collect()
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

/// Returns when something in the folder changed; never, if it cannot be watched.
async fn changed(path: &Path) {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let mask = WatchMask::CREATE | WatchMask::CLOSE_WRITE | WatchMask::MOVE | WatchMask::DELETE;
    let stream = Inotify::init().and_then(|inotify| {
        inotify.watches().add(folder, mask)?;
        inotify.into_event_stream([0u8; 4096])
    });
    match stream {
        Ok(mut stream) => {
            stream.next().await;
            // Editors write in several steps; a moment later all of them are done.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(error) => {
            tracing::warn!(path = %folder.display(), %error, "Cannot watch the folder of static pods; it is read periodically");
            std::future::pending::<()>().await;
        }
    }
}
