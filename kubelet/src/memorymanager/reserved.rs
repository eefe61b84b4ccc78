//! `reservedMemory`: what the system keeps of each NUMA node, which must be just what is not allocatable.
//!
//! Upstream: getSystemReservedMemory in memory_manager.go and validation_reserved_memory.go, v1.37.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};

use super::policy_static::MEMORY;
use crate::node::status::binary;
use crate::pod::resources::{Amounts, Quantities, is_quantity, milli};

/// Bytes by node and resource.
pub type Reserved = BTreeMap<u32, BTreeMap<String, u64>>;

/// One entry of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemoryReservation {
    /// The node.
    pub numa_node: i32,
    /// Amounts by resource.
    pub limits: Quantities,
}

fn is_huge_page(resource: &str) -> bool {
    resource.starts_with("hugepages-")
}

/// Reads the flag's form, `0:memory=1Gi,hugepages-2Mi=2Mi;1:memory=1Gi`. Upstream: ReservedMemoryVar in pkg/util/flag.
///
/// # Errors
/// What is wrong.
pub fn parse(text: &str) -> Result<Vec<MemoryReservation>, String> {
    let one = |reservation: &str| {
        let parts: Vec<&str> = reservation.split(':').collect();
        let [node, limits] = parts.as_slice() else {
            return Err(format!(
                "the reserved memory has incorrect format, expected numaNodeID:type=quantity[,type=quantity...], got {reservation}"
            ));
        };
        let numa_node = node
            .parse()
            .map_err(|_| format!("failed to convert the NUMA node ID, exptected integer, got {node}"))?;
        Ok(MemoryReservation { numa_node, limits: limits.split(',').map(limit).collect::<Result<_, _>>()? })
    };
    text.split(';').filter(|_| !text.is_empty()).map(one).collect()
}

fn limit(text: &str) -> Result<(String, Quantity), String> {
    let parts: Vec<&str> = text.split('=').collect();
    let [resource, amount] = parts.as_slice() else {
        return Err(format!("the reserved limit has incorrect value, expected type=quantatity, got {text}"));
    };
    if !is_huge_page(resource) && *resource != MEMORY {
        return Err(format!("memory type conversion error, unknown type: {resource:?}"));
    }
    let amount = Quantity((*amount).to_owned());
    if !is_quantity(&amount) {
        return Err(format!("failed to parse the quatity, expected quantity, got {}", amount.0));
    }
    Ok(((*resource).to_owned(), amount))
}

/// What a configuration may not say.
pub fn problems(all: &[MemoryReservation]) -> Vec<String> {
    let mut out = Vec::new();
    let mut seen = BTreeSet::new();
    for MemoryReservation { numa_node, limits } in all {
        for (resource, amount) in limits {
            if !is_huge_page(resource) && resource != MEMORY {
                out.push(format!("the limit type {resource:?} for NUMA node {numa_node} is not supported, only [memory hugepages-<HugePageSize>] is accepted"));
            }
            if milli(amount) == 0 {
                out.push(format!(
                    "reserved memory may not be zero for NUMA node {numa_node} and resource {resource:?}"
                ));
            }
            if !seen.insert((numa_node, resource)) {
                out.push(format!("the reserved memory has a duplicate value for NUMA node {numa_node} and resource {resource:?}"));
            }
        }
    }
    out
}

/// The reserve of each node, if it is what the node as a whole reserves; `whole` has that in thousandths of bytes.
///
/// # Errors
/// If it names a node that is not there or does not add up.
pub fn by_node(nodes: &[u32], whole: &Amounts, all: &[MemoryReservation]) -> Result<Reserved, String> {
    let mut totals: BTreeMap<&str, i128> = BTreeMap::new();
    for MemoryReservation { numa_node, limits } in all {
        if !u32::try_from(*numa_node).is_ok_and(|node| nodes.contains(&node)) {
            return Err(format!(
                "the reserved memory configuration references a NUMA node {numa_node} that does not exist on this machine"
            ));
        }
        for (resource, amount) in limits {
            *totals.entry(resource).or_default() += milli(amount);
        }
    }
    let of_whole = whole.0.keys().map(String::as_str).filter(|name| is_huge_page(name) || *name == MEMORY);
    let named: BTreeSet<&str> = totals.keys().copied().chain(of_whole).collect();
    for resource in named {
        let reserved = totals.get(resource).copied().unwrap_or_default();
        let expected = whole.0.get(resource).copied().unwrap_or_default();
        if reserved != expected {
            return Err(format!(
                "the total amount {:?} of type {resource:?} is not equal to the value {:?} determined by Node Allocatable feature",
                shown(reserved),
                shown(expected)
            ));
        }
    }
    let mut out: Reserved = nodes.iter().map(|node| (*node, BTreeMap::new())).collect();
    for MemoryReservation { numa_node, limits } in all {
        let Some(node) = u32::try_from(*numa_node).ok().and_then(|node| out.get_mut(&node)) else { continue };
        for (resource, amount) in limits {
            let amount = milli(amount);
            let bytes = if amount % 1000 == 0 { u64::try_from(amount / 1000).ok() } else { None };
            let bytes = bytes.ok_or("could not covert a variable of type Quantity to int64")?;
            node.insert(resource.clone(), bytes);
        }
    }
    Ok(out)
}

fn shown(milli: i128) -> String {
    if milli % 1000 != 0 {
        return format!("{milli}m");
    }
    let bytes = i64::try_from(milli / 1000).unwrap_or(i64::MAX);
    fitting(bytes).0
}

/// As upstream prints it, which goes by how the first amount was written: most likely in the steps that fit.
fn fitting(bytes: i64) -> Quantity {
    if bytes % 1024 == 0 {
        return binary(bytes);
    }
    let units = [(1_000_000_000_000i64, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    let found = units.into_iter().find(|(unit, _)| bytes % unit == 0);
    Quantity(found.map_or_else(|| bytes.to_string(), |(unit, name)| format!("{}{name}", bytes / unit)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn flag() {
        let shown = |text: &str| {
            let entry = |r: MemoryReservation| {
                (
                    r.numa_node,
                    r.limits.into_iter().map(|(n, q)| format!("{n}={}", q.0)).collect::<Vec<_>>().join(","),
                )
            };
            parse(text).map(|list| list.into_iter().map(entry).collect::<Vec<_>>())
        };
        let two = vec![(0, "hugepages-2Mi=2Mi,memory=1Gi".to_owned()), (1, "memory=2Gi".to_owned())];
        assert_eq!(shown("0:memory=1Gi,hugepages-2Mi=2Mi;1:memory=2Gi"), Ok(two));
        assert_eq!(shown(""), Ok(vec![]));
        for bad in ["0", "x:memory=1", "0:memory", "0:cpu=1", "0:memory=x", "0:memory=1;"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        let all: Vec<MemoryReservation> = serde_json::from_value(json!([
            {"numaNode": 0, "limits": {"memory": "1Gi", "cpu": "1"}}, {"numaNode": 0, "limits": {"memory": "0"}},
            {"numaNode": 1, "limits": {"hugepages-2Mi": "2Mi"}}]))
        .unwrap();
        assert_eq!(
            problems(&all),
            [
                "the limit type \"cpu\" for NUMA node 0 is not supported, only [memory hugepages-<HugePageSize>] is accepted",
                "reserved memory may not be zero for NUMA node 0 and resource \"memory\"",
                "the reserved memory has a duplicate value for NUMA node 0 and resource \"memory\"",
            ]
        );
    }
}
