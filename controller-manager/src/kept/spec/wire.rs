//! Reads specs from their messages.

use informer::Name;
use machinery::message;
use machinery::proto::read::{self, Message, Value};
use machinery::proto::wire::{Result, Wire};

use super::super::foreign;
use super::super::unread::Bytes;
use super::{
    ByPublishSecret, BySecretName, BySecretRef, ClaimSource, Container, ContainerPort, PodSpec, Projected,
    Projection, Read, ReadVolume, SecretName, Variable, VariableSource,
};

impl PodSpec {
    /// Reads a message; an earlier state of the spec is taken in its place, if it is as it was.
    pub fn of(message: &[u8], old: Option<&Self>) -> Result<Self> {
        let from = Bytes::of([message]);
        if let Some(old) = old.filter(|old| old.from.are(from)) {
            return Ok(old.clone());
        }
        let read: Read = read::message(message)?;
        Ok(Self { from, ..read.into() })
    }
}

message!(Read, "core/v1.PodSpec" {
    1 volumes (by volume),
    2 containers (structs),
    4 termination_grace_period_seconds (some value),
    5 active_deadline_seconds (some value),
    10 node_name (shown value),
    15 image_pull_secrets (some structs),
    16 hostname (shown value),
    17 subdomain (shown value),
    18 affinity (by foreign::affinity),
    20 init_containers (some structs),
    22 tolerations (by foreign::toleration),
    24 priority_class_name (shown value),
    32 overhead (by foreign::quantity),
    34 ephemeral_containers (by ephemeral_container),
    39 resource_claims (by foreign::resource_claim),
    40 resources (by foreign::requirements),
    43 scheduling_group (by foreign::scheduling_group),
});

message!(Container, "core/v1.Container" {
    1 name (value),
    6 ports (some structs),
    7 env (by variable),
    8 resources (by foreign::requirements),
    19 env_from (by source),
    24 restart_policy (some value),
});

message!(ContainerPort, "core/v1.ContainerPort" {
    1 name (shown value),
    3 container_port (value),
    4 protocol (shown value),
});

message!(SecretName, "core/v1.LocalObjectReference" { 1 name (value) });
message!(ClaimSource, "core/v1.PersistentVolumeClaimVolumeSource" { 1 claim_name (value) });
message!(Variable, "core/v1.EnvVar" { 3 value_from (some struct) });
message!(VariableSource, "core/v1.EnvVarSource" { 4 secret_key_ref (by in_reference) });

/// What an ephemeral container has in common with others is a part of its own.
fn ephemeral_container(to: &mut Option<Vec<Container>>, wire: u8, from: &mut Wire<'_>) -> Result<()> {
    let mut fields = Wire::new(read::part(wire, from)?);
    let mut container = Container::default();
    while !fields.is_empty() {
        match fields.tag()? {
            (1, wire) => container.merge(read::part(wire, &mut fields)?)?,
            (_, wire) => fields.skip(wire)?,
        }
    }
    to.get_or_insert_default().push(container);
    Ok(())
}

/// A name in a reference to an object, which is the first part of references to something in the object.
fn in_reference(to: &mut Option<SecretName>, wire: u8, from: &mut Wire<'_>) -> Result<()> {
    let mut fields = Wire::new(read::part(wire, from)?);
    let to = to.get_or_insert_default();
    while !fields.is_empty() {
        match fields.tag()? {
            (1, wire) => to.merge(read::part(wire, &mut fields)?)?,
            (_, wire) => fields.skip(wire)?,
        }
    }
    Ok(())
}

fn variable(to: &mut Vec<Name>, wire: u8, from: &mut Wire<'_>) -> Result<()> {
    let read: Variable = read::message(read::part(wire, from)?)?;
    to.extend(read.value_from.and_then(|from| from.secret_key_ref).map(|secret| secret.name));
    Ok(())
}

fn source(to: &mut Vec<Name>, wire: u8, from: &mut Wire<'_>) -> Result<()> {
    let mut fields = Wire::new(read::part(wire, from)?);
    let mut secret = None;
    while !fields.is_empty() {
        match fields.tag()? {
            (3, wire) => in_reference(&mut secret, wire, &mut fields)?,
            (_, wire) => fields.skip(wire)?,
        }
    }
    to.extend(secret.map(|s| s.name));
    Ok(())
}

message!(ReadVolume, "core/v1.VolumeSource" {
    6 secret (some struct),
    8 iscsi (by reference::<10>),
    10 persistent_volume_claim (some struct),
    11 rbd (by reference::<7>),
    12 flex_volume (by reference::<3>),
    13 cinder (by reference::<4>),
    14 cephfs (by reference::<5>),
    18 azure_file (by azure_file),
    25 scale_io (by reference::<3>),
    26 projected (some struct),
    27 storageos (by reference::<5>),
    28 csi (some struct),
    29 ephemeral (by foreign::ephemeral),
});

message!(BySecretName, "core/v1.SecretVolumeSource" { 1 secret_name (shown value) });
message!(ByPublishSecret, "core/v1.CSIVolumeSource" { 5 node_publish_secret_ref (some struct) });
message!(Projected, "core/v1.ProjectedVolumeSource" { 1 sources (by projection) });
message!(Projection, "core/v1.VolumeProjection" { 1 secret (by in_reference) });

/// A volume: its name, and what it comes from, which lies flat in JSON.
fn volume(to: &mut Option<Vec<ReadVolume>>, wire: u8, from: &mut Wire<'_>) -> Result<()> {
    let mut fields = Wire::new(read::part(wire, from)?);
    let mut volume = ReadVolume::default();
    while !fields.is_empty() {
        match fields.tag()? {
            (1, wire) => volume.name = Value::read(wire, &mut fields)?,
            (2, wire) => volume.merge(read::part(wire, &mut fields)?)?,
            (_, wire) => fields.skip(wire)?,
        }
    }
    to.get_or_insert_default().push(volume);
    Ok(())
}

/// Its secret's name is shown even if it is empty.
fn azure_file(to: &mut Option<BySecretName>, wire: u8, from: &mut Wire<'_>) -> Result<()> {
    let mut fields = Wire::new(read::part(wire, from)?);
    let to = to.get_or_insert_default();
    while !fields.is_empty() {
        match fields.tag()? {
            (1, wire) => to.secret_name = Some(Value::read(wire, &mut fields)?),
            (_, wire) => fields.skip(wire)?,
        }
    }
    Ok(())
}

fn projection(to: &mut Vec<Name>, wire: u8, from: &mut Wire<'_>) -> Result<()> {
    let read: Projection = read::message(read::part(wire, from)?)?;
    to.extend(read.secret.map(|secret| secret.name));
    Ok(())
}

/// A source of volumes whose field of this number refers to a secret.
fn reference<const TAG: u32>(to: &mut Option<BySecretRef>, wire: u8, from: &mut Wire<'_>) -> Result<()> {
    let mut fields = Wire::new(read::part(wire, from)?);
    let to = to.get_or_insert_default();
    while !fields.is_empty() {
        let (tag, wire) = fields.tag()?;
        if tag == TAG {
            to.secret_ref.get_or_insert_default().merge(read::part(wire, &mut fields)?)?;
        } else {
            fields.skip(wire)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    numbered_as_the_table!(
        Read,
        Container,
        ContainerPort,
        SecretName,
        ClaimSource,
        Variable,
        VariableSource,
        ReadVolume,
        BySecretName,
        ByPublishSecret,
        Projected,
        Projection
    );
}
