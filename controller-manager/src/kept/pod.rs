//! A pod.

use std::borrow::Cow;

use client::{Earlier, Kept, Named};
use controller::HasRelations;
use machinery::proto::read;
use machinery::proto::wire::{Result, Wire};
use serde::Deserialize;

use super::unread::Bytes;
use super::{KeptMeta, PodSpec, PodStatus};

/// A pod, as far as controllers read it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Pod {
    pub metadata: KeptMeta,
    pub spec: Option<PodSpec>,
    pub status: Option<PodStatus>,
    /// Of the status.
    #[serde(skip)]
    from: Bytes,
}

/// Whose message this is: namespace, name and uid.
#[derive(Default)]
struct Whose<'a>(Cow<'a, str>, Cow<'a, str>, Cow<'a, str>);

impl<'a> Whose<'a> {
    fn of(metadata: &'a [u8]) -> Result<Self> {
        let (mut fields, mut whose) = (Wire::new(metadata), Self::default());
        while !fields.is_empty() {
            match fields.tag()? {
                (1, wire) => whose.1 = read::text(wire, &mut fields)?,
                (3, wire) => whose.0 = read::text(wire, &mut fields)?,
                (5, wire) => {
                    whose.2 = read::text(wire, &mut fields)?;
                    break;
                }
                (_, wire) => fields.skip(wire)?,
            }
        }
        Ok(whose)
    }
}

impl Pod {
    /// Reads a message. What is as it was in an earlier state is not read again.
    fn read(message: &[u8], earlier: &Earlier<Self>) -> Result<Self> {
        // Writers always put both parts, so serde shows them even if they are empty.
        let mut pod =
            Self { spec: Some(PodSpec::default()), status: Some(PodStatus::default()), ..Self::default() };
        let (mut fields, mut old) = (Wire::new(message), None);
        while !fields.is_empty() {
            let (tag, wire) = fields.tag()?;
            match tag {
                1 => {
                    let part = read::part(wire, &mut fields)?;
                    let Whose(namespace, name, uid) = Whose::of(part)?;
                    old = earlier(&namespace, &name).filter(|old| old.uid() == uid);
                    pod.metadata = KeptMeta::of(part, old.as_ref().map(|o| &o.metadata))?;
                }
                2 => {
                    let before = old.as_ref().and_then(|o| o.spec.as_ref());
                    pod.spec = Some(PodSpec::of(read::part(wire, &mut fields)?, before)?);
                }
                3 => {
                    let part = read::part(wire, &mut fields)?;
                    pod.from = Bytes::of([part]);
                    pod.status = Some(match old.as_ref().filter(|old| old.from.are(pod.from)) {
                        Some(old) => old.status.clone().unwrap_or_default(),
                        None => read::message(part)?,
                    });
                }
                _ => fields.skip(wire)?,
            }
        }
        Ok(pod)
    }
}

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
    pub fn of(whole: &k8s_openapi::api::core::v1::Pod) -> std::result::Result<Self, String> {
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
        Self::read(message, &|_, _| None).ok()
    }

    fn from_later_message(message: &[u8], earlier: &Earlier<Self>) -> Option<Self> {
        Self::read(message, earlier).ok()
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

client::same_resource!(Pod, k8s_openapi::api::core::v1::Pod);
