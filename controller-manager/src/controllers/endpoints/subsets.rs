//! The canonical form of endpoint subsets: every address once per set of ports, everything in one order. Pure.
//!
//! The order of ports and subsets is that of upstream's hashes, so that a change of controller managers rewrites nothing:
//! FNV-128a of the text in which Go's spew shows a value. Upstream: pkg/api/v1/endpoints/util.go RepackSubsets.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, ObjectReference};

type PortKey = (String, i32, String, Option<String>);

fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

fn filled<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn uid(address: &EndpointAddress) -> &str {
    address.target_ref.as_ref().map(|t| text(&t.uid)).unwrap_or_default()
}

/// Addresses with their readiness, by their place in a list of all.
type Hosts = BTreeMap<usize, bool>;

/// Unreadiness at one port counts more than readiness; ports without number stand for none.
pub fn repack(subsets: &[EndpointSubset]) -> Vec<EndpointSubset> {
    let mut addresses: Vec<&EndpointAddress> = Vec::new();
    let mut places: HashMap<(&str, &str), usize> = HashMap::new();
    let mut hosts_of: BTreeMap<PortKey, (Option<&EndpointPort>, Hosts)> = BTreeMap::new();
    for subset in subsets {
        let mut ports: Vec<Option<&EndpointPort>> =
            subset.ports.iter().flatten().map(|p| Some(p).filter(|p| p.port > 0)).collect();
        if ports.is_empty() {
            ports.push(None);
        }
        let ready = subset.addresses.iter().flatten().map(|a| (a, true));
        let unready = subset.not_ready_addresses.iter().flatten().map(|a| (a, false));
        let all: Vec<(&EndpointAddress, bool)> = ready.chain(unready).collect();
        for port in ports {
            for &(address, ready) in &all {
                let place = *places.entry((address.ip.as_str(), uid(address))).or_insert_with(|| {
                    addresses.push(address);
                    addresses.len() - 1
                });
                let hosts = &mut hosts_of.entry(port_key(port)).or_insert((port, Hosts::new())).1;
                hosts.entry(place).and_modify(|was| *was &= ready).or_insert(ready);
            }
        }
    }
    let mut ports_of: BTreeMap<Vec<(usize, bool)>, Vec<EndpointPort>> = BTreeMap::new();
    for (port, hosts) in hosts_of.into_values() {
        ports_of.entry(hosts.into_iter().collect()).or_default().extend(port.cloned());
    }
    let mut packed: Vec<EndpointSubset> = ports_of
        .into_iter()
        .map(|(hosts, ports)| {
            let of = |wanted: bool| {
                let chosen = hosts.iter().filter(|(_, ready)| *ready == wanted);
                sorted(chosen.filter_map(|(place, _)| addresses.get(*place).copied().cloned()).collect())
            };
            subset(of(true), of(false), ports)
        })
        .collect();
    packed.sort_by_cached_key(|s| hash(&subset_text(s)));
    packed
}

fn port_key(port: Option<&EndpointPort>) -> PortKey {
    port.map_or((String::new(), -1, String::new(), None), |p| {
        (text(&p.name).to_string(), p.port, text(&p.protocol).to_string(), p.app_protocol.clone())
    })
}

fn sorted(mut addresses: Vec<EndpointAddress>) -> Vec<EndpointAddress> {
    addresses.sort_by(|a, b| {
        let key = |x: &EndpointAddress| (x.ip.clone(), x.target_ref.is_some(), uid(x).to_string());
        key(a).cmp(&key(b))
    });
    addresses
}

fn subset(
    ready: Vec<EndpointAddress>,
    unready: Vec<EndpointAddress>,
    mut ports: Vec<EndpointPort>,
) -> EndpointSubset {
    ports.sort_by_cached_key(|p| {
        let mut out = "(v1.EndpointPort)".to_string();
        port_text(p, &mut out);
        hash(&out)
    });
    EndpointSubset { addresses: filled(ready), not_ready_addresses: filled(unready), ports: filled(ports) }
}

/// FNV-128a, whose order is that of its bytes.
fn hash(text: &str) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    text.bytes().fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

fn subset_text(subset: &EndpointSubset) -> String {
    let mut out = "(v1.EndpointSubset){Addresses:".to_string();
    list_text("([]v1.EndpointAddress)", subset.addresses.as_deref(), address_text, &mut out);
    out.push_str(" NotReadyAddresses:");
    list_text("([]v1.EndpointAddress)", subset.not_ready_addresses.as_deref(), address_text, &mut out);
    out.push_str(" Ports:");
    list_text("([]v1.EndpointPort)", subset.ports.as_deref(), port_text, &mut out);
    out.push('}');
    out
}

fn list_text<T>(kind: &str, list: Option<&[T]>, item: impl Fn(&T, &mut String), out: &mut String) {
    out.push_str(kind);
    let Some(list) = list else { return out.push_str("<nil>") };
    out.push('[');
    for (i, entry) in list.iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        item(entry, out);
    }
    out.push(']');
}

fn pointer(value: Option<&str>) -> &str {
    value.unwrap_or("<nil>")
}

fn address_text(address: &EndpointAddress, out: &mut String) {
    let node = pointer(address.node_name.as_deref());
    // Writing to a text cannot fail.
    let _ = write!(
        out,
        "{{IP:(string){} Hostname:(string){} NodeName:(*string){node} TargetRef:(*v1.ObjectReference)",
        address.ip,
        text(&address.hostname)
    );
    match &address.target_ref {
        None => out.push_str("<nil>"),
        Some(target) => target_text(target, out),
    }
    out.push('}');
}

fn target_text(target: &ObjectReference, out: &mut String) {
    let _ = write!(
        out,
        "{{Kind:(string){} Namespace:(string){} Name:(string){} UID:(types.UID){} APIVersion:(string){} \
         ResourceVersion:(string){} FieldPath:(string){}}}",
        text(&target.kind),
        text(&target.namespace),
        text(&target.name),
        text(&target.uid),
        text(&target.api_version),
        text(&target.resource_version),
        text(&target.field_path)
    );
}

fn port_text(port: &EndpointPort, out: &mut String) {
    let _ = write!(
        out,
        "{{Name:(string){} Port:(int32){} Protocol:(v1.Protocol){} AppProtocol:(*string){}}}",
        text(&port.name),
        port.port,
        text(&port.protocol),
        pointer(port.app_protocol.as_deref())
    );
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Recorded by `e2e/oracle/controllers repack`.
    #[test]
    fn packing_and_order_are_upstreams() {
        let mut count = 0;
        for line in include_str!("testdata/repack.jsonl").lines() {
            let record: Value = serde_json::from_str(line).expect("a record");
            let read = |name: &str| -> Vec<EndpointSubset> {
                serde_json::from_value(record[name].clone()).expect("subsets")
            };
            let (given, expected) = (read("in"), read("out"));
            let bare = |mut subsets: Vec<EndpointSubset>| {
                for port in subsets.iter_mut().flat_map(|s| s.ports.iter_mut().flatten()) {
                    port.name.get_or_insert_default();
                }
                subsets
            };
            assert_eq!(bare(repack(&given)), bare(expected.clone()), "{line}");
            assert_eq!(repack(&expected), expected, "packing twice changes nothing");
            count += 1;
        }
        assert_eq!(count, 300);
    }
}
