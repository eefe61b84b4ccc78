//! What a pod is meant to be, as far as it is read.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use informer::{Name, Shared, hash_resources, pooled, settle};
use k8s_openapi::api::core::v1::{
    Affinity, EphemeralVolumeSource, PodResourceClaim, PodSchedulingGroup, ResourceRequirements, Toleration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

use super::unread::Bytes;

mod wire;

pooled!(by hash Template);

/// A pod's spec. Reads like its [`Template`], too.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Read")]
pub struct PodSpec {
    pub node_name: Option<Name>,
    pub hostname: Option<Box<str>>,
    /// Pods of a daemon set differ in it.
    pub affinity: Option<Shared<Affinity>>,
    pub template: Shared<Template>,
    from: Bytes,
}

/// The part of a spec that pods of one owner have alike.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    pub active_deadline_seconds: Option<i64>,
    pub containers: Vec<Container>,
    pub ephemeral_containers: Option<Vec<Container>>,
    pub image_pull_secrets: Option<Vec<SecretName>>,
    pub init_containers: Option<Vec<Container>>,
    pub overhead: Option<BTreeMap<String, Quantity>>,
    pub priority_class_name: Option<Name>,
    pub resource_claims: Option<Vec<PodResourceClaim>>,
    pub resources: Option<ResourceRequirements>,
    pub scheduling_group: Option<PodSchedulingGroup>,
    pub subdomain: Option<Name>,
    pub termination_grace_period_seconds: Option<i64>,
    pub tolerations: Option<Vec<Toleration>>,
    /// Those that somebody looks at. Nearly every pod has one with a name of its own, for its token.
    pub volumes: Option<Vec<Volume>>,
}

/// What tells most templates apart; the rest is compared.
impl Hash for Template {
    fn hash<H: Hasher>(&self, to: &mut H) {
        self.containers.hash(to);
        self.init_containers.hash(to);
        self.volumes.hash(to);
        self.priority_class_name.hash(to);
        self.subdomain.hash(to);
        self.termination_grace_period_seconds.hash(to);
        self.active_deadline_seconds.hash(to);
        self.tolerations.as_ref().map(Vec::len).hash(to);
    }
}

impl Hash for Container {
    fn hash<H: Hasher>(&self, to: &mut H) {
        let Self { name, env, env_from, ports, resources, restart_policy } = self;
        (name, env, env_from, ports, restart_policy).hash(to);
        resources.iter().for_each(|r| hash_resources(r, to));
    }
}

impl Hash for Volume {
    fn hash<H: Hasher>(&self, to: &mut H) {
        (&self.name, &self.persistent_volume_claim, &self.secrets).hash(to);
    }
}

impl Deref for PodSpec {
    type Target = Template;
    fn deref(&self) -> &Template {
        &self.template
    }
}

impl PodSpec {
    pub fn settle(&mut self, old: Option<&Self>) {
        settle(&mut self.affinity, old.map(|o| &o.affinity));
        self.template.settle(old.map(|o| &o.template));
    }
}

/// A spec as the API has it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Read {
    node_name: Option<Name>,
    hostname: Option<Box<str>>,
    affinity: Option<Shared<Affinity>>,
    active_deadline_seconds: Option<i64>,
    containers: Vec<Container>,
    ephemeral_containers: Option<Vec<Container>>,
    image_pull_secrets: Option<Vec<SecretName>>,
    init_containers: Option<Vec<Container>>,
    overhead: Option<BTreeMap<String, Quantity>>,
    priority_class_name: Option<Name>,
    resource_claims: Option<Vec<PodResourceClaim>>,
    resources: Option<ResourceRequirements>,
    scheduling_group: Option<PodSchedulingGroup>,
    subdomain: Option<Name>,
    termination_grace_period_seconds: Option<i64>,
    tolerations: Option<Vec<Toleration>>,
    volumes: Option<Vec<ReadVolume>>,
}

impl From<Read> for PodSpec {
    fn from(read: Read) -> Self {
        let volumes: Vec<Volume> =
            read.volumes.into_iter().flatten().map(Volume::from).filter(Volume::is_looked_at).collect();
        let template = Template {
            active_deadline_seconds: read.active_deadline_seconds,
            containers: read.containers,
            ephemeral_containers: read.ephemeral_containers,
            image_pull_secrets: read.image_pull_secrets,
            init_containers: read.init_containers,
            overhead: read.overhead,
            priority_class_name: read.priority_class_name,
            resource_claims: read.resource_claims,
            resources: read.resources,
            scheduling_group: read.scheduling_group,
            subdomain: read.subdomain,
            termination_grace_period_seconds: read.termination_grace_period_seconds,
            tolerations: read.tolerations,
            volumes: Some(volumes).filter(|v| !v.is_empty()),
        };
        Self {
            node_name: read.node_name,
            hostname: read.hostname,
            affinity: read.affinity,
            template: Shared::new(template),
            from: Bytes::default(),
        }
    }
}

