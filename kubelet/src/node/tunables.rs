//! Settings of the kernel and of this process that running pods relies on.
//! Upstream: setupKernelTunables in pkg/kubelet/cm/container_manager_linux.go, v1.37.

use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Memory may be promised beyond what there is, a lack of it kills one process and not the machine, a broken kernel
/// restarts, and every container has room for its keys.
const WANTED: [(&str, i64); 6] = [
    ("vm/overcommit_memory", 1),
    ("vm/panic_on_oom", 0),
    ("kernel/panic", 10),
    ("kernel/panic_on_oops", 1),
    ("kernel/keys/root_maxkeys", 1_000_000),
    ("kernel/keys/root_maxbytes", 25_000_000),
];

/// Sets them, or with `protect` only compares.
///
/// # Errors
/// If one is not as it must be; all of them are named.
pub fn set(protect: bool) -> Result<(), String> {
    set_below(Path::new("/proc/sys"), protect)
}

fn set_below(root: &Path, protect: bool) -> Result<(), String> {
    let mut problems = Vec::new();
    for (name, wanted) in WANTED {
        let path: PathBuf = root.join(name);
        let found = match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().parse::<i64>().ok(),
            Err(error) => {
                problems.push(format!("cannot read {}: {error}", path.display()));
                continue;
            }
        };
        if found == Some(wanted) {
            continue;
        }
        let actual = found.map_or_else(|| "unreadable".to_owned(), |n| n.to_string());
        if protect {
            problems.push(format!(
                "invalid kernel flag: {name}, expected value: {wanted}, actual value: {actual}"
            ));
        } else if let Err(error) = std::fs::write(&path, wanted.to_string()) {
            problems.push(format!("cannot set kernel flag {name} from {actual} to {wanted}: {error}"));
        } else {
            tracing::info!(flag = name, expected = wanted, actual, "Updating kernel flag");
        }
    }
    match problems.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        all => Err(format!("[{}]", all.join(", "))),
    }
}

/// True if the machine swaps.
pub fn swap_is_on() -> bool {
    // The first line is a heading.
    std::fs::read_to_string("/proc/swaps")
        .is_ok_and(|text| text.lines().filter(|l| !l.is_empty()).count() > 1)
}

/// Whether what lies in memory volumes may be swapped out after all: swap is on, and the kernel cannot keep it from that.
/// `root` is the kubelet's folder, in which that is tried.
pub fn swaps_memory_volumes(root: &Path) -> bool {
    if !swap_is_on() {
        return false;
    }
    let place = root.join("tmpfs-noswap-test");
    let kept = std::fs::create_dir_all(&place).is_ok() && sys::mounts::tmpfs_is_kept(&place);
    // An empty folder that stays does no harm.
    let _ = std::fs::remove_dir(&place);
    !kept
}

/// Lets this process open so many files. Without the right to, that is said once.
pub fn allow_open_files(number: i64) {
    let wanted = u64::try_from(number).unwrap_or_default();
    if getrlimit(Resource::RLIMIT_NOFILE).is_ok_and(|(soft, hard)| soft == wanted && hard == wanted) {
        return;
    }
    if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted) {
        tracing::error!(%error, number, "Failed to set rlimit on max file handles");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_or_compares() {
        let dir = tempfile::tempdir().unwrap();
        for (name, value) in WANTED {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{value}\n")).unwrap();
        }
        assert_eq!(set_below(dir.path(), true), Ok(()));
        std::fs::write(dir.path().join("kernel/panic"), "0\n").unwrap();
        assert_eq!(
            set_below(dir.path(), true).unwrap_err(),
            "invalid kernel flag: kernel/panic, expected value: 10, actual value: 0"
        );
        assert_eq!(set_below(dir.path(), false), Ok(()));
        assert_eq!(set_below(dir.path(), true), Ok(()));
        std::fs::remove_file(dir.path().join("vm/panic_on_oom")).unwrap();
        assert!(set_below(dir.path(), false).is_err());
    }
}
