//! Pods as the informer keeps them: compiled as they are read.
//!
//! Most pods say of what decides where they may go what another pod said before, byte for byte: then nothing of it is read
//! again ([`message`]). What is new, and what is odd, goes the long way over a [`WirePod`].

use std::sync::Arc;

use client::{Kept, Named};
use serde::{Deserialize, Deserializer};

use super::intern::Interner;
use super::pod::PodInfo;
use super::wire::WirePod;

mod message;

/// A pod.
#[derive(Clone, Debug)]
pub struct SeenPod(pub Arc<PodInfo>);

impl<'de> Deserialize<'de> for SeenPod {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let pod = WirePod::deserialize(d)?;
        Ok(Self(Arc::new(PodInfo::new(Interner::shared(), &pod))))
    }
}

impl Kept for SeenPod {
    const TYPE: Option<(&'static str, &'static str)> = Some(("v1", "Pod"));

    fn named(&self) -> Named<'_> {
        let PodInfo { namespace, name, uid, rest, .. } = &*self.0;
        Named { namespace, name, uid, version: &rest.resource_version }
    }

    fn from_message(message: &[u8]) -> Option<Self> {
        message::read(Interner::shared(), message).map(|info| Self(Arc::new(info)))
    }
}

client::same_resource!(SeenPod, k8s_openapi::api::core::v1::Pod);
