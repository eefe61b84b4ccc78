//! Giving a volume to the pod's group. Upstream: pkg/volume/volume_linux.go SetVolumeOwnership, v1.37.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

const READ_WRITE: u32 = 0o660;
const READ_ONLY: u32 = 0o440;
const EXECUTE: u32 = 0o110;
const SET_GROUP: u32 = 0o2000;

/// Makes everything below `dir` accessible to `group`. With `on_root_mismatch`, nothing is done if the folder itself is
/// already right.
///
/// # Errors
/// If the folder cannot be read or changed.
pub fn set_group(dir: &Path, group: u32, read_only: bool, on_root_mismatch: bool) -> io::Result<()> {
    if on_root_mismatch && root_matches(dir, group, read_only)? {
        return Ok(());
    }
    // Deepest first, so that the root is right only when everything is. A list, not recursion: depth is the user's choice.
    let mut pending = vec![dir.to_owned()];
    let mut all: Vec<PathBuf> = Vec::new();
    while let Some(path) = pending.pop() {
        if fs::symlink_metadata(&path)?.is_dir() {
            for entry in fs::read_dir(&path)? {
                pending.push(entry?.path());
            }
        }
        all.push(path);
    }
    all.iter().rev().try_for_each(|path| change(path, group, read_only))
}

fn root_matches(dir: &Path, group: u32, read_only: bool) -> io::Result<bool> {
    let metadata = fs::metadata(dir)?;
    let wanted = EXECUTE | if read_only { READ_ONLY } else { READ_WRITE };
    let mode = metadata.permissions().mode();
    Ok(metadata.gid() == group && metadata.is_dir() && mode & wanted == wanted && mode & SET_GROUP != 0)
}

fn change(path: &Path, group: u32, read_only: bool) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    lchown(path, None, Some(group))?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mut mode = metadata.permissions().mode() | if read_only { READ_ONLY } else { READ_WRITE };
    if metadata.is_dir() {
        mode |= SET_GROUP | EXECUTE;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widens_modes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "x").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let group = fs::metadata(&file).unwrap().gid();
        set_group(dir.path(), group, false, false).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o660);
        assert_eq!(fs::metadata(dir.path()).unwrap().mode() & 0o2770, 0o2770);
        assert!(root_matches(dir.path(), group, false).unwrap());
    }
}
