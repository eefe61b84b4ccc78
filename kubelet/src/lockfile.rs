//! One kubelet at a time: a lock on a file, and the end of this kubelet when another wants the file.
//!
//! So a kubelet can run until its successor, for instance one that a pod brings, takes over. Start reading at [`acquire`].
//! Upstream: pkg/util/flock and cmd/kubelet/app/server_linux.go watchForLockfileContention, v1.37. Differs: who waits for
//! the lock ends when told to; upstream's kubelet has to be told twice.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use component::app::Error;
use futures::StreamExt;
use inotify::{EventStream, Inotify, WatchMask};
use nix::fcntl::{Flock, FlockArg};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// The file, locked as long as this is kept.
pub type Lock = Flock<File>;

/// Waits for the lock; nothing is returned if the process is to end meanwhile.
///
/// # Errors
/// If the file cannot be made, opened or locked.
pub async fn acquire(path: &str, shutdown: &CancellationToken) -> Result<Option<Lock>, Error> {
    tracing::info!(path, "Acquiring file lock");
    let (tell, told) = oneshot::channel();
    let place = path.to_owned();
    // A thread of its own, which does not hold up the process' end: the kernel is asked once and answers some day.
    let thread = std::thread::Builder::new().name("lock-file".to_owned());
    // Nobody who listens any more is a process that ends.
    thread.spawn(move || drop(tell.send(lock(Path::new(&place)))))?;
    tokio::select! {
        () = shutdown.cancelled() => Ok(None),
        locked = told => {
            let locked = locked.map_err(io::Error::other).and_then(|locked| locked);
            locked.map(Some).map_err(|error| format!("unable to acquire file lock on {path:?}: {error}").into())
        }
    }
}

fn lock(path: &Path) -> io::Result<Lock> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
}

/// Tells who opens or removes the file from now on.
#[derive(Debug)]
pub struct Watch(EventStream<[u8; 4096]>);

impl Watch {
    /// Begins.
    ///
    /// # Errors
    /// If the file cannot be watched.
    pub fn new(path: &str) -> io::Result<Self> {
        tracing::info!(path, "Watching for inotify events");
        let inotify = Inotify::init()?;
        inotify.watches().add(path, WatchMask::OPEN | WatchMask::DELETE_SELF)?;
        Ok(Self(inotify.into_event_stream([0u8; 4096])?))
    }

    /// Returns when another kubelet wants the file, or that cannot be told any more.
    pub async fn contended(mut self) {
        match self.0.next().await {
            Some(Err(error)) => tracing::error!(%error, "inotify watcher error"),
            event => tracing::info!(event = ?event.map(|event| event.map(|e| e.mask)), "Inotify event"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;
    use tokio::time::timeout;

    /// A bug shows by waiting for ever.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn file(name: &str) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name).display().to_string();
        (dir, path)
    }

    #[tokio::test]
    async fn one_at_a_time() {
        let (dir, path) = file("lock");
        let stop = CancellationToken::new();
        let first = acquire(&path, &stop).await.unwrap().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let held = OpenOptions::new().read(true).open(&path).unwrap();
        assert!(Flock::lock(held, FlockArg::LockExclusiveNonblock).is_err());
        let second = tokio::spawn({
            let (path, stop) = (path.clone(), stop.clone());
            async move { acquire(&path, &stop).await.map(|lock| lock.is_some()).map_err(|e| e.to_string()) }
        });
        drop(first);
        assert_eq!(second.await.unwrap(), Ok(true));
        let refused = acquire(&dir.path().display().to_string(), &stop).await.unwrap_err().to_string();
        assert!(refused.starts_with("unable to acquire file lock on \"/"), "{refused}");
    }

    #[tokio::test]
    async fn who_waits_can_be_told_to_end() {
        let (_dir, path) = file("lock");
        let stop = CancellationToken::new();
        let _held = acquire(&path, &stop).await.unwrap().unwrap();
        stop.cancel();
        let waits = acquire(&path, &stop);
        assert!(timeout(PATIENCE, waits).await.unwrap().unwrap().is_none());
    }

    #[tokio::test]
    async fn others_are_noticed() {
        let (_dir, path) = file("lock");
        assert!(Watch::new(&path).is_err());
        std::fs::write(&path, "").unwrap();
        for wants in
            [|path: &str| drop(File::open(path).unwrap()), |path: &str| std::fs::remove_file(path).unwrap()]
        {
            let watch = Watch::new(&path).unwrap();
            wants(&path);
            timeout(PATIENCE, watch.contended()).await.unwrap();
        }
    }
}
