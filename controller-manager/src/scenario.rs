//! Scenario files: what a controller sees and what it does about it, as texts that explain a rule.
//!
//! A file in a controller's `testdata` ends in `.txt`: comments that tell the rule, the objects as YAML documents, a line
//! `====`, the decision. A document without `kind` holds settings of the case. `UPDATE_SCENARIOS=1` writes the decisions
//! anew, to be read before they are committed.

use std::path::PathBuf;

use client::Kept;
use k8s_openapi::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const LINE: &str = "\n====\n";
/// Fewer do not explain a controller.
const LEAST: usize = 5;

/// The given half of a scenario.
pub struct Given {
    documents: Vec<Value>,
}

impl Given {
    fn parse(text: &str) -> Self {
        let read = |document: &str| {
            let json = machinery::yaml::to_json(document.as_bytes()).expect("YAML");
            serde_json::from_slice(&json).expect("JSON")
        };
        Self { documents: text.split("\n---\n").map(read).filter(|v: &Value| !v.is_null()).collect() }
    }

    /// All objects of a kind, in the order of the file.
    pub fn all<K: Kept + Resource>(&self) -> Vec<K> {
        let mine = |v: &&Value| v["kind"] == K::KIND;
        self.documents
            .iter()
            .filter(mine)
            .map(|v| {
                let mut object = v.clone();
                object["apiVersion"] = K::API_VERSION.into();
                serde_json::from_value(object).expect("an object")
            })
            .collect()
    }

    /// All objects of a kind, shared.
    pub fn shared<K: Kept + Resource>(&self) -> Vec<std::sync::Arc<K>> {
        self.all().into_iter().map(std::sync::Arc::new).collect()
    }

    /// The one object of a kind.
    pub fn one<K: Kept + Resource>(&self) -> K {
        self.maybe().unwrap_or_else(|| panic!("the scenario has no {}", K::KIND))
    }

    /// The one object of a kind, if it is there.
    pub fn maybe<K: Kept + Resource>(&self) -> Option<K> {
        let mut all = self.all();
        assert!(all.len() < 2, "the scenario has more than one {}", K::KIND);
        all.pop()
    }

    /// A setting of the case.
    pub fn setting<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let settings = self.documents.iter().filter(|v| v["kind"].is_null());
        settings
            .filter_map(|v| v.get(name))
            .map(|v| serde_json::from_value(v.clone()).expect("a setting"))
            .next()
    }
}

/// YAML of anything.
pub fn yaml(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).expect("JSON");
    let value = machinery::yaml::parse(json.as_bytes()).expect("JSON is YAML");
    let mut out = String::new();
    machinery::yaml::write(&value, &mut out);
    out
}

/// The scenarios of a folder below `src/controllers`.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/controllers").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "txt"));
    files.sort();
    files
}

/// Checks all scenarios of a folder below `src/controllers`.
pub fn check(folder: &str, decide: impl Fn(&Given) -> String) {
    let files = files(folder);
    assert!(files.len() >= LEAST, "{folder} has only {} scenarios", files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a readable file");
        let (given, expected) = text.split_once(LINE).unwrap_or((text.trim_end(), ""));
        assert!(given.starts_with("# "), "{} does not tell its rule", file.display());
        let decided = decide(&Given::parse(given));
        if std::env::var_os("UPDATE_SCENARIOS").is_some() {
            let new = format!("{given}{LINE}{}\n", decided.trim_end());
            std::fs::write(&file, new).expect("a writable file");
            continue;
        }
        assert_eq!(decided.trim_end(), expected.trim_end(), "{}", file.display());
    }
}

