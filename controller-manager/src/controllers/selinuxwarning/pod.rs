//! What is kept of pods here: volumes, mounts and labels, which no other controller looks at. So pods are watched once more
//! for this controller alone, and those of all others stay small.

use client::{Kept, Named};
use controller::HasRelations;
use k8s_openapi::api::core::v1::{SELinuxOptions, Volume};
use serde::Deserialize;

use crate::kept::KeptMeta;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Pod {
    pub metadata: KeptMeta,
    pub spec: Option<Spec>,
    status: Status,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    pub containers: Vec<Container>,
    pub ephemeral_containers: Option<Vec<Container>>,
    pub init_containers: Option<Vec<Container>>,
    pub security_context: Option<PodContext>,
    pub volumes: Option<Vec<Volume>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodContext {
    pub se_linux_change_policy: Option<String>,
    pub se_linux_options: Option<SELinuxOptions>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    pub security_context: Option<Context>,
    pub volume_mounts: Option<Vec<Mount>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Context {
    pub se_linux_options: Option<SELinuxOptions>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Mount {
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
}

impl Pod {
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or("")
    }

    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or("")
    }

    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or("")
    }

    /// It has ended for good.
    pub fn is_terminal(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Keys of the claims that it names.
    pub fn claims(&self) -> Vec<String> {
        let key = |name: &str| format!("{}/{name}", self.namespace());
        let volumes = self.spec.iter().flat_map(|s| s.volumes.iter().flatten());
        let claim = |v: &Volume| match &v.persistent_volume_claim {
            Some(source) => Some(key(&source.claim_name)),
            None => v.ephemeral.is_some().then(|| key(&format!("{}-{}", self.name(), v.name))),
        };
        volumes.filter_map(claim).collect()
    }
}

impl Kept for Pod {
    const TYPE: Option<(&'static str, &'static str)> = Some(("v1", "Pod"));

    fn named(&self) -> Named<'_> {
        let version = self.metadata.resource_version.as_deref().unwrap_or("");
        Named { namespace: self.namespace(), name: self.name(), uid: self.uid(), version }
    }

    fn settle(&mut self, old: Option<&Self>) {
        self.metadata.settle(old.map(|o| &o.metadata));
    }
}

impl HasRelations for Pod {
    type Relations = KeptMeta;
    fn relations(&self) -> &KeptMeta {
        &self.metadata
    }
}

client::same_resource!(Pod, k8s_openapi::api::core::v1::Pod);
