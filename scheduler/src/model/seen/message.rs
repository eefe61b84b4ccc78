//! From a pod's message to its [`PodInfo`], without reading what another pod said in the same bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PodCondition, PodResourceClaimStatus};
use machinery::proto::from_message;
use machinery::proto::read::{self, Value, odd, part, text};
use machinery::proto::wire::{Result, Wire, push_field, push_varint};
use serde::de::DeserializeOwned;

use crate::model::intern::Interner;
use crate::model::pod::{Owner, PodInfo, RESIZE_PENDING, Rest, Wants, telling};
use crate::model::wire::WirePod;

/// Fields of a spec that decide where a pod may go, as [`super::super::wire::WireSpec`] has them; containers and volumes are
/// looked into, the node is kept apart.
const SPEC: [u32; 14] = [7, 11, 18, 19, 22, 25, 31, 32, 33, 37, 38, 39, 40, 43];
const NODE_NAME: u32 = 10;
/// Of a container: its name, image, ports, resources, and rules for restarts.
const CONTAINER: [u32; 6] = [1, 2, 6, 8, 24, 25];
/// Sources of volumes of which something is read.
const SOURCES: [u32; 7] = [3, 4, 8, 10, 11, 29, 30];
/// Of a container's status: what it was granted, and what it has.
const GRANTED: [u32; 2] = [10, 11];

/// Reads a pod; none sends the caller the long way.
pub fn read(interner: &Interner, message: &[u8]) -> Option<PodInfo> {
    let parts = Parts::of(message).ok()?;
    // What is odd of it may change what the pod wants: it is known before anything is learned.
    let status = Status::of(parts.status).ok()?;
    let key = parts.key().ok()?;
    match interner.wants_of_bytes(&key) {
        Some(wants) => parts.info(interner, wants, status).ok(),
        None => {
            let pod: WirePod = typed("core/v1.Pod", message)?;
            let info = PodInfo::new(interner, &pod);
            interner.learn_wants(key, &info.wants);
            Some(info)
        }
    }
}

fn typed<T: DeserializeOwned>(name: &str, message: &[u8]) -> Option<T> {
    from_message(api::types(), api::types().by_name(name)?, message)
}

