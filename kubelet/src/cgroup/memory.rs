//! What a control group has of memory, and being woken when that crosses a number of bytes.
//!
//! Upstream: NewCgroupNotifier in pkg/kubelet/eviction/threshold_notifier_linux.go, v1.37.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::net::unix::pipe::Receiver;

use super::fs::Hierarchy;

/// More than this is no limit: the kernel rounds its largest number.
const UNLIMITED: i64 = 1 << 62;

/// Bytes of memory of a group and those below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// In use.
    pub usage: i64,
    /// In use, without what is easily given up.
    pub working_set: i64,
    /// The most that it may have, if there is a limit.
    pub limit: Option<i64>,
    /// In use that belongs to no file.
    pub anonymous: i64,
    /// Swapped out.
    pub swap: i64,
}

impl Hierarchy {
    /// What a group has; `None` if that cannot be read.
    pub fn memory(&self, path: &str) -> Option<Memory> {
        let dir = self.controller_dir("memory", path)?;
        let [usage, limit, inactive, anonymous] = match self.is_v2() {
            true => ["memory.current", "memory.max", "inactive_file ", "anon "],
            false => ["memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file ", "total_rss "],
        };
        let number = |file: &str| fs::read_to_string(dir.join(file)).ok()?.trim().parse::<i64>().ok();
        let usage = number(usage)?;
        let stat = fs::read_to_string(dir.join("memory.stat")).ok()?;
        let keyed =
            |key: &str| stat.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<i64>().ok());
        let swap = if self.is_v2() { number("memory.swap.current") } else { keyed("total_swap ") };
        Some(Memory {
            usage,
            working_set: usage.saturating_sub(keyed(inactive).unwrap_or_default()).max(0),
            limit: number(limit).filter(|limit| *limit <= UNLIMITED),
            anonymous: keyed(anonymous).unwrap_or_default(),
            swap: swap.unwrap_or_default(),
        })
    }
}

/// Tells when a group of version 1 comes to have more, or less, than a number of bytes. It ends when this is dropped.
///
/// What the kernel signals is read like a pipe: there is nothing until there are eight bytes.
#[derive(Debug)]
pub struct Crossing(Receiver);

impl Crossing {
    /// `dir` is the group's folder in the tree of memory.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn watch(dir: &Path, bytes: i64) -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let usage = fs::File::open(dir.join("memory.usage_in_bytes"))?;
        let order = format!("{} {} {bytes}", event.as_raw_fd(), usage.as_raw_fd());
        fs::write(dir.join("cgroup.event_control"), order)?;
        Ok(Self(Receiver::from_owned_fd_unchecked(OwnedFd::from(event))?))
    }

    /// Waits for the next time.
    ///
    /// # Errors
    /// If the kernel's word cannot be read.
    pub async fn next(&self) -> io::Result<()> {
        loop {
            self.0.readable().await?;
            match self.0.try_read(&mut [0; 8]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other.map(drop),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions() {
        let dir = tempfile::tempdir().unwrap();
        let put = |file: &str, text: &str| {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let v2 = Hierarchy::V2(dir.path().to_owned());
        put("g/memory.current", "100\n");
        put(
            "g/memory.stat",
            "anon 60\ninactive_file 30\ntotal_rss 50\ntotal_inactive_file 1\ntotal_swap 9\n",
        );
        put("g/memory.max", "max\n");
        put("g/memory.swap.current", "4\n");
        let expected = Memory { usage: 100, working_set: 70, limit: None, anonymous: 60, swap: 4 };
        assert_eq!(v2.memory("g"), Some(expected));
        put("g/memory.max", "500\n");
        assert_eq!(v2.memory("g").unwrap().limit, Some(500));
        assert_eq!(v2.memory("other"), None);
        let v1 = Hierarchy::V1([("memory".to_owned(), dir.path().to_owned())].into());
        put("g/memory.usage_in_bytes", "90\n");
        put("g/memory.limit_in_bytes", "9223372036854771712\n");
        let expected = Memory { usage: 90, working_set: 89, limit: None, anonymous: 50, swap: 9 };
        assert_eq!(v1.memory("g"), Some(expected));
    }

    #[tokio::test]
    async fn refused_without_such_a_group() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Crossing::watch(dir.path(), 1).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
