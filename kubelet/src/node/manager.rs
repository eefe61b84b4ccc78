//! Registers the node and keeps its status fresh. Upstream: pkg/kubelet/kubelet_node_status.go, v1.37.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use client::{Client, Patch, PatchParams};
use component::features::{Gate, enabled};
use cri::v1;
use k8s_openapi::api::core::v1::{ContainerImage, Node, NodeSpec, NodeStatus, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::jiff::Timestamp;
use parking_lot::RwLock;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::events;
use super::health::RuntimeHealth;
use super::machine::{Machine, disk, in_user_namespace};
use super::resources::{self, Amounts};
use super::status::{Inputs, binary, cpus, differs, go_arch, node_status, patch};
use crate::config::Settings;
use crate::events::Events;
use crate::eviction::Signal;
use crate::kubelet::Kubelet;

/// Annotation with addresses for an external cloud provider.
const PROVIDED_IPS: &str = "alpha.kubernetes.io/provided-node-ip";
/// Annotation of nodes whose volumes the controller manager attaches.
const MANAGED: &str = "volumes.kubernetes.io/controller-managed-attach-detach";

/// Keeps the node's object up to date.
pub struct NodeManager {
    pub kubelet: Arc<Kubelet>,
    pub client: Client,
    pub settings: Settings,
    pub machine: Machine,
    pub hostname: String,
    pub runtime_version: String,
    pub version: &'static str,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub root: PathBuf,
    pub health: Arc<RwLock<RuntimeHealth>>,
    pub events: Events,
    /// True with `--cloud-provider=external`.
    pub external_cloud: bool,
    /// Addresses that the administrator gave, unspecified ones included.
    pub given_ips: Vec<String>,
    /// Addresses of pods that the runtime was last told.
    pub pod_cidrs: RwLock<String>,
    /// Something changed that the API server should know at once.
    pub wake: Arc<Notify>,
    /// What was last told of.
    pub told: Told,
}

/// What events were written of, so that they are written once.
#[derive(Default)]
pub struct Told {
    unschedulable: AtomicBool,
    rebooted: AtomicBool,
}

impl NodeManager {
    /// What the node has, and what of it pods may have.
    fn resources(&self) -> (Amounts, Amounts) {
        let storage = disk(&self.root).unwrap_or_default().capacity;
        let (mut capacity, mut given) = own_resources(&self.settings, &self.machine, storage);
        let devices = self.kubelet.runtime.devices.capacity(Instant::now());
        resources::add_devices(&devices, &mut capacity, &mut given);
        (capacity, given)
    }

    async fn images(&self) -> Vec<ContainerImage> {
        let answer = self.kubelet.runtime.cri.list_images(v1::ListImagesRequest::default()).await;
        let mut images = answer.map(|a| a.images).unwrap_or_default();
        images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
        let limit = usize::try_from(self.settings.node_status_max_images).unwrap_or(usize::MAX);
        images
            .into_iter()
            .take(limit)
            .map(|image| {
                // At most five names of an image, as upstream.
                let names = image.repo_digests.into_iter().chain(image.repo_tags).take(5).collect();
                ContainerImage { names: Some(names), size_bytes: i64::try_from(image.size).ok() }
            })
            .collect()
    }

    async fn status(&self, old: &NodeStatus) -> NodeStatus {
        let (capacity, allocatable) = self.resources();
        let mut health = self.health.read().clone();
        if self.kubelet.shutdown.as_ref().is_some_and(|shutdown| shutdown.is_down()) {
            health.errors.push("node is shutting down".to_owned());
        }
        let images = self.images().await;
        let ips = self.kubelet.node.host_ips.read().clone();
        let pressure = *self.kubelet.node.pressure.read();
        node_status(
            Inputs {
                machine: &self.machine,
                hostname: &self.hostname,
                external_cloud: self.external_cloud,
                given: !self.given_ips.is_empty(),
                ips: &ips,
                capacity,
                allocatable,
                runtime: &self.runtime_version,
                version: self.version,
                port: self.settings.port,
                images,
                handlers: health.handlers,
                supplemental_groups_policy: health.supplemental_groups_policy,
                in_user_namespace: enabled(Gate::KubeletInUserNamespace).then(in_user_namespace),
                declared_features: self.kubelet.node.declared(),
                not_ready: &health.errors,
                pressure,
                now: Timestamp::now(),
            },
            old,
        )
    }

    fn own_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        for (key, value) in [
            ("kubernetes.io/hostname", self.hostname.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", go_arch()),
            ("beta.kubernetes.io/os", "linux"),
            ("beta.kubernetes.io/arch", go_arch()),
        ] {
            labels.insert(key.to_owned(), value.to_owned());
        }
        labels
    }

    /// What an external cloud provider is told about the node's addresses.
    fn provided_ips(&self) -> Option<String> {
        let specified = |ip: &&String| !matches!(ip.as_str(), "" | "0.0.0.0" | "::");
        let ips: Vec<&str> = self.given_ips.iter().filter(specified).map(String::as_str).collect();
        (self.external_cloud && !ips.is_empty()).then(|| ips.join(","))
    }

    /// Annotations that are the kubelet's; none is there where it says nothing.
    fn own_annotations(&self) -> [(&'static str, Option<String>); 2] {
        let managed = self.settings.enable_controller_attach_detach.then(|| "true".to_owned());
        [(MANAGED, managed), (PROVIDED_IPS, self.provided_ips())]
    }

    async fn fresh(&self) -> Node {
        let mut node = Node::default();
        node.metadata.name = Some(self.kubelet.node.name.clone());
        node.metadata.labels = Some(self.own_labels());
        let annotations = self.own_annotations().into_iter();
        let annotations: BTreeMap<_, _> =
            annotations.filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        node.metadata.annotations = Some(annotations).filter(|all| !all.is_empty());
        let mut taints = self.taints.clone();
        if self.external_cloud {
            // Nothing runs here before the cloud provider has looked at the node.
            taints.push(Taint {
                key: "node.cloudprovider.kubernetes.io/uninitialized".to_owned(),
                value: Some("true".to_owned()),
                effect: "NoSchedule".to_owned(),
                ..Taint::default()
            });
        }
        node.spec = Some(NodeSpec {
            taints: (!taints.is_empty()).then_some(taints),
            provider_id: Some(self.settings.provider_id.clone()).filter(|id| !id.is_empty()),
            ..NodeSpec::default()
        });
        node.status = Some(self.status(&NodeStatus::default()).await);
        node
    }

    /// Makes the node known, or brings the labels of a known one up to date.
    async fn register(&self) -> client::Result<()> {
        let api = self.client.all::<Node>();
        let name = &self.kubelet.node.name;
        let Some(known) = api.get_opt(name).await? else {
            let fresh = self.fresh().await;
            return match api.create(&fresh).await {
                Ok(_) => {
                    self.tell_changes(&NodeStatus::default(), &fresh.status.unwrap_or_default());
                    Ok(())
                }
                Err(error) if error.is_already_exists() => Ok(()),
                Err(error) => Err(error),
            };
        };
        let labels = known.metadata.labels.unwrap_or_default();
        let wanted = self.own_labels();
        let changed: BTreeMap<_, _> = wanted.iter().filter(|(k, v)| labels.get(*k) != Some(*v)).collect();
        let annotations = known.metadata.annotations.unwrap_or_default();
        let annotated = annotation_changes(&annotations, self.own_annotations());
        if let Some(managed) = annotated.get(MANAGED) {
            let setting = managed.is_some();
            tracing::info!("Controller attach-detach setting changed to {setting}; updating existing Node");
        }
        if !changed.is_empty() || !annotated.is_empty() {
            let metadata = json!({"labels": changed, "annotations": annotated});
            let change = Patch::Strategic(json!({"metadata": metadata}));
            api.patch(name, &change, &PatchParams::default()).await?;
        }
        let old = known.status.unwrap_or_default();
        // Without the device manager's checkpoint the node is taken for a new one: ShouldResetExtendedResourceCapacity in
        // pkg/kubelet/cm/devicemanager/manager.go.
        let forgotten = !self.kubelet.runtime.devices.has_file();
        if let Some(new) = resources::at_start(&old, &self.resources().0, forgotten) {
            let change = Patch::Strategic(patch(&old, &new));
            api.patch_status(name, &change, &PatchParams::default()).await?;
        }
        Ok(())
    }

    /// Registers, as often as it takes; false if the process ends first.
    async fn register_until(&self, stop: &CancellationToken) -> bool {
        let mut pause = Duration::from_millis(100);
        loop {
            match self.register().await {
                Ok(()) => return true,
                Err(error) => {
                    let node = &self.kubelet.node.name;
                    tracing::error!(node, err = %error, "Unable to register node with API server");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(pause) => {}
            }
            pause = pause.saturating_mul(2).min(Duration::from_secs(7));
        }
    }

    /// Registers, then reports until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        if self.settings.register_node && !self.register_until(&stop).await {
            return;
        }
        tracing::info!(node = self.kubelet.node.name, "Successfully registered node");
        self.events.node(&self.kubelet.node.name, false, "Starting", "Starting kubelet.");
        let mut reported: Option<Instant> = None;
        loop {
            match self.report(reported).await {
                Ok(true) => reported = Some(Instant::now()),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "Unable to update node status"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.settings.node_status_update_frequency.to_std()) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// Tells the runtime's network which addresses pods get. Upstream: updatePodCIDR.
    async fn tell_pod_cidrs(&self, spec: Option<&NodeSpec>) {
        let cidrs = spec.and_then(|s| s.pod_cidrs.clone()).unwrap_or_default().join(",");
        if cidrs.is_empty() || *self.pod_cidrs.read() == cidrs {
            return;
        }
        match update_pod_cidr(&self.kubelet.runtime.cri, &cidrs).await {
            Ok(()) => *self.pod_cidrs.write() = cidrs,
            Err(error) => tracing::error!(cidrs, %error, "Failed to update pod CIDR"),
        }
    }

    /// Puts the labels right that say what runs here, should somebody have changed them. Upstream: updateNode.
    async fn keep_platform(&self, known: Option<&BTreeMap<String, String>>) -> client::Result<()> {
        let changed = platform_changes(known);
        if changed.is_empty() {
            return Ok(());
        }
        let change = Patch::Strategic(json!({"metadata": {"labels": changed}}));
        self.client.all::<Node>().patch(&self.kubelet.node.name, &change, &PatchParams::default()).await?;
        Ok(())
    }

    /// Sends the status if it changed or the last report is old; true if it was sent.
    async fn report(&self, last: Option<Instant>) -> client::Result<bool> {
        let api = self.client.all::<Node>();
        let name = &self.kubelet.node.name;
        let node = match api.get(name).await {
            Err(error) if error.is_not_found() && self.settings.register_node => {
                // Somebody deleted the node while it lives.
                self.register().await?;
                api.get(name).await?
            }
            other => other?,
        };
        self.tell_pod_cidrs(node.spec.as_ref()).await;
        if let Some(uid) = &node.metadata.uid {
            self.events.know_node(uid);
        }
        self.tell_schedulable(node.spec.as_ref());
        self.keep_platform(node.metadata.labels.as_ref()).await?;
        let old = node.status.unwrap_or_default();
        let new = self.status(&old).await;
        let old_enough =
            last.is_none_or(|at| at.elapsed() >= self.settings.node_status_report_frequency.to_std());
        if !old_enough && !differs(&old, &new) {
            return Ok(false);
        }
        let change = Patch::Strategic(patch(&old, &new));
        api.patch_status(name, &change, &PatchParams::default()).await?;
        self.tell_changes(&old, &new);
        Ok(true)
    }

    /// Events about a status that the API server has taken.
    fn tell_changes(&self, old: &NodeStatus, new: &NodeStatus) {
        let name = &self.kubelet.node.name;
        if let Some(message) = events::reboot(name, old, new)
            && !self.told.rebooted.swap(true, Ordering::Relaxed)
        {
            self.events.node(name, true, "Rebooted", &message);
        }
        for reason in events::reasons(old, new) {
            tracing::info!(node = name, event = reason, "Recording event message for node");
            self.events.node(name, false, reason, &events::text(name, reason));
        }
    }

    /// An event if an administrator has closed the node to new pods, or opened it again.
    fn tell_schedulable(&self, spec: Option<&NodeSpec>) {
        let closed = spec.and_then(|spec| spec.unschedulable).unwrap_or_default();
        if self.told.unschedulable.swap(closed, Ordering::Relaxed) != closed {
            let reason = if closed { "NodeNotSchedulable" } else { "NodeSchedulable" };
            let name = &self.kubelet.node.name;
            self.events.node(name, false, reason, &events::text(name, reason));
        }
    }
}

/// Labels of a known node that are to say what system and processor it has, and do not.
fn platform_changes(known: Option<&BTreeMap<String, String>>) -> BTreeMap<&'static str, &'static str> {
    let wanted = [("kubernetes.io/os", "linux"), ("kubernetes.io/arch", go_arch())];
    let is = |key: &str| known.and_then(|labels| labels.get(key)).map(String::as_str);
    wanted.into_iter().filter(|(key, value)| is(key) != Some(*value)).collect()
}

/// What has to be said about a known node's annotations. Nothing (null in a patch) removes what an earlier configuration
/// said. Upstream: reconcileCMADAnnotationWithExistingNode.
fn annotation_changes(
    known: &BTreeMap<String, String>,
    wanted: [(&'static str, Option<String>); 2],
) -> BTreeMap<&'static str, Option<String>> {
    let differs = |(key, value): &(&'static str, Option<String>)| {
        known.get(*key).map_or("", String::as_str) != value.as_deref().unwrap_or_default()
    };
    wanted.into_iter().filter(differs).collect()
}

/// Tells the runtime's network which addresses pods get.
///
/// # Errors
/// If the runtime refuses.
pub async fn update_pod_cidr(cri: &cri::Client, cidrs: &str) -> cri::Result<()> {
    let network = v1::NetworkConfig { pod_cidr: cidrs.to_owned() };
    let config = v1::RuntimeConfig { network_config: Some(network) };
    cri.update_runtime_config(v1::UpdateRuntimeConfigRequest { runtime_config: Some(config) }).await?;
    tracing::info!(cidrs, "Updating Pod CIDR");
    Ok(())
}

/// What the machine has, and what of it pods may have; `storage` is the size of the kubelet's file system.
fn own_resources(settings: &Settings, machine: &Machine, storage: i64) -> (Amounts, Amounts) {
    let mut pods = settings.max_pods;
    if settings.pods_per_core > 0 {
        pods = pods.min(settings.pods_per_core.saturating_mul(machine.cpus));
    }
    let allocatable = allocatable(settings, machine, storage);
    let mut capacity = Amounts::from([
        ("cpu".to_owned(), cpus(machine.cpus.saturating_mul(1000))),
        ("memory".to_owned(), binary(machine.memory)),
        ("pods".to_owned(), Quantity(pods.to_string())),
    ]);
    let mut given = Amounts::from([
        ("cpu".to_owned(), cpus(allocatable.cpu_milli)),
        ("pods".to_owned(), Quantity(pods.to_string())),
    ]);
    if settings.local_storage_capacity_isolation {
        let name = "ephemeral-storage".to_owned();
        // Upstream writes this one without powers of 1024: EphemeralStorageCapacityFromFsInfo.
        capacity.insert(name.clone(), Quantity(decimal(storage)));
        given.insert(name, Quantity(allocatable.ephemeral_storage.to_string()));
    }
    // What is set aside for huge pages is no memory for others. Upstream: MachineInfo in setters.go.
    let huge: i64 = machine.huge_pages.iter().map(|(_, bytes)| bytes).sum();
    given.insert("memory".to_owned(), binary(allocatable.memory.saturating_sub(huge).max(0)));
    for (size, bytes) in &machine.huge_pages {
        let name = format!("hugepages-{}", binary(i64::try_from(*size).unwrap_or_default()).0);
        capacity.insert(name.clone(), binary(*bytes));
        given.insert(name, binary(*bytes));
    }
    (capacity, given)
}

/// A number in its canonical form with powers of 1000.
fn decimal(number: i64) -> String {
    machinery::quantity::Quantity::new(number, machinery::quantity::Format::DecimalSI).to_string()
}

/// What of the machine pods may have: all, less what is reserved and what evictions keep free.
pub fn allocatable(
    settings: &Settings,
    machine: &Machine,
    storage: i64,
) -> crate::container::downward::NodeAllocatable {
    let memory = machine.memory
        - settings.reserved_milli("memory") / 1000
        - settings.kept_free(Signal::Memory, machine.memory);
    let disk = if settings.local_storage_capacity_isolation { storage } else { 0 };
    let disk = disk
        - settings.reserved_milli("ephemeral-storage") / 1000
        - settings.kept_free(Signal::NodeSpace, storage);
    crate::container::downward::NodeAllocatable {
        cpu_milli: (machine.cpus.saturating_mul(1000) - settings.reserved_milli("cpu")).max(0),
        memory: memory.max(0),
        ephemeral_storage: disk.max(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_is_counted_if_wanted() {
        let machine = Machine { cpus: 2, memory: 8 << 30, ..Machine::default() };
        let of = |isolation: bool| {
            let settings = json!({
                "localStorageCapacityIsolation": isolation, "maxPods": 110,
                "systemReserved": {"ephemeral-storage": "1Gi"}});
            let settings: Settings = serde_json::from_value(settings).unwrap();
            let (capacity, given) = own_resources(&settings, &machine, 10 << 30);
            let names: Vec<_> = capacity.keys().chain(given.keys()).cloned().collect();
            (names.join(" "), allocatable(&settings, &machine, 10 << 30).ephemeral_storage)
        };
        let names = "cpu ephemeral-storage memory pods cpu ephemeral-storage memory pods";
        assert_eq!(of(true), (names.to_owned(), 9 << 30));
        assert_eq!(of(false), ("cpu memory pods cpu memory pods".to_owned(), 0));
    }

    #[test]
    fn the_platform_is_put_right() {
        let labels = |os: &str| {
            BTreeMap::from([
                ("kubernetes.io/os".to_owned(), os.to_owned()),
                ("kubernetes.io/arch".to_owned(), go_arch().to_owned()),
            ])
        };
        assert!(platform_changes(Some(&labels("linux"))).is_empty());
        assert_eq!(platform_changes(Some(&labels("dummy"))), [("kubernetes.io/os", "linux")].into());
        assert_eq!(platform_changes(None).len(), 2);
    }

    #[test]
    fn annotations_follow_the_configuration() {
        let known = |managed: &str| BTreeMap::from([(MANAGED.to_owned(), managed.to_owned())]);
        let wanted = |managed: bool| [(MANAGED, managed.then(|| "true".to_owned())), (PROVIDED_IPS, None)];
        let check = |known: &BTreeMap<String, String>, managed| {
            annotation_changes(known, wanted(managed)).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(check(&known("true"), true), []);
        assert_eq!(check(&BTreeMap::new(), false), []);
        assert_eq!(check(&BTreeMap::new(), true), [(MANAGED, Some("true".to_owned()))]);
        assert_eq!(check(&known("true"), false), [(MANAGED, None)]);
        assert_eq!(check(&known("false"), true), [(MANAGED, Some("true".to_owned()))]);
        // Annotations of others stay.
        let others = BTreeMap::from([("other".to_owned(), "x".to_owned())]);
        assert_eq!(check(&others, false), []);
    }
}
