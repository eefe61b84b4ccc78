//! Server-side printing: objects as rows of a `Table`.
//!
//! [`columns`] are facts, cells are made per kind in the other submodules; kinds without their own get Name and
//! Created At. Upstream: `pkg/printers/internalversion/printers.go`, `apiserver/pkg/registry/rest/table.go`.
mod columns;
mod coming;
mod core;
mod custom;
#[cfg(test)]
mod oracle;
mod others;
mod pods;
mod view;
mod workloads;

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use machinery::Value;
use registry::api::{self, Format, Gvk, List, ObjectRef};
use registry::errors::ApiError;
use serde_json::Value as Cell;

use crate::web::query::Query;
use columns::Column;
use view::View;

/// What a row carries besides its cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Include {
    /// `PartialObjectMetadata`
    Metadata,
    /// The object
    Object,
    /// Nothing
    None,
}

/// `TableOptions`.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) include: Include,
    pub(crate) no_headers: bool,
}

impl Options {
    /// Decodes and validates `includeObject`.
    pub(crate) fn from_query(query: &Query) -> Result<Self, ApiError> {
        let include = match query.get("includeObject").unwrap_or_default() {
            "" | "Metadata" => Include::Metadata,
            "Object" => Include::Object,
            "None" => Include::None,
            other => {
                let why = format!(
                    "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: \
                     must be 'Metadata', 'Object', 'None', or empty"
                );
                return Err(ApiError::bad_request(why));
            }
        };
        Ok(Self { include, no_headers: false })
    }
}

/// Renders objects of one kind as a `Table` document, all at one time.
pub(crate) struct Renderer {
    version: String,
    kind: String,
    options: Options,
    columns: &'static [Column],
    custom: Option<custom::Columns>,
    /// The name of the default storage class, in lists.
    default: Option<String>,
    now: Timestamp,
}

impl Renderer {
    /// A renderer of objects of a kind; custom resources bring their columns.
    pub(crate) fn new(version: &str, options: Options, gvk: &Gvk, custom: Option<api::Columns>) -> Self {
        let columns = columns::of(&gvk.api_version(), &gvk.kind);
        let custom = custom.as_ref().map(custom::Columns::new);
        let (version, kind) = (version.to_owned(), gvk.kind.clone());
        Self { version, kind, options, columns, custom, default: None, now: Timestamp::now() }
    }

    /// Everything before the first row of a list.
    pub(crate) fn head(&self, list: &List) -> String {
        self.start(&crate::resource::list_meta(list))
    }

    fn start(&self, meta: &str) -> String {
        let mut out = String::with_capacity(2048);
        let version = &self.version;
        out.push_str(&format!(
            "{{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/{version}\",\"metadata\":{meta},\"columnDefinitions\":"
        ));
        if self.options.no_headers {
            out.push_str("null")
        } else {
            match &self.custom {
                Some(custom) => out.push_str(&custom.definitions()),
                None => push_columns(&mut out, self.columns),
            }
        }
        out.push_str(",\"rows\":[");
        out
    }

    /// Appends one row.
    pub(crate) fn row(&self, object: &ObjectRef, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let tree = printed(object)?;
        let view = View { tree: &tree, now: self.now };
        let cells = match &self.custom {
            Some(custom) => custom.cells(&view),
            None => cells(object.gvk().kind.as_str(), &view, self.default.as_deref()),
        };
        let completed = match &self.custom {
            None if object.gvk().kind == "Pod" => pods::completed(&view),
            _ => None,
        };
        push_row(out, &self.version, &self.options, object, &cells, completed)
    }

    /// The whole table where kinds without a printer of their own have no rows at all; `None` for all others.
    pub(crate) fn without_rows(&self, list: &List) -> Option<Bytes> {
        let unprinted = matches!(self.kind.as_str(), "CSIStorageCapacity" | "CustomResourceDefinition");
        let head = (list.items.is_empty() && unprinted).then(|| self.head(list))?;
        head.strip_suffix('[').map(|head| format!("{head}null}}").into())
    }

    /// Puts the objects into the order of the rows, and learns what rows of a list say of the others: flow schemas are
    /// shown in the order in which they are tried, one storage class is the default.
    pub(crate) fn order(&mut self, objects: &mut [ObjectRef]) {
        match self.kind.as_str() {
            "FlowSchema" => objects.sort_by_key(|o| {
                let precedence = o.value().ok().and_then(|v| v.i64_at(&["spec", "matchingPrecedence"]));
                (precedence, o.name().to_owned())
            }),
            "StorageClass" => {
                let trees: Vec<_> = objects.iter().filter_map(|o| o.value().ok()).collect();
                self.default = default_storage_class(trees.iter().map(|tree| &**tree), self.now);
            }
            _ => {}
        }
    }

    /// The table of a single object.
    pub(crate) fn one(&self, object: &ObjectRef) -> Result<Bytes, ApiError> {
        let meta = format!("{{\"resourceVersion\":{:?}}}", object.resource_version());
        let mut out = self.start(&meta).into_bytes();
        self.row(object, &mut out)?;
        out.extend_from_slice(b"]}");
        Ok(out.into())
    }
}

