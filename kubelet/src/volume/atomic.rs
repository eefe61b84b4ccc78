//! Writing a set of files so that readers see all of a change or nothing of it.
//!
//! The files are in a folder named by time; the link `..data` points at it and is replaced by a rename; one link per
//! top-level name points through `..data`. Layout as upstream's: pkg/volume/util/atomic_writer.go, v1.37.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use k8s_openapi::jiff::Timestamp;

use super::payload::Files;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";
/// Longest path of a file.
const MAX_PATH: usize = 255;

/// Makes the folder hold exactly these files; true if something had to change.
///
/// # Errors
/// If a path is not allowed or the disk refuses; what readers see is then unchanged.
pub fn write(dir: &Path, files: &Files, now: Timestamp) -> io::Result<bool> {
    for path in files.keys() {
        check_path(path)?;
    }
    let old = fs::read_link(dir.join(DATA)).ok();
    let old_dir = old.as_ref().map(|name| dir.join(name));
    if old_dir.as_ref().is_some_and(|old| same(old, files)) {
        link_names(dir, files)?;
        return Ok(false);
    }
    let name = now.strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    let name = format!("{name}.{:09}", now.subsec_nanosecond().unsigned_abs());
    let new_dir = dir.join(&name);
    fs::create_dir(&new_dir)?;
    fs::set_permissions(&new_dir, fs::Permissions::from_mode(0o755))?;
    let written = write_files(&new_dir, files).and_then(|()| switch(dir, &name));
    if let Err(error) = written {
        // Best effort: a leftover folder is invisible to readers and removed with the volume.
        let _ = fs::remove_dir_all(&new_dir);
        return Err(error);
    }
    link_names(dir, files)?;
    unlink_names(dir, files)?;
    if let Some(old) = old_dir {
        match fs::remove_dir_all(old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(true)
}

fn check_path(path: &str) -> io::Result<()> {
    let refuse =
        |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid path {path:?}: {why}")));
    if path.is_empty() || path.len() > MAX_PATH {
        return refuse("must not be empty or longer than 255 characters");
    }
    if path.starts_with("..") {
        return refuse("must not start with '..'");
    }
    if !Path::new(path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
        return refuse("must be relative and not contain '..'");
    }
    Ok(())
}

/// True if the folder holds exactly these files.
fn same(dir: &Path, files: &Files) -> bool {
    let mut found = BTreeSet::new();
    if list(dir, Path::new(""), &mut found).is_err() || found.len() != files.len() {
        return false;
    }
    files.iter().all(|(path, file)| {
        let full = dir.join(path);
        let mode = fs::metadata(&full).map(|m| m.permissions().mode() & 0o777);
        // Group permissions may have been widened for the pod's group, so only missing bits count.
        found.contains(&PathBuf::from(path))
            && mode.is_ok_and(|mode| mode & file.mode & 0o777 == file.mode & 0o777)
            && fs::read(&full).is_ok_and(|data| data == file.data)
    })
}

fn list(root: &Path, below: &Path, out: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        // Paths are at most 255 bytes long, so the depth is bounded.
        if entry.file_type()?.is_dir() { list(root, &path, out)? } else { _ = out.insert(path) }
    }
    Ok(())
}

fn write_files(dir: &Path, files: &Files) -> io::Result<()> {
    for (path, file) in files {
        let full = dir.join(path);
        if let Some(parent) = full.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(file.mode).open(&full)?;
        out.write_all(&file.data)?;
        // The mode at creation is cut by the process's mask.
        out.set_permissions(fs::Permissions::from_mode(file.mode))?;
        if let Some(user) = file.user {
            std::os::unix::fs::fchown(&out, Some(user), None)?;
        }
    }
    Ok(())
}

fn switch(dir: &Path, name: &str) -> io::Result<()> {
    let new = dir.join(DATA_NEW);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(name, &new)?;
    fs::rename(&new, dir.join(DATA))
}

fn top_names(files: &Files) -> BTreeSet<String> {
    let first = |path: &String| {
        Path::new(path)
            .components()
            .find(|c| matches!(c, Component::Normal(_)))
            .map(|c| c.as_os_str().to_string_lossy().into_owned())
    };
    files.keys().filter_map(first).collect()
}

fn link_names(dir: &Path, files: &Files) -> io::Result<()> {
    for name in top_names(files) {
        match symlink(Path::new(DATA).join(&name), dir.join(&name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Removes links of names that no longer exist.
fn unlink_names(dir: &Path, files: &Files) -> io::Result<()> {
    let keep = top_names(files);
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !keep.contains(&name) && entry.file_type()?.is_symlink() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::payload::File;

    fn files(list: &[(&str, &str)]) -> Files {
        let file = |data: &str| File { data: data.into(), mode: 0o644, user: None };
        list.iter().map(|(path, data)| ((*path).to_owned(), file(data))).collect()
    }

    #[test]
    fn replaces_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let at = |s| Timestamp::from_second(s).unwrap();
        assert!(write(dir.path(), &files(&[("a", "1"), ("d/b", "2")]), at(1)).unwrap());
        assert!(!write(dir.path(), &files(&[("a", "1"), ("d/b", "2")]), at(2)).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("d/b")).unwrap(), "2");
        assert_eq!(fs::read_link(dir.path().join("a")).unwrap(), Path::new("..data/a"));
        assert!(write(dir.path(), &files(&[("a", "3")]), at(3)).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "3");
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["..1970_01_01_00_00_03.000000000", "..data", "a"]);
    }

    #[test]
    fn refuses_bad_paths() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["", "..x", "../x", "/x", "a/../../x"] {
            assert!(write(dir.path(), &files(&[(bad, "1")]), Timestamp::UNIX_EPOCH).is_err(), "{bad}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
