//! What a control group tells beyond processor time and memory: pressure, faults, swap, interfaces.
//!
//! Where version 1 does not tell, pressure is zero, as upstream shows it. Upstream: pkg/kubelet/stats/helper.go, v1.37.

use std::fs;
use std::path::PathBuf;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::cadvisor::{keyed, text};
use crate::cgroup::fs::Hierarchy;

/// Swap in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swap {
    /// In use.
    pub used: u64,
    /// Allowed; absent without a limit.
    pub limit: Option<u64>,
}

/// Figures of one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Swap, if the kernel counts it.
    pub swap: Option<Swap>,
    pub faults: Option<(u64, u64)>,
    /// Of processors, memory and disks.
    pub pressure: [Value; 3],
    /// How many processes it has itself.
    pub processes: Option<u64>,
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counters that are never negative"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=123`, then the same for `full`; the total in microseconds.
fn pressure(text: &str) -> Value {
    let one = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind)).unwrap_or_default();
        let word = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key));
        let average = |key: &str| word(key).and_then(|n| n.parse::<f64>().ok()).unwrap_or_default();
        json!({
            "total": word("total=").and_then(|n| n.parse::<u64>().ok()).unwrap_or_default(),
            "avg10": average("avg10="), "avg60": average("avg60="), "avg300": average("avg300="),
        })
    };
    json!({"full": one("full "), "some": one("some ")})
}

/// Reads a group; what cannot be read is absent.
pub fn read(hierarchy: &Hierarchy, id: &str) -> Figures {
    let path = id.trim_start_matches('/');
    let dir = |controller: &str| hierarchy.controller_dir(controller, path);
    let memory = dir("memory");
    let stat = text(memory.as_ref(), "memory.stat");
    let (prefix, unified) = if hierarchy.is_v2() { ("", true) } else { ("total_", false) };
    let count = |key: &str| keyed(stat.as_deref(), &format!("{prefix}{key}")).map(whole);
    let pressures = ["cpu", "memory", "io"].map(|resource| {
        let found = unified.then(|| text(dir("").as_ref(), &format!("{resource}.pressure"))).flatten();
        pressure(found.as_deref().unwrap_or_default())
    });
    let processes = text(memory.as_ref(), "cgroup.procs");
    Figures {
        swap: if unified { swap_v2(dir("")) } else { count("swap").map(|used| swap_v1(memory, used)) },
        faults: count("pgfault").zip(count("pgmajfault")),
        pressure: pressures,
        processes: processes.and_then(|list| u64::try_from(list.lines().count()).ok()),
    }
}

fn swap_v2(dir: Option<PathBuf>) -> Option<Swap> {
    let used = text(dir.as_ref(), "memory.swap.current")?.trim().parse().ok()?;
    let limit = text(dir.as_ref(), "memory.swap.max").and_then(|max| max.trim().parse().ok());
    Some(Swap { used, limit })
}

fn swap_v1(dir: Option<PathBuf>, used: u64) -> Swap {
    // Without accounting upstream sees zero; no limit is a number that no machine reaches.
    let limit: u64 = text(dir.as_ref(), "memory.memsw.limit_in_bytes")
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or_default();
    Swap { used, limit: Some(limit).filter(|limit| *limit <= 1 << 62) }
}

impl Figures {
    /// Adds them to an object of the summary that has `cpu` and `memory` already.
    pub fn add_to(&self, object: &mut Value, now: Timestamp) {
        let [cpu, memory, io] = &self.pressure;
        object["cpu"]["psi"] = cpu.clone();
        object["memory"]["psi"] = memory.clone();
        object["io"] = json!({"time": now, "psi": io});
        if let Some((minor, major)) = self.faults {
            object["memory"]["pageFaults"] = json!(minor);
            object["memory"]["majorPageFaults"] = json!(major);
        }
        if let Some(swap) = self.swap {
            let left = swap.limit.map(|limit| limit.saturating_sub(swap.used));
            object["swap"] = json!({"time": now, "swapUsageBytes": swap.used, "swapAvailableBytes": left});
        }
    }
}

