//! Upstream's table of allocations, question and answer a line (`data/table.jsonl`; `make oracle-devices` records it).

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

pub(super) fn list<T: DeserializeOwned>(case: &Value, key: &str) -> Vec<Arc<T>> {
    let list = case[key].as_array().into_iter().flatten();
    list.map(|o| Arc::new(T::deserialize(o).unwrap())).collect()
}

fn device(name: &str) -> DeviceRef<'_> {
    let mut parts = name.splitn(3, '/');
    let mut next = || parts.next().unwrap();
    DeviceRef { driver: next(), pool: next(), device: next() }
}

fn taken(case: &Value) -> Taken {
    let mut taken = Taken::default();
    let names = |key: &str| case[key].as_array().cloned().unwrap_or_default();
    for name in names("held") {
        taken.take(device(name.as_str().unwrap()));
    }
    for name in names("shared") {
        taken.share(device(name.as_str().unwrap()), []);
    }
    for held in names("capacity") {
        let amounts = held["capacity"].as_object().unwrap().iter();
        let amounts = amounts.map(|(n, q)| (n.clone(), q.as_str().unwrap().parse().unwrap()));
        taken.share(device(held["device"].as_str().unwrap()), amounts.collect::<Vec<_>>());
    }
    taken
}

fn features(case: &Value) -> Features {
    let names: Vec<&str> = case["features"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let on = |name: &str| names.contains(&name);
    Features {
        binding: on("DRADeviceBindingConditions+DRAResourceClaimDeviceStatus"),
        compatibility_groups: on("DRADeviceCompatibilityGroups"),
        consumable_capacity: on("DRAConsumableCapacity"),
        derived_attributes: on("DRADerivedAttributes"),
        fractional_capacity: on("DRAFractionalCapacityRange"),
        list_attributes: on("DRAListTypeAttributes"),
        optional_node_operations: on("DRAOptionalNodeOperations"),
        partitionable: on("DRAPartitionableDevices"),
        taints: on("DRADeviceTaints"),
    }
}

/// Texts of the test's own lister.
fn plain(error: &str) -> String {
    let end = error.find(": deviceclass").or_else(|| error.find(":  \"not found\"")).unwrap_or(error.len());
    error[..end].to_string()
}

#[test]
fn upstreams_table() {
    let programs = Arc::new(Programs::default());
    let text = include_str!("data/table.jsonl");
    let (mut found, mut count) = (Vec::new(), 0);
    for (at, line) in text.lines().enumerate() {
        // A default outside its own range, which validation refuses; searches that were interrupted at once; what no gate
        // turns off any more; and empty lists, which are not in the record.
        let never = [
            r#""default":"1","validRange":{"min":"2"}"#,
            "operation aborted",
            r#""driverVersion":{}"#,
            "but the DRAPrioritizedList feature is disabled",
            "admin access is requested, but the feature is disabled",
        ];
        if never.iter().any(|n| line.contains(n)) {
            continue;
        }
        let case: Value = serde_json::from_str(line).unwrap();
        let inventory = Inventory::new(list(&case, "slices"), Vec::new(), list(&case, "classes"));
        let supply = Supply {
            features: features(&case),
            inventory: Arc::new(inventory),
            taken: Arc::new(taken(&case)),
            programs: programs.clone(),
            new_share: || "share".to_string(),
        };
        let node: crate::model::WireNode = serde_json::from_value(case["node"].clone()).unwrap();
        let labels = node.metadata.labels.clone();
        let declared = &node.status.declared_features;
        let site = Site { name: &node.metadata.name, labels: &labels, declared };
        let answer = allocate(&supply, site, &list(&case, "claims"), &|| false);
        let theirs = case["error"].as_str().unwrap_or_default();
        let (ours, error) = match answer {
            Ok(results) => (json!(results.unwrap_or_default()), String::new()),
            Err(Problem::Node(e) | Problem::Fatal(e)) => (json!([]), e),
            Err(Problem::Interrupted) => unreachable!("nobody asked to stop"),
        };
        count += 1;
        let wanted: Vec<AllocationResult> =
            serde_json::from_value(case.get("results").cloned().unwrap_or(json!([]))).unwrap();
        let wanted = json!(wanted);
        if ours != wanted || plain(&error) != plain(theirs) {
            found.push(format!("line {}\n ours   {ours} {error}\n theirs {wanted} {theirs}", at + 1));
        }
    }
    assert!(count > 200, "only {count} cases");
    assert!(
        found.is_empty(),
        "{} of {count} differ:\n{}",
        found.len(),
        found[..found.len().min(8)].join("\n")
    );
}
