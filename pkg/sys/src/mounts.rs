//! Mounts of this process's namespace: listing, making, removing.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub target: PathBuf,
    /// What of the source is mounted.
    pub root: PathBuf,
    /// Type of the file system.
    pub fs_type: String,
    /// Device or other source.
    pub source: String,
    /// True if mounts below it propagate to peers.
    pub shared: bool,
}

/// All mounts of this process's namespace.
///
/// # Errors
/// If the kernel's list cannot be read.
pub fn list() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read_to_string("/proc/self/mountinfo")?))
}

/// Where something is mounted below a folder, the folder itself left out.
///
/// # Errors
/// If the kernel's list cannot be read.
pub fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    let targets = text.lines().filter_map(parse_line).map(|mount| mount.target);
    Ok(targets.filter(|target| target.starts_with(dir) && target != dir).collect())
}

/// Reads the kernel's list; lines it cannot read are left out.
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut fields = left.split(' ').skip(3);
    let root = PathBuf::from(unescape(fields.next()?));
    let target = PathBuf::from(unescape(fields.next()?));
    let shared = fields.skip(1).any(|f| f.starts_with("shared:"));
    let mut right = right.split(' ');
    let fs_type = right.next()?.to_owned();
    let source = unescape(right.next()?);
    Some(Mount { target, root, fs_type, source, shared })
}

/// The kernel writes blanks, tabs, newlines and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// True if something is mounted exactly there.
///
/// # Errors
/// If the kernel does not tell.
pub fn is_mounted(target: &Path) -> io::Result<bool> {
    if let Some(known) = is_mount_root(target) {
        return Ok(known);
    }
    Ok(list()?.iter().any(|mount| mount.target == target))
}

/// What the kernel says of one place, which is far less than its list where pods have hundreds of mounts. Nothing from
/// kernels before 5.8, and of places that cannot be looked at, such as those of servers that are gone.
fn is_mount_root(target: &Path) -> Option<bool> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    match rustix::fs::statx(CWD, target, flags, StatxFlags::empty()) {
        Ok(found) if found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
            Some(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
        }
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Some(false),
        _ => None,
    }
}

/// Mounts a memory file system of at most so many bytes, or of half the memory. What is in it is never swapped out, where
/// the kernel can keep it from that (6.4 and later, and not within a user namespace).
///
/// # Errors
/// If the kernel refuses.
pub fn tmpfs(target: &Path, bytes: Option<i64>) -> io::Result<()> {
    /// True once the kernel did not know the option: it complains in its log each time.
    static REFUSED: AtomicBool = AtomicBool::new(false);
    let [plain, kept] = options(bytes);
    if !REFUSED.load(Ordering::Relaxed) {
        match mount_tmpfs(target, &kept) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied) =>
            {
                REFUSED.store(true, Ordering::Relaxed);
            }
            mounted => return mounted,
        }
    }
    mount_tmpfs(target, &plain)
}

/// Whether the kernel keeps a memory file system from being swapped out; tried in a folder that is empty.
pub fn tmpfs_is_kept(target: &Path) -> bool {
    let [_, kept] = options(None);
    let mounted = mount_tmpfs(target, &kept).is_ok();
    mounted && unmount(target).is_ok()
}

/// Options of a mount: without a word about swap, and with it.
fn options(bytes: Option<i64>) -> [String; 2] {
    let size = bytes.map(|bytes| format!("size={bytes}"));
    let with = |last: Option<&str>| {
        let all: Vec<&str> = size.as_deref().into_iter().chain(last).collect();
        all.join(",")
    };
    [with(None), with(Some("noswap"))]
}

fn mount_tmpfs(target: &Path, options: &str) -> io::Result<()> {
    let data = std::ffi::CString::new(options).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(rustix::mount::mount("tmpfs", target, "tmpfs", MountFlags::empty(), data.as_c_str())?)
}

/// Mounts what an open handle refers to, so that renames and links between check and mount do not matter.
///
/// # Errors
/// If the kernel refuses.
pub fn bind_handle(handle: &OwnedFd, target: &Path) -> io::Result<()> {
    let source = format!("/proc/self/fd/{}", handle.as_raw_fd());
    Ok(rustix::mount::mount_bind(source, target)?)
}

/// Mounts a folder or file at a second place.
///
/// # Errors
/// If the kernel refuses.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_bind(source, target)?)
}

/// Makes mounts below a mount propagate to its peers.
///
/// # Errors
/// If the kernel refuses.
pub fn make_shared(target: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_change(target, MountPropagationFlags::SHARED | MountPropagationFlags::REC)?)
}

/// Removes a mount.
///
/// # Errors
/// If nothing is mounted there or it is in use.
pub fn unmount(target: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(target, UnmountFlags::NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_mountinfo() {
        let text = "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\nbroken\n";
        let expected = Mount {
            target: "/mnt 2".into(),
            root: "/mnt1".into(),
            fs_type: "ext3".into(),
            source: "/dev/root".into(),
            shared: true,
        };
        assert_eq!(parse(text), [expected]);
        assert!(list().unwrap().iter().any(|m| m.target == Path::new("/")));
    }

    #[test]
    fn finds_mounts_with_and_without_the_list() {
        for there in ["/", "/proc"] {
            assert!(is_mounted(Path::new(there)).unwrap(), "{there}");
            assert_ne!(is_mount_root(Path::new(there)), Some(false), "{there}");
        }
        for not in ["/proc/self", "/proc/self/exe", "/nonexistent/x", "/proc/version/x"] {
            assert!(!is_mounted(Path::new(not)).unwrap(), "{not}");
            assert_ne!(is_mount_root(Path::new(not)), Some(true), "{not}");
        }
        let all: Vec<_> = list().unwrap().into_iter().map(|mount| mount.target).collect();
        assert!(all.contains(&"/proc".into()));
        assert!(below(Path::new("/")).unwrap().contains(&"/proc".into()));
        assert!(!below(Path::new("/proc")).unwrap().contains(&"/proc".into()));
    }
}
