//! Pairs on disk: one file per pair, and a link to the current one.
//! Upstream: client-go/util/certificate/certificate_store.go, v1.37.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use k8s_openapi::jiff::Zoned;

use super::pair::Pair;

/// A folder of pairs with one name.
#[derive(Clone, Debug)]
pub struct FileStore {
    prefix: &'static str,
    dir: PathBuf,
    /// Files of a pair that counts until there is a current one.
    given: Option<(PathBuf, PathBuf)>,
}

impl FileStore {
    /// Finishes an exchange that was interrupted.
    ///
    /// # Errors
    /// If what should be a link is none, or the disk refuses.
    pub fn open(prefix: &'static str, dir: &Path, given: Option<(PathBuf, PathBuf)>) -> Result<Self, String> {
        let store = Self { prefix, dir: dir.to_owned(), given };
        let (current, updated) = (store.current_path(), store.file("updated"));
        if !current.exists() && is_link(&updated)? {
            fs::rename(&updated, &current).map_err(|e| {
                format!("unable to rename {:?} to {:?}: {e}", updated.display(), current.display())
            })?;
        }
        Ok(store)
    }

    fn file(&self, qualifier: &str) -> PathBuf {
        self.dir.join(format!("{}-{qualifier}.pem", self.prefix))
    }

    /// The link to the current pair.
    pub fn current_path(&self) -> PathBuf {
        self.file("current")
    }

    /// The current pair, if there is one.
    ///
    /// # Errors
    /// If there is one that cannot be used.
    pub fn current(&self) -> Result<Option<Pair>, String> {
        let own = self.current_path();
        let plain = ["crt", "key"].map(|extension| self.dir.join(format!("{}.{extension}", self.prefix)));
        let [cert, key] = plain;
        let candidates = [Some((own.clone(), own)), self.given.clone(), Some((cert, key))];
        for (cert, key) in candidates.into_iter().flatten() {
            if !cert.exists() || !key.exists() {
                continue;
            }
            let read =
                |path: &Path| fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()));
            let pair = Pair::from_pem(&read(&cert)?, &read(&key)?).map_err(|e| {
                format!("could not convert data from {:?} into cert/key pair: {e}", cert.display())
            })?;
            return Ok(Some(pair));
        }
        Ok(None)
    }

    /// Makes a pair the current one.
    ///
    /// # Errors
    /// If it is no pair, or the disk refuses.
    pub fn update(&self, cert: &[u8], key: &[u8], now: &Zoned) -> Result<Pair, String> {
        let pair = Pair::from_pem(cert, key)?;
        let path = self.file(&now.strftime("%Y-%m-%d-%H-%M-%S").to_string());
        self.write(&path, &pair).map_err(|e| format!("could not write {:?}: {e}", path.display()))?;
        self.link(&path)?;
        Ok(pair)
    }

    fn write(&self, path: &Path, pair: &Pair) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        for part in [&pair.cert, &pair.key] {
            file.write_all(part)?;
            if part.last() != Some(&b'\n') {
                file.write_all(b"\n")?;
            }
        }
        file.sync_all()
    }

    fn link(&self, target: &Path) -> Result<(), String> {
        let (current, updated) = (self.current_path(), self.file("updated"));
        is_link(&current)?;
        if is_link(&updated)? {
            fs::remove_file(&updated)
                .map_err(|e| format!("unable to remove {:?}: {e}", updated.display()))?;
        }
        symlink(target, &updated).and_then(|()| fs::rename(&updated, &current)).map_err(|e| {
            format!("unable to create a symlink from {:?} to {:?}: {e}", current.display(), target.display())
        })
    }
}

/// False if there is nothing.
fn is_link(path: &Path) -> Result<bool, String> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_symlink() => Ok(true),
        Ok(_) => Err(format!("expected {:?} to be a symlink but it is a file", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(format!("cannot look at {:?}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use component::serving::self_signed;

    #[test]
    fn keeps_pairs() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::open("kubelet-client", dir.path(), None).unwrap();
        assert_eq!(store.current().unwrap(), None);
        let (cert, key) = self_signed::generate("n1", &[], &[]).unwrap();
        let pair = store.update(cert.as_bytes(), key.as_bytes(), &Zoned::now()).unwrap();
        assert_eq!(store.current().unwrap().unwrap().leaf, pair.leaf);
        let (cert, key) = self_signed::generate("n2", &[], &[]).unwrap();
        store.update(cert.as_bytes(), key.as_bytes(), &Zoned::now()).unwrap();
        let leaf = store.current().unwrap().unwrap().leaf;
        assert!(leaf.common_name.starts_with("n2@"), "{leaf:?}");
        assert!(leaf.dns_names.contains("n2"));
        // An exchange that stopped half-way.
        fs::rename(store.current_path(), store.file("updated")).unwrap();
        let again = FileStore::open("kubelet-client", dir.path(), None).unwrap();
        assert_eq!(again.current().unwrap().unwrap().leaf, leaf);
        // A file where a link belongs is left alone.
        fs::remove_file(store.current_path()).unwrap();
        fs::write(store.current_path(), "x").unwrap();
        assert!(
            store.update(cert.as_bytes(), key.as_bytes(), &Zoned::now()).unwrap_err().contains("symlink")
        );
    }
}
