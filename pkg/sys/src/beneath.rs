//! Opening paths inside a folder without ever leaving it, whatever symbolic links say and whoever changes them meanwhile.
//!
//! The kernel does the walk (`openat2` with `RESOLVE_BENEATH`), so there is no moment between check and use.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, open, openat2};

fn resolve(root: &Path, path: &Path, flags: OFlags, resolve: ResolveFlags) -> io::Result<OwnedFd> {
    let root = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    Ok(openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// Opens a file below `root` for reading. Links inside are followed as long as they stay inside.
///
/// # Errors
/// If the path leaves `root`, does not exist or cannot be read.
pub fn open_beneath(root: &Path, path: &Path) -> io::Result<File> {
    Ok(File::from(resolve(root, path, OFlags::RDONLY, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)?))
}

/// Opens whatever is at a path below `root` as a handle that can be bind-mounted. Links are followed inside `root` only.
///
/// # Errors
/// If the path leaves `root` or does not exist.
pub fn open_path_beneath(root: &Path, path: &Path) -> io::Result<OwnedFd> {
    resolve(root, path, OFlags::PATH, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
}

/// Creates the missing folders of a path below `root`, with `mode`, following no link at all.
///
/// # Errors
/// If a part of the path is a link or a file, or cannot be created.
pub fn make_dir_beneath(root: &Path, path: &Path, mode: u32) -> io::Result<()> {
    let mut dir = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for part in path.components() {
        let name: &OsStr = match part {
            Component::Normal(name) => name,
            Component::CurDir => continue,
            _ => return Err(io::Error::from(io::ErrorKind::InvalidInput)),
        };
        match mkdirat(&dir, name, Mode::from_raw_mode(mode)) {
            Ok(()) => {
                // The mode given to mkdir is cut by the process's mask; set it as asked.
                let made = openat2(
                    &dir,
                    name,
                    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                    Mode::empty(),
                    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
                )?;
                rustix::fs::fchmod(&made, Mode::from_raw_mode(mode))?;
            }
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        dir = openat2(
            &dir,
            name,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn stays_inside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("a")).unwrap();
        std::fs::write(root.join("a/f"), "in").unwrap();
        std::fs::write(dir.path().join("secret"), "out").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("up")).unwrap();
        std::os::unix::fs::symlink("a", root.join("inner")).unwrap();
        let mut text = String::new();
        open_beneath(&root, Path::new("inner/f")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "in");
        for bad in ["up", "../secret", "/etc/passwd", "a/../../secret"] {
            assert!(open_beneath(&root, Path::new(bad)).is_err(), "{bad}");
        }
        assert!(open_path_beneath(&root, Path::new("inner/f")).is_ok());
        assert!(open_path_beneath(&root, Path::new("up")).is_err());
        make_dir_beneath(&root, Path::new("x/y"), 0o777).unwrap();
        assert!(root.join("x/y").is_dir());
        assert!(make_dir_beneath(&root, Path::new("inner/z"), 0o777).is_err());
    }
}
