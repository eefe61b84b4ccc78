//! Requests for devices in place of extended resources of containers. Containers that run one after the other may use
//! the same devices: an init container uses what later ones hold, and of what init containers need beyond that only
//! the most is asked for. Upstream: dynamicresources/extendeddynamicresources.go createRequestsAndMappings.

use k8s_openapi::api::core::v1::ContainerExtendedResourceRequest;
use k8s_openapi::api::resource::v1::{DeviceRequest, ExactDeviceRequest};
use serde::Serialize;

/// Extended resources of a container.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ContainerAsks {
    pub container: String,
    /// Where it is among init containers and containers.
    pub at: usize,
    /// An init container that ends before the next one starts.
    pub ends: bool,
    pub asks: Vec<Ask>,
}

/// An amount of an extended resource.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ask {
    pub resource: String,
    pub amount: i64,
    /// Where it is among all of the container's requests by name.
    pub at: usize,
}

/// What is to be asked for, and which container uses which request.
pub type Asked = (Vec<DeviceRequest>, Vec<ContainerExtendedResourceRequest>);

/// Requests for resources with the classes that stand behind them, sorted by resource.
pub fn requests(containers: &[ContainerAsks], resources: &[(&str, &str)]) -> Asked {
    let (mut requests, mut mappings) = (Vec::new(), Vec::new());
    for (resource, class) in resources {
        one_resource(containers, resource, class, &mut requests, &mut mappings);
    }
    requests.sort_by(|a: &DeviceRequest, b| a.name.cmp(&b.name));
    (requests, mappings)
}

fn one_resource(
    containers: &[ContainerAsks],
    resource: &str,
    class: &str,
    requests: &mut Vec<DeviceRequest>,
    mappings: &mut Vec<ContainerExtendedResourceRequest>,
) {
    let asks = || {
        let of = |c: &'_ ContainerAsks| c.asks.iter().position(|a| a.resource == resource && a.amount > 0);
        containers.iter().filter_map(move |c| of(c).map(|at| (c, &c.asks[at])))
    };
    let mapping = |c: &ContainerAsks, request: &str| ContainerExtendedResourceRequest {
        container_name: c.container.clone(),
        resource_name: resource.to_string(),
        request_name: request.to_string(),
    };
    let name = |c: &ContainerAsks, a: &Ask| format!("container-{}-request-{}", c.at, a.at);
    let mut lasting: Vec<(usize, DeviceRequest)> = Vec::new();
    for (c, ask) in asks().filter(|(c, _)| !c.ends) {
        lasting.push((c.at, request(name(c, ask), class, ask.amount)));
        mappings.push(mapping(c, &name(c, ask)));
    }
    let mut most: Option<DeviceRequest> = None;
    let mut brief = Vec::new();
    for (c, ask) in asks().filter(|(c, _)| c.ends) {
        let mut missing = ask.amount;
        for (_, later) in lasting.iter().filter(|(at, _)| *at >= c.at) {
            if missing <= 0 {
                break;
            }
            missing -= count(later);
            brief.push((mapping(c, &later.name), false));
        }
        if missing > 0 {
            let own = request(name(c, ask), class, missing);
            brief.push((mapping(c, &own.name), true));
            if most.as_ref().is_none_or(|m| count(m) < missing) {
                most = Some(own);
            }
        }
    }
    mappings.extend(brief.into_iter().map(|(mut mapping, own)| {
        if let Some(most) = most.as_ref().filter(|_| own) {
            mapping.request_name.clone_from(&most.name);
        }
        mapping
    }));
    requests.extend(most);
    requests.extend(lasting.into_iter().map(|(_, request)| request));
}

fn count(request: &DeviceRequest) -> i64 {
    request.exactly.as_ref().and_then(|e| e.count).unwrap_or(0)
}

fn request(name: String, class: &str, count: i64) -> DeviceRequest {
    let exactly = ExactDeviceRequest {
        device_class_name: class.into(),
        allocation_mode: Some("ExactCount".into()),
        count: Some(count),
        ..ExactDeviceRequest::default()
    };
    DeviceRequest { name, exactly: Some(exactly), first_available: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(at: usize, ends: bool, amount: i64) -> ContainerAsks {
        let asks = vec![Ask { resource: "example.com/gpu".into(), amount, at: 1 }];
        ContainerAsks { container: format!("c{at}"), at, ends, asks }
    }

    /// Requests with their counts.
    type Counted = Vec<(String, i64)>;
    /// Containers with the requests they use.
    type Used = Vec<(String, String)>;

    fn asked(containers: &[ContainerAsks]) -> (Counted, Used) {
        let (requests, mappings) = requests(containers, &[("example.com/gpu", "gpu")]);
        (
            requests.iter().map(|r| (r.name.clone(), count(r))).collect(),
            mappings.into_iter().map(|m| (m.container_name, m.request_name)).collect(),
        )
    }

    #[test]
    fn init_containers_use_what_later_ones_hold() {
        let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
        let named = |at: usize| format!("container-{at}-request-1");
        let (requests, mappings) =
            asked(&[container(0, true, 1), container(1, true, 4), container(2, false, 2)]);
        assert_eq!(requests, [(named(1), 2), (named(2), 2)]);
        assert_eq!(
            mappings,
            [pair("c2", &named(2)), pair("c0", &named(2)), pair("c1", &named(2)), pair("c1", &named(1)),]
        );
        // A sidecar that started earlier holds its devices while the init container runs.
        let (requests, mappings) = asked(&[container(0, false, 1), container(1, true, 1)]);
        assert_eq!(requests, [(named(0), 1), (named(1), 1)]);
        assert_eq!(mappings, [pair("c0", &named(0)), pair("c1", &named(1))]);
        // Of two that end, the greater one's request serves both.
        let (requests, mappings) = asked(&[container(0, true, 1), container(1, true, 3)]);
        assert_eq!(requests, [(named(1), 3)]);
        assert_eq!(mappings, [pair("c0", &named(1)), pair("c1", &named(1))]);
    }
}
