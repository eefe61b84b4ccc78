//! What is wrong with a Service or slice so that a part of it gets no rules. The API server refuses such objects; others
//! may have written them. Pure but for the log, where each is said once, until it changes.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tracing::{info, warn};

use crate::kept::{EndpointSlice, Service};
use crate::model::{Family, Protocol, is_name};

/// What was said, by object.
#[derive(Default)]
pub struct Said(Mutex<BTreeMap<String, Vec<String>>>);

impl Said {
    /// A Service is so now; none = it is gone.
    pub fn service(&self, key: &str, service: Option<&Service>) {
        self.say("Service", key, service.map(of_service).unwrap_or_default());
    }

    /// A slice is so now; none = it is gone.
    pub fn slice(&self, key: &str, slice: Option<&EndpointSlice>) {
        self.say("EndpointSlice", key, slice.map(of_slice).unwrap_or_default());
    }

    fn say(&self, kind: &'static str, key: &str, flaws: Vec<String>) {
        let mut said = self.0.lock();
        let before = said.get(key).map_or(&[][..], Vec::as_slice);
        if before == flaws {
            return;
        }
        if flaws.is_empty() {
            info!(kind, object = key, "It is valid now, or gone");
            said.remove(key);
        } else {
            let flaw = flaws.join("; ");
            warn!(
                kind,
                object = key,
                flaw,
                "Invalid: that part of it gets no rules until the object is mended"
            );
            said.insert(key.to_string(), flaws);
        }
    }
}

fn address(what: &str, text: &str, family: Option<Family>) -> Option<String> {
    match net::parse_ip(text) {
        None => Some(format!("{what} {text:?} is not an IP address")),
        Some(ip) if family.is_some_and(|f| f != Family::of(&ip)) => {
            Some(format!("{what} {text:?} is not of the family it is listed for"))
        }
        Some(_) => None,
    }
}

fn port(what: &str, number: i32) -> Option<String> {
    (!(1..=65_535).contains(&number)).then(|| format!("{what} {number} is not between 1 and 65535"))
}

fn protocol(text: Option<&str>) -> Option<String> {
    Protocol::parse(text)
        .is_none()
        .then(|| format!("protocol {:?} is not TCP, UDP or SCTP", text.unwrap_or_default()))
}

fn name(what: &str, text: &str) -> Option<String> {
    (!text.is_empty() && !is_name(text))
        .then(|| format!("{what} {text:?} has other characters than letters, digits, '-' and '.'"))
}

fn family(text: &str) -> Option<Family> {
    [Family::V4, Family::V6].into_iter().find(|f| f.as_str() == text)
}

/// What is wrong with a Service.
pub fn of_service(service: &Service) -> Vec<String> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let routed = |ip: &&str| !ip.is_empty() && *ip != "None";
    if spec.type_.as_deref() == Some("ExternalName") || spec.cluster_ip.as_deref().filter(routed).is_none() {
        return Vec::new();
    }
    let mut flaws: Vec<Option<String>> =
        vec![name("the name", service.metadata.name.as_deref().unwrap_or_default())];
    flaws.push(address("clusterIP", spec.cluster_ip.as_deref().unwrap_or_default(), None));
    for (ip, of) in spec.cluster_ips.iter().flatten().zip(spec.ip_families.iter().flatten()) {
        flaws.push(address("clusterIPs", ip, family(of)));
    }
    flaws.extend(spec.external_ips.iter().flatten().map(|ip| address("externalIPs", ip, None)));
    for each in spec.ports.iter().flatten() {
        flaws.push(name("port name", each.name.as_deref().unwrap_or_default()));
        flaws.push(protocol(each.protocol.as_deref()));
        flaws.push(port("port", each.port));
        flaws.push(each.node_port.filter(|p| *p != 0).and_then(|p| port("nodePort", p)));
    }
    for range in spec.load_balancer_source_ranges.iter().flatten() {
        if net::parse_network(range.trim()).is_none() {
            flaws.push(Some(format!("loadBalancerSourceRanges {range:?} is not a network")));
        }
    }
    let status = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    for ingress in status.and_then(|b| b.ingress.as_ref()).into_iter().flatten() {
        flaws.extend(ingress.ip.iter().map(|ip| address("status.loadBalancer.ingress", ip, None)));
    }
    flaws.into_iter().flatten().collect()
}

