//! The limits that the kernel applies to a group now. Upstream: GetCgroupConfig in pkg/kubelet/cm/cgroup_v1_manager_linux.go
//! and cgroup_v2_manager_linux.go, v1.37.

use std::fs;
use std::path::Path;

use super::fs::{Hierarchy, shares_to_weight};

/// Limits in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InForce {
    /// Relative weight. Version 2 keeps it more coarsely.
    pub shares: u64,
    /// Quota in microseconds; -1 without one.
    pub quota: i64,
    /// Period of the quota in microseconds.
    pub period: i64,
    /// Memory in bytes; -1 without a limit on version 2, a very large number on version 1.
    pub memory: i64,
}

fn text(dir: &Path, file: &str) -> Result<String, String> {
    let path = dir.join(file);
    fs::read_to_string(&path)
        .map(|text| text.trim().to_owned())
        .map_err(|error| format!("failed to read {}: {error}", path.display()))
}

fn number<T: std::str::FromStr>(dir: &Path, file: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{:?} in {} is not a number", text, dir.join(file).display()))
}

/// `max` as upstream sees it.
fn or_unlimited(dir: &Path, file: &str, text: &str) -> Result<i64, String> {
    if text == "max" { Ok(-1) } else { number(dir, file, text) }
}

/// Weight (1 to 10000) as shares: the inverse of what the runtime does with them.
pub(crate) fn weight_to_shares(weight: u64) -> u64 {
    weight.clamp(1, 10_000).saturating_sub(1) * 262_142 / 9999 + 2
}

/// True if `shares`, set on version 2, are read back as `shown`.
pub fn are_shown_as(shares: u64, shown: u64) -> bool {
    weight_to_shares(shares_to_weight(shares)) == shown
}

impl Hierarchy {
    /// The limits of a group.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn in_force(&self, path: &str) -> Result<InForce, String> {
        let dir = |controller: &str| {
            self.controller_dir(controller, path)
                .ok_or_else(|| format!("there is no controller {controller}"))
        };
        let (cpu, memory) = (dir("cpu")?, dir("memory")?);
        if !self.is_v2() {
            let of_cpu = |file: &str| text(&cpu, file);
            return Ok(InForce {
                shares: number(&cpu, "cpu.shares", &of_cpu("cpu.shares")?)?,
                quota: number(&cpu, "cpu.cfs_quota_us", &of_cpu("cpu.cfs_quota_us")?)?,
                period: number(&cpu, "cpu.cfs_period_us", &of_cpu("cpu.cfs_period_us")?)?,
                memory: number(&memory, "memory.limit_in_bytes", &text(&memory, "memory.limit_in_bytes")?)?,
            });
        }
        let both = text(&cpu, "cpu.max")?;
        let (quota, period) = both.split_once(' ').unwrap_or((&both, ""));
        Ok(InForce {
            shares: weight_to_shares(number(&cpu, "cpu.weight", &text(&cpu, "cpu.weight")?)?),
            quota: or_unlimited(&cpu, "cpu.max", quota)?,
            period: number(&cpu, "cpu.max", period)?,
            memory: or_unlimited(&memory, "memory.max", &text(&memory, "memory.max")?)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_version_2() {
        let root = std::env::temp_dir().join(format!("cgroup-in-force-{}", std::process::id()));
        let group = root.join("g");
        fs::create_dir_all(&group).unwrap();
        let put = |file: &str, text: &str| fs::write(group.join(file), text).unwrap();
        put("cpu.max", "max 100000\n");
        put("cpu.weight", "39\n");
        put("memory.max", "max\n");
        let hierarchy = Hierarchy::V2(root.clone());
        let read = || hierarchy.in_force("g");
        assert_eq!(read(), Ok(InForce { shares: 998, quota: -1, period: 100_000, memory: -1 }));
        put("cpu.max", "20000 100000\n");
        put("memory.max", "4096\n");
        let InForce { quota, memory, .. } = read().unwrap();
        assert_eq!((quota, memory), (20_000, 4096));
        assert!(are_shown_as(1024, 998) && !are_shown_as(1024, 1024));
        put("memory.max", "x");
        assert!(read().unwrap_err().contains("memory.max is not a number"));
        fs::remove_dir_all(&root).unwrap();
    }
}