/// Where each controller's scenarios are, below `src/controllers`.
const FOLDERS: &[(&str, &str)] = &[
    ("serviceaccount-token-controller", "serviceaccount_token/testdata"),
    ("serviceaccount-controller", "serviceaccount/testdata"),
    ("root-ca-certificate-publisher-controller", "root_ca_certificate_publisher/testdata"),
    ("namespace-controller", "namespace/testdata"),
    ("endpointslice-controller", "endpointslice/testdata"),
    ("endpoints-controller", "endpoints/testdata"),
    ("endpointslice-mirroring-controller", "endpointslicemirroring/testdata"),
    ("deployment-controller", "deployment/testdata"),
    ("replicaset-controller", "replicaset/testdata"),
    ("daemonset-controller", "daemon/testdata"),
    ("statefulset-controller", "statefulset/testdata"),
    ("job-controller", "job/testdata"),
    ("cronjob-controller", "cronjob/testdata"),
    ("replicationcontroller-controller", "replication/testdata"),
    ("disruption-controller", "disruption/testdata"),
    ("horizontal-pod-autoscaler-controller", "podautoscaler/testdata"),
    ("node-ipam-controller", "nodeipam/testdata"),
    ("node-lifecycle-controller", "nodelifecycle/testdata"),
    ("taint-eviction-controller", "tainteviction/testdata"),
    ("pod-garbage-collector-controller", "podgc/testdata"),
    ("clusterrole-aggregation-controller", "clusterroleaggregation/testdata"),
    ("ttl-after-finished-controller", "ttlafterfinished/testdata"),
    ("certificatesigningrequest-approving-controller", "certificates/testdata/approver"),
    ("certificatesigningrequest-cleaner-controller", "certificates/testdata/cleaner"),
    ("token-cleaner-controller", "tokencleaner/testdata"),
    ("persistentvolume-protection-controller", "protection/testdata/volumes"),
    ("persistentvolumeclaim-protection-controller", "protection/testdata/claims"),
    ("resourcequota-controller", "resourcequota/testdata"),
    ("legacy-serviceaccount-token-cleaner-controller", "legacy_serviceaccount_token_cleaner/testdata"),
    ("bootstrap-signer-controller", "bootstrapsigner/testdata"),
    ("certificatesigningrequest-signing-controller", "certificates/testdata/signer"),
    ("podcertificaterequest-cleaner-controller", "certificates/testdata/pod_certificate_cleaner"),
    ("persistentvolume-binder-controller", "persistentvolume/testdata/claims"),
    (
        "kube-apiserver-serving-clustertrustbundle-publisher-controller",
        "kube_apiserver_serving_clustertrustbundle_publisher/testdata",
    ),
    ("persistentvolume-expander-controller", "expand/testdata"),
    ("persistentvolume-attach-detach-controller", "attachdetach/testdata"),
    ("volumeattributesclass-protection-controller", "vacprotection/testdata"),
    ("ephemeral-volume-controller", "ephemeral/testdata"),
    ("service-cidr-controller", "servicecidrs/testdata"),
    ("resourceclaim-controller", "resourceclaim/testdata/claims"),
    ("validatingadmissionpolicy-status-controller", "validatingadmissionpolicystatus/testdata"),
    ("storage-version-migrator-controller", "storageversionmigrator/testdata"),
    ("device-taint-eviction-controller", "devicetainteviction/testdata"),
    ("podgroup-protection-controller", "podgroupprotection/testdata"),
    ("storageversion-garbage-collector-controller", "storageversiongc/testdata"),
    ("resourcepoolstatusrequest-controller", "resourcepoolstatusrequest/testdata"),
    ("selinux-warning-controller", "selinuxwarning/testdata"),
    ("ttl-controller", "ttl/testdata"),
    ("garbage-collector-controller", "garbagecollector/testdata"),
];

/// No controller is without scenarios. That they are right is for each controller's own tests.
#[test]
fn every_controller_is_explained() {
    let names: Vec<&str> = crate::controllers::ALL.iter().map(|d| d.name).collect();
    let listed: Vec<&str> = FOLDERS.iter().map(|(name, _)| *name).collect();
    assert_eq!(listed, names);
    for (name, folder) in FOLDERS {
        let count = files(folder).len();
        assert!(count >= LEAST, "{name} has only {count} scenarios in {folder}");
    }
}
