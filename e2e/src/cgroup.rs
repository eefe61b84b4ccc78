//! The cgroups a cluster's pods live in: made below every hierarchy, removed when empty.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Makes `name` in every mounted hierarchy (one of version 2, several of version 1).
pub fn create(name: &str) -> Result<()> {
    let all = hierarchies()?;
    let only = all.len() == 1;
    for hierarchy in all {
        let path = hierarchy.join(name.trim_start_matches('/'));
        fs::create_dir_all(&path).with_context(|| format!("creating cgroup {}", path.display()))?;
        // A group of version 2 has the controllers that its parent passes on; which there are depends on the kernel.
        // Beside version 1 it has none that pods need.
        let controllers = fs::read_to_string(hierarchy.join("cgroup.controllers")).unwrap_or_default();
        for controller in controllers.split_whitespace().filter(|_| only) {
            let pass = hierarchy.join("cgroup.subtree_control");
            fs::write(&pass, format!("+{controller}"))
                .with_context(|| format!("passing {controller} on by {}", pass.display()))?;
        }
        // A new group of version 1 has no processors and no memory nodes until they are given to it.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = fs::read_to_string(hierarchy.join(file)) {
                let _ = fs::write(path.join(file), value.trim());
            }
        }
    }
    Ok(())
}

/// Removes `name` and what is below it from every hierarchy. A group that still holds a process stays.
pub fn remove(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        remove_tree(&hierarchy.join(name.trim_start_matches('/')))?;
    }
    Ok(())
}

fn remove_tree(path: &Path) -> Result<()> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("reading cgroup {}", path.display())),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != ErrorKind::NotFound && error.kind() != ErrorKind::ResourceBusy => {
            Err(error).with_context(|| format!("removing cgroup {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading the mount table")?;
    let mut found: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| {
            let (mount, kind) = line.split_once(" - ")?;
            kind.starts_with("cgroup").then(|| mount.split(' ').nth(4).map(PathBuf::from))?
        })
        .collect();
    found.dedup();
    Ok(found)
}
