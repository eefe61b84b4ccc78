//! The server over a real socket, with a node of its own.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use pluginapi::podresources::v1::pod_resources_lister_client::PodResourcesListerClient;
use pluginapi::podresources::v1::*;
use pluginapi::podresources::v1alpha1 as old;
use pluginapi::podresources::v1alpha1::pod_resources_lister_client::PodResourcesListerClient as OldClient;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{Node, server};
use crate::devicemanager::state::Held;
use crate::dra::claims::{ClaimInfo, Device, DriverState};
use crate::memorymanager::state::Block;
use crate::pod::view::PodView;

/// Everything is held by container `c` of pod `u`.
#[derive(Default)]
struct Fake(Mutex<usize>);

fn pods() -> Vec<Arc<Pod>> {
    let one = |name: &str, phase: &str| {
        let init = json!([{"name": "init"}, {"name": "side", "restartPolicy": "Always"}]);
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"namespace": "n", "name": name, "uid": name},
                "spec": {"initContainers": init, "containers": [{"name": "c"}]}, "status": {"phase": phase}}))
            .unwrap(),
        )
    };
    vec![one("u", "Running"), one("over", "Failed")]
}

fn held(id: &str, nodes: Option<Vec<i64>>) -> Held {
    Held { resource: "example.com/gpu".to_owned(), id: id.to_owned(), nodes }
}

fn is_ours(uid: &str, container: &str) -> bool {
    (uid, container) == ("u", "c")
}

