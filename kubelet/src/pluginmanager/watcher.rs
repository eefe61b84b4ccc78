//! Sockets in a folder and the folders below it. Upstream: pluginwatcher/plugin_watcher.go.
//!
//! Names that begin with a dot do not count.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use futures::StreamExt as _;
use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask};

use super::sockets::Identity;

/// Something changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A socket is there.
    Found(PathBuf, Identity),
    /// A path is not there any more.
    Gone(PathBuf),
    /// There are these sockets and no others.
    All(BTreeMap<PathBuf, Identity>),
}

/// A folder that is watched.
pub struct Watcher {
    root: PathBuf,
    stream: EventStream<[u8; 4096]>,
    folders: HashMap<WatchDescriptor, PathBuf>,
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'))
}

impl Watcher {
    /// Makes the folder if it is not there, and watches it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn new(root: &Path) -> io::Result<Self> {
        crate::paths::make_dir(root, 0o755)?;
        let stream = Inotify::init()?.into_event_stream([0u8; 4096])?;
        let mut this = Self { root: root.to_owned(), stream, folders: HashMap::new() };
        this.watch(root)?;
        Ok(this)
    }

    fn watch(&mut self, folder: &Path) -> io::Result<()> {
        let mask = WatchMask::CREATE | WatchMask::DELETE | WatchMask::MOVE | WatchMask::ONLYDIR;
        let descriptor = self.stream.watches().add(folder, mask)?;
        self.folders.insert(descriptor, folder.to_owned());
        Ok(())
    }

    /// Everything that is there, seen after it is watched.
    pub fn look(&mut self) -> BTreeMap<PathBuf, Identity> {
        let (mut found, root) = (BTreeMap::new(), self.root.clone());
        self.look_into(&root, &mut found);
        found
    }

    fn look_into(&mut self, folder: &Path, found: &mut BTreeMap<PathBuf, Identity>) {
        let entries = match self.watch(folder).and_then(|()| std::fs::read_dir(folder)) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(path = %folder.display(), %error, "Failed to traverse plugin socket path");
                return;
            }
        };
        for entry in entries.flatten() {
            self.look_at(&entry.path(), found);
        }
    }

    fn look_at(&mut self, path: &Path, found: &mut BTreeMap<PathBuf, Identity>) {
        if is_hidden(path) {
            return;
        }
        // What is gone again by now is told by an event of its own.
        let Ok(data) = std::fs::metadata(path) else { return };
        if data.is_dir() {
            self.look_into(path, found);
        } else if data.file_type().is_socket() {
            found.insert(path.to_owned(), (data.ino(), data.mtime(), data.mtime_nsec()));
        }
    }

    /// The next changes.
    ///
    /// # Errors
    /// If the kernel does not tell any more.
    pub async fn next(&mut self) -> io::Result<Vec<Change>> {
        let event = self.stream.next().await.ok_or_else(|| io::Error::other("the watch ended"))??;
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            return Ok(vec![Change::All(self.look())]);
        }
        if event.mask.contains(EventMask::IGNORED) {
            self.folders.remove(&event.wd);
            return Ok(Vec::new());
        }
        let (Some(folder), Some(name)) = (self.folders.get(&event.wd), event.name) else {
            return Ok(Vec::new());
        };
        let path = folder.join(name);
        if event.mask.intersects(EventMask::DELETE | EventMask::MOVED_FROM) {
            return Ok(vec![Change::Gone(path)]);
        }
        let mut found = BTreeMap::new();
        self.look_at(&path, &mut found);
        Ok(found.into_iter().map(|(path, identity)| Change::Found(path, identity)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn name(change: Change) -> String {
        let at = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        match change {
            Change::Found(path, _) => format!("+{}", at(path)),
            Change::Gone(path) => format!("-{}", at(path)),
            Change::All(all) => format!("{}", all.len()),
        }
    }

    async fn changes(watcher: &mut Watcher, count: usize) -> Vec<String> {
        let mut out = Vec::new();
        while out.len() < count {
            out.extend(watcher.next().await.unwrap().into_iter().map(name));
        }
        out
    }

    #[tokio::test]
    async fn sees_sockets_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("registry");
        let mut watcher = Watcher::new(&root).unwrap();
        let _a = UnixListener::bind(root.join("a")).unwrap();
        assert_eq!(watcher.look().len(), 1);
        assert_eq!(changes(&mut watcher, 1).await, ["+a"]);
        std::fs::write(root.join("file"), "").unwrap();
        let _hidden = UnixListener::bind(root.join(".hidden")).unwrap();
        std::fs::create_dir(root.join("below")).unwrap();
        let _b = UnixListener::bind(root.join("below/b")).unwrap();
        // Seen by the look into the new folder, by the event of the socket, or by both.
        let mut seen = changes(&mut watcher, 1).await;
        std::fs::remove_file(root.join("a")).unwrap();
        while !seen.contains(&"-a".to_owned()) {
            seen.extend(changes(&mut watcher, 1).await);
        }
        seen.dedup();
        assert_eq!(seen, ["+b", "-a"]);
        std::fs::remove_file(root.join("below/b")).unwrap();
        std::fs::rename(root.join(".hidden"), root.join("c")).unwrap();
        // Of what is hidden only the end is told, which nobody waits for.
        assert_eq!(changes(&mut watcher, 3).await, ["-b", "-.hidden", "+c"]);
    }
}
