//! A pod.

use client::{Kept, Named};
use controller::HasRelations;
use k8s_openapi::NamespaceResourceScope;
use machinery::message;
use machinery::proto::read::Message;
use serde::Deserialize;

use super::{KeptMeta, PodSpec, PodStatus};

/// A pod, as far as controllers read it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Pod {
    pub metadata: KeptMeta,
    pub spec: Option<PodSpec>,
    pub status: Option<PodStatus>,
}

message!(Pod, "core/v1.Pod" {
    1 metadata (by KeptMeta::read),
    2 spec (by PodSpec::read),
    3 status (some struct),
});

impl Pod {
    /// `metadata.name`, "" when unset.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or("")
    }

    /// `metadata.namespace`, "" when unset.
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or("")
    }

    /// `metadata.uid`, "" when unset.
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or("")
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        self.named().key()
    }

    /// What is kept of a whole pod.
    ///
    /// # Errors
    /// It is not a pod that the API could have.
    pub fn of(whole: &k8s_openapi::api::core::v1::Pod) -> Result<Self, String> {
        let tree = machinery::value::to_value(whole).map_err(|e| e.to_string())?;
        machinery::value::from_value(&tree).map_err(|e| e.to_string())
    }
}

impl Kept for Pod {
    const TYPE: Option<(&'static str, &'static str)> = Some(("v1", "Pod"));

    fn named(&self) -> Named<'_> {
        let version = self.metadata.resource_version.as_deref().unwrap_or("");
        Named { namespace: self.namespace(), name: self.name(), uid: self.uid(), version }
    }

    fn from_message(message: &[u8]) -> Option<Self> {
        // Writers always put both parts, so serde shows them even if they are empty.
        let mut pod =
            Self { spec: Some(PodSpec::default()), status: Some(PodStatus::default()), ..Self::default() };
        pod.merge(message).ok()?;
        Some(pod)
    }

    fn settle(&mut self, old: Option<&Self>) {
        self.metadata.settle(old.map(|o| &o.metadata));
        if let Some(spec) = &mut self.spec {
            spec.settle(old.and_then(|o| o.spec.as_ref()));
        }
        if let Some(status) = &mut self.status {
            status.settle(old.and_then(|o| o.status.as_ref()));
        }
    }
}

impl HasRelations for Pod {
    type Relations = KeptMeta;
    fn relations(&self) -> &KeptMeta {
        &self.metadata
    }
}

impl k8s_openapi::Resource for Pod {
    const API_VERSION: &'static str = "v1";
    const GROUP: &'static str = "";
    const KIND: &'static str = "Pod";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "pods";
    type Scope = NamespaceResourceScope;
}