impl Node for Fake {
    fn active(&self) -> Vec<Arc<Pod>> {
        pods().into_iter().take(1).collect()
    }
    fn pods(&self) -> Vec<Arc<Pod>> {
        pods()
    }
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.active().into_iter().find(|pod| pod.namespace() == namespace && pod.name() == name)
    }
    fn refresh(&self) {
        *self.0.lock() += 1;
    }
    fn devices(&self, uid: &str, container: &str) -> Vec<Held> {
        let all = vec![held("1", None), held("2", Some(vec![0, 1])), held("3", Some(Vec::new()))];
        if is_ours(uid, container) { all } else { Vec::new() }
    }
    fn all_devices(&self) -> Vec<Held> {
        vec![held("1", None)]
    }
    fn cpus(&self, uid: &str, container: &str) -> Vec<i64> {
        if is_ours(uid, container) { vec![2, 3] } else { Vec::new() }
    }
    fn pod_cpus(&self, uid: &str) -> Vec<i64> {
        if is_ours(uid, "c") { vec![1, 2, 3] } else { Vec::new() }
    }
    fn pod_memory(&self, uid: &str) -> Vec<Block> {
        if is_ours(uid, "c") { self.all_memory() } else { Vec::new() }
    }
    fn all_cpus(&self) -> Vec<i64> {
        vec![1, 2, 3]
    }
    fn memory(&self, uid: &str, container: &str) -> Vec<Block> {
        if is_ours(uid, container) { self.all_memory() } else { Vec::new() }
    }
    fn all_memory(&self) -> Vec<Block> {
        vec![Block { numa_affinity: vec![0, 1], r#type: "memory".to_owned(), size: 7 }]
    }
    fn claims(&self, pod: &Pod, container: &Container) -> Vec<ClaimInfo> {
        let device = |name: &str, cdi: &str| Device {
            pool: "p".to_owned(),
            name: name.to_owned(),
            cdi: vec![cdi.to_owned()],
            share: (name == "b").then(|| "s".to_owned()),
            ..Device::default()
        };
        let state =
            DriverState { devices: vec![device("a", "v/c=a"), device("b", "v/c=b")], skips: Vec::new() };
        let info = ClaimInfo {
            name: "claim".to_owned(),
            namespace: "n".to_owned(),
            drivers: [("d".to_owned(), state)].into(),
            ..ClaimInfo::default()
        };
        if is_ours(pod.uid(), &container.name) { vec![info] } else { Vec::new() }
    }
}

fn start(only_active: bool) -> (tempfile::TempDir, Arc<Fake>, Channel) {
    let (dir, node) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
    std::fs::write(dir.path().join(server::SOCKET), "left behind").unwrap();
    let listener = server::open(dir.path(), server::SOCKET).unwrap();
    tokio::spawn(server::serve(node.clone(), only_active, listener, CancellationToken::new()));
    let address = format!("unix://{}", dir.path().join(server::SOCKET).display());
    let channel = tonic::transport::Endpoint::from_shared(address).unwrap().connect_lazy();
    (dir, node, channel)
}

fn device(id: &str, node: Option<i64>) -> ContainerDevices {
    let topology = node.map(|id| TopologyInfo { nodes: vec![NumaNode { id }] });
    let (resource_name, device_ids) = ("example.com/gpu".to_owned(), vec![id.to_owned()]);
    ContainerDevices { resource_name, device_ids, topology }
}

fn expected() -> PodResources {
    let cdi = |names: &[&str]| names.iter().map(|name| CdiDevice { name: (*name).to_owned() }).collect();
    let resource = |name: &str, names: &[&str], share_id: Option<&str>| ClaimResource {
        cdi_devices: cdi(names),
        driver_name: "d".to_owned(),
        pool_name: "p".to_owned(),
        device_name: name.to_owned(),
        share_id: share_id.map(str::to_owned),
    };
    let claim = DynamicResource {
        claim_name: "claim".to_owned(),
        claim_namespace: "n".to_owned(),
        claim_resources: vec![resource("a", &["v/c=a"], None), resource("b", &["v/c=a", "v/c=b"], Some("s"))],
    };
    let side = ContainerResources { name: "side".to_owned(), ..ContainerResources::default() };
    let own = ContainerResources {
        name: "c".to_owned(),
        devices: vec![device("1", None), device("2", Some(0)), device("2", Some(1))],
        cpu_ids: vec![2, 3],
        memory: vec![memory()],
        dynamic_resources: vec![claim],
    };
    let (name, namespace) = ("u".to_owned(), "n".to_owned());
    PodResources {
        name,
        namespace,
        containers: vec![side, own],
        cpu_ids: vec![1, 2, 3],
        memory: vec![memory()],
    }
}

fn memory() -> ContainerMemory {
    let topology = Some(TopologyInfo { nodes: vec![NumaNode { id: 0 }, NumaNode { id: 1 }] });
    ContainerMemory { memory_type: "memory".to_owned(), size: 7, topology }
}

#[tokio::test]
async fn tells_what_containers_have() {
    let (_dir, node, channel) = start(true);
    let mut client = PodResourcesListerClient::new(channel.clone());
    let all = client.list(ListPodResourcesRequest {}).await.unwrap().into_inner().pod_resources;
    assert_eq!((all, *node.0.lock()), (vec![expected()], 1));
    let get =
        |name: &str| GetPodResourcesRequest { pod_name: name.to_owned(), pod_namespace: "n".to_owned() };
    assert_eq!(client.get(get("u")).await.unwrap().into_inner().pod_resources, Some(expected()));
    let over = client.get(get("over")).await.unwrap_err();
    assert_eq!((over.code(), over.message()), (tonic::Code::Unknown, "pod over in namespace n not found"));
    let can = client.get_allocatable_resources(AllocatableResourcesRequest {}).await.unwrap().into_inner();
    let expected = AllocatableResourcesResponse {
        devices: vec![device("1", None)],
        cpu_ids: vec![1, 2, 3],
        memory: vec![memory()],
    };
    assert_eq!(can, expected);
    let mut client = OldClient::new(channel);
    let all = client.list(old::ListPodResourcesRequest {}).await.unwrap().into_inner().pod_resources;
    let devices: Vec<_> = all[0].containers[0].devices.iter().map(|d| d.device_ids.join(",")).collect();
    assert_eq!((all.len(), all[0].containers.len(), devices.join(" ")), (2, 1, "1 2 2".to_owned()));
}

#[tokio::test]
async fn who_asks_too_often_is_turned_away() {
    let (_dir, _node, channel) = start(false);
    let client = PodResourcesListerClient::new(channel);
    let asks = (0..50).map(|_| {
        let mut client = client.clone();
        async move { client.list(ListPodResourcesRequest {}).await }
    });
    let (good, bad): (Vec<_>, Vec<_>) =
        futures::future::join_all(asks).await.into_iter().partition(Result::is_ok);
    let refused = bad.into_iter().next().unwrap().unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (tonic::Code::ResourceExhausted, "rejected by rate limit")
    );
    let served = good.into_iter().next().unwrap().unwrap().into_inner();
    assert_eq!(served.pod_resources.len(), 2, "pods that are over are shown too");
}
