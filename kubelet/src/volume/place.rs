//! Mounting a [`Source`] at a pod's place for it. Blocking, and idempotent: what is mounted stays.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::persistent::Source;
use super::{host_path, mounter, ownership};
use crate::paths::make_dir;

/// Who is to have access.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// The pod's group.
    pub group: Option<u32>,
    /// Leave everything as it is if the root is right already.
    pub lazily: bool,
    /// The pod must not write.
    pub read_only: bool,
}

/// Makes the source appear at `target`; `mounter` mounts network file systems, if there is one.
///
/// # Errors
/// If the kernel, a program or the disk refuses.
pub fn mount(source: &Source, target: &Path, access: Access, mounter: Option<&Path>) -> io::Result<()> {
    match source {
        Source::HostPath { path, kind } => host_path::prepare(path, kind),
        Source::Local { path, options } => local(path, target, options, access),
        Source::Nfs { export, options } => nfs(export, target, options, access.read_only, mounter),
    }
}

fn local(path: &Path, target: &Path, options: &[String], access: Access) -> io::Result<()> {
    let mounts = sys::mounts::list()?;
    if mounts.iter().any(|mount| mount.target == target) {
        return Ok(());
    }
    if !fs::metadata(path)?.is_dir() {
        let text = format!(
            "local volume {} is not a directory; devices are not supported by this kubelet yet",
            path.display()
        );
        return Err(io::Error::other(text));
    }
    make_dir(target, 0o750)?;
    let mounted = if options.is_empty() && !access.read_only {
        sys::mounts::bind(path, target)
    } else {
        let mut all = vec!["bind"];
        all.extend(access.read_only.then_some("ro"));
        all.extend(options.iter().map(String::as_str));
        run_mount(None, &path.display().to_string(), target, "", &all)
    };
    if let Err(error) = mounted {
        // An empty folder that stays behind does no harm.
        let _ = fs::remove_dir(target);
        return Err(error);
    }
    let Some(group) = access.group.filter(|_| !access.read_only) else { return Ok(()) };
    // Several pods of this node may use the volume: the first one's group counts.
    let root = fs::metadata(path)?;
    let same = |mount: &sys::mounts::Mount| {
        fs::metadata(&mount.target).is_ok_and(|m| m.ino() == root.ino() && m.dev() == root.dev())
    };
    let pods = target.ancestors().find(|dir| dir.file_name().is_some_and(|n| n == "pods"));
    let shared = mounts.iter().any(|m| pods.is_some_and(|pods| m.target.starts_with(pods)) && same(m));
    if shared {
        if root.gid() != group {
            tracing::warn!(volume = %path.display(), requested = group, has = root.gid(), "The volume is in use with another fsGroup and may not be shareable");
        }
        return Ok(());
    }
    ownership::set_group(target, group, false, access.lazily)
}

fn nfs(
    export: &str,
    target: &Path,
    options: &[String],
    read_only: bool,
    mounter: Option<&Path>,
) -> io::Result<()> {
    if sys::mounts::is_mounted(target)? {
        return Ok(());
    }
    make_dir(target, 0o750)?;
    let mut all: Vec<&str> = options.iter().map(String::as_str).collect();
    all.extend(read_only.then_some("ro"));
    run_mount(mounter, export, target, "nfs", &all).inspect_err(|_| {
        // An empty folder that stays behind does no harm.
        let _ = fs::remove_dir(target);
    })
}

/// Network file systems have helpers of their own, which only the `mount` program knows how to call.
fn run_mount(
    mounter: Option<&Path>,
    source: &str,
    target: &Path,
    kind: &str,
    options: &[&str],
) -> io::Result<()> {
    let target = target.display().to_string();
    let options = options.join(",");
    let (program, first) = mounter::command(mounter, kind);
    let mut arguments: Vec<&str> = first.into_iter().collect();
    if !kind.is_empty() {
        arguments.extend(["-t", kind]);
    }
    if !options.is_empty() {
        arguments.extend(["-o", &options]);
    }
    arguments.extend([source, &target]);
    let output = Command::new(program).args(&arguments).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Err(io::Error::other(format!(
        "mount failed: {}\nMounting command: {}\nMounting arguments: {}\nOutput: {text}",
        output.status,
        program.display(),
        arguments.join(" ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_program_mounts() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        let run = |program: &str| {
            let source = Source::Nfs { export: "server:/e".into(), options: vec!["hard".into()] };
            let access = Access { group: None, lazily: false, read_only: true };
            mount(&source, &target, access, Some(Path::new(program)))
        };
        run("/bin/true").unwrap();
        let error = run("/bin/false").unwrap_err().to_string();
        let expected = format!(
            "Mounting command: /bin/false\nMounting arguments: mount -t nfs -o hard,ro server:/e {}\nOutput: ",
            target.display()
        );
        assert!(error.ends_with(&expected), "{error}");
    }
}