/// The object in the version that is shown: upstream shows its internal one, which is another for old autoscalers.
fn printed(object: &ObjectRef) -> Result<Arc<Value>, ApiError> {
    let (tree, gvk) = (object.value()?, object.gvk());
    if gvk.kind != "HorizontalPodAutoscaler" {
        return Ok(tree);
    }
    let row = ::api::resources::resource_for_kind(&gvk.group, &gvk.version, &gvk.kind);
    let Some(row) = row else { return Ok(tree) };
    let mut tree = Value::clone(&tree);
    registry::conversion::to_hub(&mut tree, row.kind)?;
    Ok(Arc::new(tree))
}

/// The newest class that says it is the default; of two, the first by name (`getEffectiveDefaultStorageClass`).
fn default_storage_class<'a>(trees: impl Iterator<Item = &'a Value>, now: Timestamp) -> Option<String> {
    let views = trees.map(|tree| View { tree, now }).filter(others::is_default_storage_class);
    let newest = views.min_by_key(|o| (std::cmp::Reverse(o.time("metadata.creationTimestamp")), o.name()));
    newest.map(|o| o.name().to_owned())
}

fn json(text: &str) -> String {
    Cell::from(text).to_string()
}

fn push_columns(out: &mut String, columns: &[Column]) {
    let one = |c: &Column| {
        format!(
            "{{\"name\":{},\"type\":{},\"format\":{},\"description\":\"\",\"priority\":{}}}",
            json(c.name),
            json(c.kind),
            json(c.format),
            c.priority
        )
    };
    let all: Vec<String> = columns.iter().map(one).collect();
    out.push_str(&format!("[{}]", all.join(",")));
}

fn push_row(
    out: &mut Vec<u8>,
    version: &str,
    options: &Options,
    object: &ObjectRef,
    cells: &[Cell],
    completed: Option<(&str, &str)>,
) -> Result<(), ApiError> {
    out.extend_from_slice(b"{\"cells\":[");
    for (index, cell) in cells.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, cell).map_err(ApiError::internal)?;
    }
    out.extend_from_slice(b"],");
    if let Some((reason, message)) = completed {
        let condition = format!(
            "\"conditions\":[{{\"type\":\"Completed\",\"status\":\"True\",\"reason\":{reason:?},\"message\":{message:?}}}],"
        );
        out.extend_from_slice(condition.as_bytes());
    }
    out.extend_from_slice(b"\"object\":");
    match options.include {
        Include::None => out.extend_from_slice(b"null"),
        Include::Object => out.extend_from_slice(&object.encode(Format::Json)?),
        Include::Metadata => out.extend_from_slice(&crate::resource::partial_json(object, version)?),
    }
    out.push(b'}');
    Ok(())
}

/// Name, one or more texts, age.
fn simple(o: &View<'_>, paths: &[&str]) -> Vec<Cell> {
    let texts = paths.iter().map(|p| o.text(p).into());
    std::iter::once(o.name().into()).chain(texts).chain([o.age().into()]).collect()
}

fn counted(o: &View<'_>, count: i64) -> Vec<Cell> {
    vec![o.name().into(), count.into(), o.age().into()]
}