#[derive(Default)]
struct Parts<'a> {
    name: Cow<'a, str>,
    namespace: Cow<'a, str>,
    uid: Cow<'a, str>,
    version: Cow<'a, str>,
    generation: i64,
    terminating: bool,
    /// Entries of a map, each with its length.
    labels: Vec<u8>,
    owners: Vec<&'a [u8]>,
    spec: &'a [u8],
    status: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(message: &'a [u8]) -> Result<Self> {
        let (mut fields, mut parts) = (Wire::new(message), Self::default());
        while !fields.is_empty() {
            match fields.tag()? {
                (1, wire) => parts.metadata(part(wire, &mut fields)?)?,
                (2, wire) => parts.spec = part(wire, &mut fields)?,
                (3, wire) => parts.status = part(wire, &mut fields)?,
                (_, wire) => fields.skip(wire)?,
            }
        }
        Ok(parts)
    }

    fn metadata(&mut self, message: &'a [u8]) -> Result<()> {
        let mut fields = Wire::new(message);
        while !fields.is_empty() {
            match fields.tag()? {
                (1, wire) => self.name = text(wire, &mut fields)?,
                (3, wire) => self.namespace = text(wire, &mut fields)?,
                (5, wire) => self.uid = text(wire, &mut fields)?,
                (6, wire) => self.version = text(wire, &mut fields)?,
                (7, wire) => self.generation = Value::read(wire, &mut fields)?,
                (9, wire) => self.terminating = read::seconds(wire, &mut fields)?.is_some(),
                (11, wire) => push_field(&mut self.labels, 1, part(wire, &mut fields)?),
                (13, wire) => self.owners.push(part(wire, &mut fields)?),
                (_, wire) => fields.skip(wire)?,
            }
        }
        Ok(())
    }

    /// All that decides what the pod wants, as it was sent: equal bytes, equal wants.
    fn key(&self) -> Result<Vec<u8>> {
        let mut key = Vec::with_capacity(512);
        push_field(&mut key, 1, self.namespace.as_bytes());
        let mut fields = Wire::new(self.spec);
        while !fields.is_empty() {
            let (from, (tag, wire)) = (fields.at, fields.tag()?);
            match tag {
                NODE_NAME => fields.skip(wire)?,
                1 => volume(&mut key, part(wire, &mut fields)?)?,
                2 | 20 => container(&mut key, tag, part(wire, &mut fields)?)?,
                _ => {
                    fields.skip(wire)?;
                    if SPEC.contains(&tag) {
                        key.extend_from_slice(&self.spec[from..fields.at]);
                    }
                }
            }
        }
        self.granted(&mut key)?;
        Ok(key)
    }

    /// What counts of the status. What few pods have is odd.
    fn granted(&self, key: &mut Vec<u8>) -> Result<()> {
        let mut fields = Wire::new(self.status);
        while !fields.is_empty() {
            match fields.tag()? {
                (tag @ (8 | 10), wire) => {
                    let status = part(wire, &mut fields)?;
                    if has(status, &GRANTED)? {
                        picked(key, tag + 100, status, &[1, GRANTED[0], GRANTED[1]])?;
                    }
                }
                // Of the pod as a whole.
                (19..=21, wire) => return Err(odd(wire)),
                (_, wire) => fields.skip(wire)?,
            }
        }
        Ok(())
    }

    fn info(self, interner: &Interner, wants: Arc<Wants>, status: Status<'_>) -> Result<PodInfo> {
        let some = |name: &str| (!name.is_empty()).then(|| interner.name(name));
        Ok(PodInfo {
            uid: (&*self.uid).into(),
            name: (&*self.name).into(),
            labels: interner.labels_of_bytes(&self.labels, || labels(&self.labels))?,
            wants,
            owner: self.owner()?.map(Arc::new),
            node: some(&node_name(self.spec)?),
            nominated: some(&status.nominated),
            terminating: self.terminating,
            finished: matches!(&*status.phase, "Succeeded" | "Failed"),
            started: status.started,
            rest: Box::new(Rest {
                resource_version: self.version.into_owned(),
                generation: Some(self.generation).filter(|g| *g != 0),
                conditions: status.conditions,
                made_claims: status.made_claims,
            }),
            namespace: interner.name(&self.namespace),
        })
    }

    fn owner(&self) -> Result<Option<Owner>> {
        for message in &self.owners {
            let mut fields = Wire::new(message);
            let mut owner = Owner { api_version: String::new(), kind: String::new(), name: String::new() };
            let mut controls = false;
            while !fields.is_empty() {
                match fields.tag()? {
                    (1, wire) => owner.kind = Value::read(wire, &mut fields)?,
                    (3, wire) => owner.name = Value::read(wire, &mut fields)?,
                    (5, wire) => owner.api_version = Value::read(wire, &mut fields)?,
                    (6, wire) => controls = Value::read(wire, &mut fields)?,
                    (_, wire) => fields.skip(wire)?,
                }
            }
            if controls {
                return Ok(Some(owner));
            }
        }
        Ok(None)
    }
}

#[derive(Default)]
struct Status<'a> {
    phase: Cow<'a, str>,
    nominated: Cow<'a, str>,
    started: Option<Timestamp>,
    conditions: Vec<PodCondition>,
    made_claims: Vec<PodResourceClaimStatus>,
}