/// What is wrong with a slice.
pub fn of_slice(slice: &EndpointSlice) -> Vec<String> {
    // Slices of names are for others.
    let Some(family) = family(&slice.address_type) else { return Vec::new() };
    let mut flaws = Vec::new();
    for each in slice.ports.iter().flatten() {
        flaws.push(name("port name", each.name.as_deref().unwrap_or_default()));
        flaws.push(protocol(each.protocol.as_deref()));
        flaws.push(each.port.and_then(|p| port("port", p)));
    }
    for endpoint in slice.endpoints.iter().flatten() {
        match &endpoint.address {
            Some(text) => flaws.push(address("an endpoint's address", text, Some(family))),
            None => flaws.push(Some("an endpoint has no address".to_string())),
        }
    }
    flaws.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(spec: Value) -> Vec<String> {
        of_service(
            &serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).expect("a Service"),
        )
    }

    #[test]
    fn services() {
        let good = json!({"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "clusterIPs": ["10.0.0.1"],
            "ports": [{"name": "http", "port": 80, "nodePort": 30080}], "loadBalancerSourceRanges": [" 10.0.0.0/8"]});
        assert_eq!(service(good.clone()), [""; 0]);
        for (key, value, flaw) in [
            ("clusterIP", json!("10.0.0.300"), "clusterIP \"10.0.0.300\" is not an IP address"),
            (
                "clusterIPs",
                json!(["fd00::1"]),
                "clusterIPs \"fd00::1\" is not of the family it is listed for",
            ),
            ("externalIPs", json!(["x"]), "externalIPs \"x\" is not an IP address"),
            ("ports", json!([{"port": 0}]), "port 0 is not between 1 and 65535"),
            ("ports", json!([{"port": 80, "protocol": "ICMP"}]), "protocol \"ICMP\" is not TCP, UDP or SCTP"),
            (
                "ports",
                json!([{"name": "x\"\n-A", "port": 80}]),
                "port name \"x\\\"\\n-A\" has other characters than letters, digits, '-' and '.'",
            ),
            (
                "loadBalancerSourceRanges",
                json!(["10/33"]),
                "loadBalancerSourceRanges \"10/33\" is not a network",
            ),
        ] {
            let mut spec = good.clone();
            spec[key] = value;
            assert_eq!(service(spec), [flaw]);
        }
        assert_eq!(service(json!({"clusterIP": "None", "ports": [{"port": 0}]})), [""; 0]);
    }

    #[test]
    fn slices() {
        let slice = |kind: &str, address: &str, port: i32| {
            let slice = json!({"metadata": {}, "addressType": kind, "ports": [{"port": port}],
                "endpoints": [{"addresses": [address]}]});
            of_slice(&serde_json::from_value(slice).expect("a slice"))
        };
        assert_eq!(slice("IPv4", "10.0.0.1", 80), [""; 0]);
        assert_eq!(slice("FQDN", "example.org", 80), [""; 0]);
        assert_eq!(
            slice("IPv4", "10.0.0.256", 80),
            ["an endpoint's address \"10.0.0.256\" is not an IP address"]
        );
        assert_eq!(
            slice("IPv6", "10.0.0.1", 80),
            ["an endpoint's address \"10.0.0.1\" is not of the family it is listed for"]
        );
        assert_eq!(slice("IPv4", "10.0.0.1", 70_000), ["port 70000 is not between 1 and 65535"]);
    }
}