/// Interfaces with the kernel's columns; the first of upstream's fields are those of `eth0`.
pub fn network(interfaces: &[(String, Vec<f64>)], now: Timestamp) -> Option<Value> {
    let one = |(name, columns): &(String, Vec<f64>)| {
        let at = |column: usize| columns.get(column).copied().map(whole);
        json!({"name": name, "rxBytes": at(0), "rxErrors": at(2), "txBytes": at(8), "txErrors": at(10)})
    };
    let all: Vec<Value> = interfaces.iter().map(one).collect();
    if all.is_empty() {
        return None;
    }
    let mut out = all.iter().find(|i| i["name"] == "eth0").cloned().unwrap_or_else(|| json!({"name": ""}));
    out["time"] = json!(now);
    out["interfaces"] = json!(all);
    Some(out)
}

/// When a group was made, as far as the file system tells.
pub fn made(hierarchy: &Hierarchy, id: &str) -> Option<Timestamp> {
    let dir = hierarchy.controller_dir("memory", id.trim_start_matches('/'))?;
    Timestamp::try_from(fs::metadata(dir).ok()?.modified().ok()?).ok()
}

/// Without members that are null, which upstream leaves out.
pub fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, v)| !v.is_null());
            Value::Object(kept.map(|(key, v)| (key, without_nulls(v))).collect::<Map<_, _>>())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(without_nulls).collect()),
        other => other,
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
        put("g/memory.stat", "anon 1\npgfault 7\npgmajfault 2\n");
        put("g/memory.swap.current", "10\n");
        put("g/memory.swap.max", "100\n");
        put("g/cgroup.procs", "1\n2\n");
        put(
            "g/io.pressure",
            "some avg10=1.50 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00 avg60=0.25 avg300=0.00 total=4\n",
        );
        let found = read(&Hierarchy::V2(dir.path().to_owned()), "/g");
        assert_eq!((found.swap, found.processes), (Some(Swap { used: 10, limit: Some(100) }), Some(2)));
        let mut object = json!({"cpu": {}, "memory": {}});
        found.add_to(&mut object, Timestamp::UNIX_EPOCH);
        assert_eq!(
            object["io"]["psi"]["some"],
            json!({"total": 9, "avg10": 1.5, "avg60": 0.0, "avg300": 0.0})
        );
        assert_eq!(object["io"]["psi"]["full"]["avg60"], 0.25);
        assert_eq!(object["cpu"]["psi"]["full"]["total"], 0);
        assert_eq!(
            (&object["memory"]["pageFaults"], &object["memory"]["majorPageFaults"]),
            (&json!(7), &json!(2))
        );
        assert_eq!(object["swap"]["swapAvailableBytes"], 90);
        put("memory/g/memory.stat", "total_swap 5\ntotal_pgfault 3\ntotal_pgmajfault 1\n");
        put("memory/g/memory.memsw.limit_in_bytes", "9223372036854771712\n");
        let found = read(&Hierarchy::V1([("memory".to_owned(), dir.path().join("memory"))].into()), "/g");
        assert_eq!((found.swap, found.faults), (Some(Swap { used: 5, limit: None }), Some((3, 1))));
    }

    #[test]
    fn interfaces_and_nulls() {
        let columns: Vec<f64> = (0..16u8).map(f64::from).collect();
        let found = network(&[("eth0".to_owned(), columns)], Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((&found["rxErrors"], &found["interfaces"][0]["txBytes"]), (&json!(2), &json!(8)));
        assert_eq!(network(&[], Timestamp::UNIX_EPOCH), None);
        assert_eq!(without_nulls(json!({"a": null, "b": [{"c": null, "d": 0}]})), json!({"b": [{"d": 0}]}));
    }
}
