//! Limits of a control group as properties of a systemd unit.
//!
//! Pure. Upstream: systemd/{common,v1,v2,cpuset}.go of github.com/opencontainers/cgroups v0.0.7, which Kubernetes v1.37
//! uses; only what the kubelet sets is here (no devices, no block I/O).

use crate::container::limits::CgroupLimits;

/// What systemd calls "infinity".
const INFINITY: u64 = u64::MAX;
const DEFAULT_PERIOD: u64 = 100_000;

/// Value of a property, by its type on D-Bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `b`
    Flag(bool),
    /// `t`
    Number(u64),
    /// `s`
    Text(String),
    /// `as`
    Texts(Vec<String>),
    /// `ay`
    Bytes(Vec<u8>),
}

/// A property's name and value.
pub type Property = (&'static str, Value);

/// Properties with which a slice begins.
pub fn new_slice(unit: &str, parent: &str, unified: bool) -> Vec<Property> {
    let io = if unified { "IOAccounting" } else { "BlockIOAccounting" };
    vec![
        ("Description", Value::Text(format!("libcontainer container {unit}"))),
        // A slice's parent follows from its name; this only starts it.
        ("Wants", Value::Texts(vec![parent.to_owned()])),
        ("MemoryAccounting", Value::Flag(true)),
        ("CPUAccounting", Value::Flag(true)),
        (io, Value::Flag(true)),
        ("TasksAccounting", Value::Flag(true)),
        ("DefaultDependencies", Value::Flag(false)),
    ]
}

/// Properties for these limits. The quota in `limits` is rounded as systemd rounds it, so that the file that is written
/// afterwards says the same. `version` is systemd's (-1 if unknown: as one too old for anything optional).
///
/// # Errors
/// If a list of processors or a raw value is none.
pub fn resources(limits: &mut CgroupLimits, unified: bool, version: i64) -> Result<Vec<Property>, String> {
    let mut out = Vec::new();
    if let Some(memory) = limits.memory.filter(|m| *m != 0) {
        let name = if unified { "MemoryMax" } else { "MemoryLimit" };
        out.push((name, Value::Number(memory.cast_unsigned())));
        if unified && memory == -1 {
            // Memory without a limit takes swap's away too.
            out.push(("MemorySwapMax", Value::Number(INFINITY)));
        }
    }
    if let Some(shares) = limits.shares.filter(|s| *s != 0) {
        out.push(match unified {
            true => ("CPUWeight", Value::Number(super::fs::shares_to_weight(shares))),
            false => ("CPUShares", Value::Number(shares)),
        });
    }
    if let Some((quota, period)) = &mut limits.quota {
        out.extend(cpu_quota(quota, period.unsigned_abs(), version));
    }
    if let Some(pids) = limits.pids {
        let tasks = match pids {
            0 => 1,
            n => u64::try_from(n).unwrap_or(INFINITY),
        };
        out.push(("TasksMax", Value::Number(tasks)));
    }
    if let Some(cpus) = limits.cpus.as_ref().filter(|cpus| version >= 244 && !cpus.is_empty()) {
        let bits = range_to_bits(cpus)
            .map_err(|error| format!("resources.CPU.Cpus={cpus:?} conversion error: {error}"))?;
        out.push(("AllowedCPUs", Value::Bytes(bits)));
    }
    if unified {
        for (file, value) in &limits.unified {
            let Some(property) = of_file(file) else { continue };
            let number = match value.trim() {
                "max" => INFINITY,
                text => text
                    .parse()
                    .map_err(|error| format!("unified resource {file:?} value conversion error: {error}"))?,
            };
            out.push((property, Value::Number(number)));
        }
    }
    Ok(out)
}

fn of_file(file: &str) -> Option<&'static str> {
    Some(match file {
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.max" => "MemoryMax",
        "memory.swap.max" => "MemorySwapMax",
        _ => return None,
    })
}