impl<'a> Status<'a> {
    fn of(message: &'a [u8]) -> Result<Self> {
        let (mut fields, mut status) = (Wire::new(message), Self::default());
        while !fields.is_empty() {
            match fields.tag()? {
                (1, wire) => status.phase = text(wire, &mut fields)?,
                (2, wire) => {
                    let message = part(wire, &mut fields)?;
                    let (kind, value) = condition(message)?;
                    // It may change what the pod counts as.
                    if kind == RESIZE_PENDING {
                        return Err(odd(wire));
                    }
                    if telling(&kind, &value) {
                        status
                            .conditions
                            .push(typed("core/v1.PodCondition", message).ok_or_else(|| odd(wire))?);
                    }
                }
                (7, wire) => {
                    let seconds = read::seconds(wire, &mut fields)?;
                    status.started = seconds.and_then(|s| Timestamp::from_second(s).ok());
                }
                (11, wire) => status.nominated = text(wire, &mut fields)?,
                (15, wire) => {
                    let made = typed("core/v1.PodResourceClaimStatus", part(wire, &mut fields)?);
                    status.made_claims.push(made.ok_or_else(|| odd(wire))?);
                }
                (_, wire) => fields.skip(wire)?,
            }
        }
        Ok(status)
    }
}

/// Type and status.
fn condition(message: &[u8]) -> Result<(Cow<'_, str>, Cow<'_, str>)> {
    let (mut fields, mut kind, mut status) = (Wire::new(message), Cow::Borrowed(""), Cow::Borrowed(""));
    while !fields.is_empty() {
        match fields.tag()? {
            (1, wire) => kind = text(wire, &mut fields)?,
            (2, wire) => status = text(wire, &mut fields)?,
            (_, wire) => fields.skip(wire)?,
        }
    }
    Ok((kind, status))
}

fn node_name(spec: &[u8]) -> Result<Cow<'_, str>> {
    let mut fields = Wire::new(spec);
    while !fields.is_empty() {
        match fields.tag()? {
            (NODE_NAME, wire) => return text(wire, &mut fields),
            (_, wire) => fields.skip(wire)?,
        }
    }
    Ok(Cow::Borrowed(""))
}

fn labels(entries: &[u8]) -> Result<BTreeMap<String, String>> {
    let (mut fields, mut labels) = (Wire::new(entries), BTreeMap::new());
    while !fields.is_empty() {
        let (_, wire) = fields.tag()?;
        let (key, value) = read::entry(wire, &mut fields, text)?;
        labels.insert(key.into_owned(), value.into_owned());
    }
    Ok(labels)
}

/// Whether a message has one of these fields.
fn has(message: &[u8], tags: &[u32]) -> Result<bool> {
    let mut fields = Wire::new(message);
    while !fields.is_empty() {
        let (tag, wire) = fields.tag()?;
        if tags.contains(&tag) {
            return Ok(true);
        }
        fields.skip(wire)?;
    }
    Ok(false)
}

/// Adds these fields of a message.
fn picked(key: &mut Vec<u8>, tag: u32, message: &[u8], tags: &[u32]) -> Result<()> {
    push_varint(key, u64::from(tag));
    let mut fields = Wire::new(message);
    while !fields.is_empty() {
        let (from, (tag, wire)) = (fields.at, fields.tag()?);
        fields.skip(wire)?;
        if tags.contains(&tag) {
            key.extend_from_slice(&message[from..fields.at]);
        }
    }
    // No field has this number: the next message begins.
    push_varint(key, 0);
    Ok(())
}

/// A volume of a kind that is not looked at may have a name of its own in every pod.
fn volume(key: &mut Vec<u8>, message: &[u8]) -> Result<()> {
    let mut fields = Wire::new(message);
    while !fields.is_empty() {
        match fields.tag()? {
            (2, wire) if has(part(wire, &mut fields)?, &SOURCES)? => push_field(key, 1, message),
            (2, _) => {}
            (_, wire) => fields.skip(wire)?,
        }
    }
    Ok(())
}

/// Most mounts are of no interest.
fn container(key: &mut Vec<u8>, tag: u32, message: &[u8]) -> Result<()> {
    picked(key, tag, message, &CONTAINER)?;
    let mut fields = Wire::new(message);
    while !fields.is_empty() {
        match fields.tag()? {
            (9, wire) => {
                let mount = part(wire, &mut fields)?;
                if has(mount, &[8])? {
                    push_field(key, 9, mount);
                }
            }
            (_, wire) => fields.skip(wire)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