fn cells(kind: &str, o: &View<'_>, default: Option<&str>) -> Vec<Cell> {
    match kind {
        "Pod" => pods::cells(o),
        "ComponentStatus" => core::component_status(o),
        "ConfigMap" => counted(o, o.size("data") + o.size("binaryData")),
        "Endpoints" => core::endpoints(o),
        "Event" => core::event(o),
        "Namespace" => simple(o, &["status.phase"]),
        "Node" => core::node(o),
        "PersistentVolumeClaim" => core::claim(o),
        "PersistentVolume" => core::volume(o),
        "PodTemplate" => {
            let [names, images] = o.containers("template.spec.containers");
            vec![o.name().into(), names, images, o.labels("template.metadata.labels").into()]
        }
        "ReplicationController" | "ReplicaSet" => workloads::replicas(o),
        "ResourceQuota" => core::quota(o),
        "Secret" => vec![o.name().into(), o.text("type").into(), o.size("data").into(), o.age().into()],
        "ServiceAccount" | "DeviceClass" | "ResourceClaimTemplate" | "Workload" => simple(o, &[]),
        "Service" => core::service(o),
        "APIService" => others::api_service(o),
        "ControllerRevision" => workloads::controller_revision(o),
        "DaemonSet" => workloads::daemon_set(o),
        "Deployment" => workloads::deployment(o),
        "StatefulSet" => workloads::stateful_set(o),
        "HorizontalPodAutoscaler" => workloads::autoscaler(o),
        "CronJob" => workloads::cron_job(o),
        "Job" => workloads::job(o),
        "CertificateSigningRequest" => others::signing_request(o),
        "ClusterTrustBundle" => vec![o.name().into(), o.text_or("spec.signerName", "<none>").into()],
        "PodCertificateRequest" => others::pod_certificate(o),
        "IngressClass" => others::ingress_class(o),
        "Ingress" => others::ingress(o),
        "IPAddress" => others::ip_address(o),
        "NetworkPolicy" => others::network_policy(o),
        "ServiceCIDR" => others::service_cidr(o),
        "PodDisruptionBudget" => workloads::disruption_budget(o),
        "ClusterRoleBinding" | "RoleBinding" => others::binding(o),
        "CSIDriver" => others::csi_driver(o),
        "CSINode" => counted(o, o.count("spec.drivers")),
        "StorageClass" => others::storage_class(o, default),
        "VolumeAttachment" => others::attachment(o),
        "VolumeAttributesClass" => simple(o, &["driverName"]),
        "MutatingAdmissionPolicy" => others::policy(o, "spec.mutations"),
        "ValidatingAdmissionPolicy" => others::policy(o, "spec.validations"),
        "MutatingAdmissionPolicyBinding" | "ValidatingAdmissionPolicyBinding" => others::policy_binding(o),
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => counted(o, o.count("webhooks")),
        "CustomResourceDefinition" => others::custom_resource_definition(o),
        "PriorityClass" => {
            let policy = o.text("preemptionPolicy");
            let default = o.flag("globalDefault");
            vec![o.name().into(), o.int("value").into(), default.into(), o.age().into(), policy.into()]
        }
        "Lease" => simple(o, &["spec.holderIdentity"]),
        "RuntimeClass" => simple(o, &["handler"]),
        "EndpointSlice" => core::endpoint_slice(o),
        "DeviceTaintRule" => others::taint_rule(o),
        "ResourceClaim" => others::resource_claim(o),
        "ResourceSlice" => simple(o, &["spec.nodeName", "spec.driver", "spec.pool.name"]),
        "FlowSchema" => others::flow_schema(o),
        "PriorityLevelConfiguration" => others::priority_level(o),
        "StorageVersionMigration" => others::migration(o),
        "Scale" => vec![
            o.name().into(),
            o.int("spec.replicas").into(),
            o.int("status.replicas").into(),
            o.age().into(),
        ],
        "LeaseCandidate" => coming::lease_candidate(o),
        "StorageVersion" => coming::storage_version(o),
        "PodGroup" => coming::pod_group(o),
        "CompositePodGroup" => coming::composite_pod_group(o),
        "ResourcePoolStatusRequest" => coming::pool_status_request(o),
        "EvictionRequest" => coming::eviction_request(o),
        "Eviction" => coming::eviction(o),
        _ => vec![o.name().into(), o.created().into()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(object: serde_json::Value) -> Vec<Cell> {
        let tree = machinery::value::to_value(&object).unwrap();
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        cells(object["kind"].as_str().unwrap(), &View { tree: &tree, now }, None)
    }

    #[test]
    fn every_kind_fills_its_columns() {
        for line in include_str!("../../data/table-columns.txt").lines() {
            let (api_version, rest) = line.split_once(' ').unwrap();
            let kind = rest.split('\t').next().unwrap();
            let object =
                serde_json::json!({"kind": kind, "apiVersion": api_version, "metadata": {"name": "x"}});
            // Upstream shows the age of addresses without a column for it.
            let more = usize::from(kind == "IPAddress");
            assert_eq!(of(object).len(), columns::of(api_version, kind).len() + more, "{line}");
        }
    }

    #[test]
    fn one_storage_class_is_the_default() {
        let class = |name: &str, created: &str, annotation: &str| {
            let annotations = serde_json::json!({annotation: "true"});
            let metadata =
                serde_json::json!({"name": name, "creationTimestamp": created, "annotations": annotations});
            machinery::value::to_value(&serde_json::json!({"metadata": metadata})).unwrap()
        };
        let (mark, old) = (
            "storageclass.kubernetes.io/is-default-class",
            "storageclass.beta.kubernetes.io/is-default-class",
        );
        let (first, second) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let of = |classes: &[Value]| default_storage_class(classes.iter(), Timestamp::UNIX_EPOCH);
        assert_eq!(of(&[class("a", second, "other")]), None);
        let all = [class("a", first, mark), class("c", second, mark), class("b", second, old)];
        assert_eq!(of(&all), Some("b".to_owned()));
        let object = serde_json::json!({"metadata": {"name": "b"}});
        let tree = machinery::value::to_value(&object).unwrap();
        let view = View { tree: &tree, now: Timestamp::UNIX_EPOCH };
        assert_eq!(cells("StorageClass", &view, Some("b"))[0], "b (default)");
        assert_eq!(cells("StorageClass", &view, None)[0], "b");
    }

    #[test]
    fn pod() {
        let pod = serde_json::json!({
            "kind": "Pod", "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "n", "containers": [{"name": "a"}, {"name": "b"}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "containerStatuses": [
                {"name": "a", "ready": true, "restartCount": 2, "state": {"running": {}},
                 "lastState": {"terminated": {"finishedAt": "2026-01-01T00:05:00Z"}}},
                {"name": "b", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
        });
        let want = ["p", "1/2", "CrashLoopBackOff", "2 (5m ago)", "10m", "10.0.0.1", "n", "<none>", "<none>"];
        assert_eq!(of(pod), want.map(Cell::from));
    }
}