/// A container of any sort.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    pub name: Name,
    /// Secrets that single variables come from.
    #[serde(deserialize_with = "of_variables")]
    pub env: Vec<Name>,
    /// Secrets that all variables come from.
    #[serde(deserialize_with = "of_sources")]
    pub env_from: Vec<Name>,
    pub ports: Option<Vec<ContainerPort>>,
    pub resources: Option<ResourceRequirements>,
    pub restart_policy: Option<Name>,
}

#[derive(Clone, Debug, Default, PartialEq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    pub name: Option<Name>,
    pub container_port: i32,
    pub protocol: Option<Name>,
}

/// Something that names a secret.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SecretName {
    pub name: Name,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Variable {
    value_from: Option<VariableSource>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct VariableSource {
    secret_key_ref: Option<SecretName>,
}

/// Reads a list that may be absent, and keeps the names of its elements that have one.
struct Names<T>(fn(T) -> Option<Name>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Names<T> {
    type Value = Vec<Name>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }
    fn visit_none<E>(self) -> Result<Vec<Name>, E> {
        Ok(Vec::new())
    }
    fn visit_unit<E>(self) -> Result<Vec<Name>, E> {
        Ok(Vec::new())
    }
    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Vec<Name>, D::Error> {
        d.deserialize_seq(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Name>, A::Error> {
        let mut all = Vec::new();
        while let Some(element) = list.next_element::<T>()? {
            all.extend((self.0)(element));
        }
        Ok(all)
    }
}

fn of_variables<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Name>, D::Error> {
    d.deserialize_option(Names(|v: Variable| v.value_from?.secret_key_ref.map(|s| s.name)))
}

fn of_sources<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Name>, D::Error> {
    d.deserialize_option(Names(|s: BySecretRef| s.secret_ref.map(|r| r.name)))
}

/// A volume that is a claim or names secrets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Volume {
    pub name: Name,
    pub persistent_volume_claim: Option<ClaimSource>,
    pub ephemeral: Option<Box<EphemeralVolumeSource>>,
    pub secrets: Vec<Name>,
}

impl Volume {
    fn is_looked_at(&self) -> bool {
        self.persistent_volume_claim.is_some() || self.ephemeral.is_some() || !self.secrets.is_empty()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimSource {
    pub claim_name: Name,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ReadVolume {
    name: Box<str>,
    persistent_volume_claim: Option<ClaimSource>,
    ephemeral: Option<Box<EphemeralVolumeSource>>,
    azure_file: Option<BySecretName>,
    cephfs: Option<BySecretRef>,
    cinder: Option<BySecretRef>,
    csi: Option<ByPublishSecret>,
    flex_volume: Option<BySecretRef>,
    iscsi: Option<BySecretRef>,
    projected: Option<Projected>,
    rbd: Option<BySecretRef>,
    #[serde(rename = "scaleIO")]
    scale_io: Option<BySecretRef>,
    secret: Option<BySecretName>,
    storageos: Option<BySecretRef>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BySecretRef {
    secret_ref: Option<SecretName>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BySecretName {
    secret_name: Option<Name>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ByPublishSecret {
    node_publish_secret_ref: Option<SecretName>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Projected {
    #[serde(deserialize_with = "of_projections")]
    sources: Vec<Name>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Projection {
    secret: Option<SecretName>,
}

fn of_projections<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Name>, D::Error> {
    d.deserialize_option(Names(|p: Projection| p.secret.map(|s| s.name)))
}

impl From<ReadVolume> for Volume {
    /// Which secrets a volume names: upstream's pkg/api/v1/pod/util.go VisitPodSecretNames.
    fn from(read: ReadVolume) -> Self {
        let by_name = [read.azure_file, read.secret].into_iter().filter_map(|s| s?.secret_name);
        let references =
            [read.cephfs, read.cinder, read.flex_volume, read.iscsi, read.rbd, read.scale_io, read.storageos];
        let references = references.into_iter().filter_map(|s| s?.secret_ref);
        let published = read.csi.and_then(|s| s.node_publish_secret_ref);
        let mut secrets = read.projected.map(|p| p.sources).unwrap_or_default();
        secrets.extend(by_name);
        secrets.extend(references.chain(published).map(|r| r.name));
        let mut volume = Self {
            name: Name::default(),
            persistent_volume_claim: read.persistent_volume_claim,
            ephemeral: read.ephemeral,
            secrets,
        };
        if volume.is_looked_at() {
            volume.name = Name::from(&*read.name);
        }
        volume
    }
}
