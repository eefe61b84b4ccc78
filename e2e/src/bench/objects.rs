//! What pods need to be there besides nodes: volumes with their claims, devices with theirs.

use anyhow::Result;
use client::{Client, Object};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use k8s_openapi::api::storage::v1::CSINode;
use serde_json::{Value, json};

use bench::{at_once, object};

/// Name of the driver of volumes, of devices, and of the class of devices.
const DRIVER: &str = "bench.example.com";
/// Devices of a node.
const DEVICES: usize = 8;

/// Makes an object, or finds it made by an earlier case.
async fn make<K: Object>(api: client::Api<K>, value: Value) -> Result<()> {
    match api.create(&object::<K>(value)?).await {
        Err(e) if !e.is_already_exists() => Err(e.into()),
        _ => Ok(()),
    }
}

/// A bound claim and its volume for every pod, as the volume controller leaves them.
pub async fn volumes(client: &Client, namespace: &str, count: usize) -> Result<()> {
    let made = (0..count).map(|i| {
        let volumes = client.all::<PersistentVolume>();
        let claims = client.namespaced::<PersistentVolumeClaim>(namespace);
        let (name, namespace) = (format!("pod-{i}"), namespace.to_string());
        async move {
            let volume = format!("{namespace}-{name}");
            let sizes = json!({ "storage": "1Gi" });
            let claim = json!({
                "metadata": { "name": name, "annotations": { "pv.kubernetes.io/bind-completed": "yes" } },
                "spec": {
                    "accessModes": ["ReadWriteOnce"], "volumeName": volume, "storageClassName": "",
                    "resources": { "requests": sizes },
                },
            });
            let claim = claims.create(&object(claim)?).await?;
            let volume = json!({
                "metadata": { "name": volume },
                "spec": {
                    "accessModes": ["ReadWriteOnce"], "capacity": sizes, "persistentVolumeReclaimPolicy": "Retain",
                    "csi": { "driver": DRIVER, "volumeHandle": volume },
                    "claimRef": { "kind": "PersistentVolumeClaim", "namespace": namespace, "name": name, "uid": claim.metadata.uid },
                },
            });
            volumes.create(&object(volume)?).await?;
            anyhow::Ok(())
        }
    });
    at_once(made).await?;
    let nodes = client.all::<Node>().list(&client::ListParams::default()).await?.items;
    at_once(nodes.into_iter().map(|node| {
        let api = client.all::<CSINode>();
        let driver = json!({ "name": DRIVER, "nodeID": node.metadata.name, "allocatable": { "count": 39 } });
        let made = json!({ "metadata": { "name": node.metadata.name }, "spec": { "drivers": [driver] } });
        make(api, made)
    }))
    .await
}

/// A claim for a device for every pod, and devices on every node.
pub async fn device_claims(client: &Client, namespace: &str, nodes: usize, count: usize) -> Result<()> {
    let model = json!({ "cel": { "expression": format!("device.driver == {DRIVER:?} && device.attributes[{DRIVER:?}].model == 'a'") } });
    let class = json!({ "metadata": { "name": DRIVER }, "spec": { "selectors": [model] } });
    make(client.all::<DeviceClass>(), class).await?;
    at_once((0..nodes).map(|i| {
        let node = format!("node-{i:05}");
        let devices: Vec<Value> = (0..DEVICES)
            .map(|d| json!({ "name": format!("device-{d}"), "attributes": { "model": { "string": "a" } } }))
            .collect();
        let slice = json!({ "metadata": { "name": node }, "spec": {
            "driver": DRIVER, "nodeName": node, "devices": devices,
            "pool": { "name": node, "generation": 1, "resourceSliceCount": 1 },
        } });
        make(client.all::<ResourceSlice>(), slice)
    }))
    .await?;
    at_once((0..count).map(|i| {
        let request = json!({ "name": "d", "exactly": { "deviceClassName": DRIVER } });
        let claim = json!({ "metadata": { "name": format!("pod-{i}") }, "spec": { "devices": { "requests": [request] } } });
        make(client.namespaced::<ResourceClaim>(namespace), claim)
    }))
    .await
}
