//! Watching files for change: by inotify on their directories, with a slow recheck for filesystems that tell nothing.
//!
//! Directories and not files are watched, because secrets arrive by renamed links (`..data`). What counts is content: a
//! touched file is no change. Upstream: apiserver/pkg/server/dynamiccertificates/dynamic_cafile_content.go (fsnotify
//! plus a check every minute).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use inotify::{Inotify, WatchMask};
use tokio_util::sync::CancellationToken;

/// How often files are read although nothing was told; upstream's figure.
const RECHECK: Duration = Duration::from_secs(60);
/// Writers touch several files in a row; one look after they settled is enough.
const SETTLE: Duration = Duration::from_millis(200);

/// Contents of files, `None` for one that cannot be read.
fn read_all(paths: &[PathBuf]) -> Vec<Option<Vec<u8>>> {
    paths.iter().map(|p| std::fs::read(p).ok()).collect()
}

fn directories(paths: &[PathBuf]) -> BTreeSet<&Path> {
    let parents = paths.iter().filter_map(|p| p.parent());
    parents.map(|d| if d.as_os_str().is_empty() { Path::new(".") } else { d }).collect()
}

/// Calls `changed` each time the content of any of `paths` differs from what it was, until `shutdown`.
pub async fn watch(paths: Vec<PathBuf>, shutdown: CancellationToken, mut changed: impl FnMut() + Send) {
    let mut known = read_all(&paths);
    let mut events = subscribe(&paths);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RECHECK) => {}
            () = next(&mut events) => tokio::time::sleep(SETTLE).await,
        }
        let now = read_all(&paths);
        if now != known {
            known = now;
            changed();
        }
    }
}

type Events = inotify::EventStream<[u8; 1024]>;

fn subscribe(paths: &[PathBuf]) -> Option<Events> {
    let mask = WatchMask::CREATE
        | WatchMask::MOVED_TO
        | WatchMask::CLOSE_WRITE
        | WatchMask::DELETE
        | WatchMask::ONLYDIR;
    let open = || -> std::io::Result<Events> {
        let inotify = Inotify::init()?;
        for directory in directories(paths) {
            inotify.watches().add(directory, mask)?;
        }
        inotify.into_event_stream([0; 1024])
    };
    match open() {
        Ok(events) => Some(events),
        Err(error) => {
            tracing::warn!(err = %error, "Watching directories failed; files are checked every minute instead");
            None
        }
    }
}

async fn next(events: &mut Option<Events>) {
    match events {
        Some(stream) => {
            if stream.next().await.is_none() {
                *events = None;
            }
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tells_content_changes_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "a").unwrap();
        let token = CancellationToken::new();
        let (sender, mut receiver) = tokio::sync::mpsc::channel(8);
        let task = tokio::spawn(watch(vec![path.clone()], token.clone(), move || {
            let _ = sender.try_send(());
        }));
        // The watch exists once its task was polled; a rename into place is what secrets do.
        tokio::task::yield_now().await;
        std::fs::write(dir.path().join("new"), "b").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        tokio::time::timeout(Duration::from_secs(5), receiver.recv()).await.unwrap().unwrap();
        token.cancel();
        task.await.unwrap();
    }
}