/// The quota per second; systemd keeps whole percents, so it is rounded up to the next. Upstream: addCPUQuota.
fn cpu_quota(quota: &mut i64, period: u64, version: i64) -> Vec<Property> {
    let mut out = Vec::new();
    if period != 0 && version >= 242 {
        out.push(("CPUQuotaPeriodUSec", Value::Number(period)));
    }
    if *quota == 0 && period == 0 {
        return out;
    }
    let mut per_second = INFINITY;
    if *quota > 0 {
        let period = if period == 0 { DEFAULT_PERIOD } else { period };
        per_second = quota.unsigned_abs().saturating_mul(1_000_000) / period;
        if !per_second.is_multiple_of(10_000) {
            per_second = (per_second / 10_000).saturating_add(1).saturating_mul(10_000);
            *quota = i64::try_from(per_second.saturating_mul(period) / 1_000_000).unwrap_or(i64::MAX);
        }
    }
    out.push(("CPUQuotaPerSecUSec", Value::Number(per_second)));
    out
}

/// Processors that a list may name; far above any machine's, it bounds what a hostile list costs.
const MOST_CPUS: usize = 1 << 16;

/// A list such as `0-3,8` as bits, the lowest first.
///
/// # Errors
/// If the text is no such list, or names nothing.
pub fn range_to_bits(list: &str) -> Result<Vec<u8>, String> {
    let mut bits = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<usize>().map_err(|error| format!("{text:?}: {error}"));
        let (from, to) = (number(from)?, number(to)?);
        if from > to || to >= MOST_CPUS {
            return Err(format!("invalid range: {range}"));
        }
        for cpu in from..=to {
            if bits.len() <= cpu / 8 {
                bits.resize(cpu / 8 + 1, 0u8);
            }
            bits[cpu / 8] |= 1 << (cpu % 8);
        }
    }
    if bits.is_empty() { Err("empty value".to_owned()) } else { Ok(bits) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value as Json, json};

    fn shown(properties: &[Property]) -> Json {
        let one = |value: &Value| match value {
            Value::Flag(flag) => json!(flag),
            Value::Number(number) => json!(number.to_string()),
            Value::Text(text) => json!(text),
            Value::Texts(texts) => json!(texts),
            Value::Bytes(bytes) => json!(bytes),
        };
        properties.iter().map(|(name, value)| json!([name, one(value)])).collect()
    }

    fn limits(case: &Json) -> CgroupLimits {
        let number = |name: &str| case[name].as_i64();
        CgroupLimits {
            shares: number("shares").map(i64::unsigned_abs),
            quota: number("quota").map(|quota| (quota, number("period").unwrap_or_default())),
            memory: number("memory"),
            pids: number("pids"),
            cpus: case["cpus"].as_str().map(str::to_owned),
            huge_pages: None,
            unified: case["unified"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(file, value)| {
                    let known = ["memory.high", "memory.low", "memory.min", "memory.oom.group"];
                    let file = known.into_iter().find(|k| k == file).unwrap();
                    (file, value.as_str().unwrap().to_owned())
                })
                .collect(),
        }
    }

    /// Recorded from upstream's functions, see `e2e/oracle/cgroups`.
    #[test]
    fn as_upstream() {
        let lines: Vec<&str> = include_str!("testdata/properties.jsonl").lines().collect();
        assert!(lines.len() > 50);
        for line in lines {
            let case: Json = serde_json::from_str(line).unwrap();
            let mut limits = limits(&case);
            let unified = case["unifiedMode"] == true;
            let found = resources(&mut limits, unified, case["version"].as_i64().unwrap());
            match case["error"].as_str() {
                Some(_) => assert!(found.is_err(), "{line}"),
                None => assert_eq!(shown(&found.unwrap()), case["properties"], "{line}"),
            }
            if let Some((quota, _)) = limits.quota {
                assert_eq!(Some(quota), case["quotaAfter"].as_i64(), "{line}");
            }
        }
    }

    #[test]
    fn bounded() {
        assert!(range_to_bits("0-4294967295").is_err());
        assert_eq!(range_to_bits("0-3,8").unwrap(), [15, 1]);
        assert!(range_to_bits(" , ").is_err());
    }
}
