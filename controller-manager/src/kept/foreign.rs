//! Reads parts of generated types from their messages, for kept types that hold them. What hardly any object has goes by the
//! type table.

use std::collections::BTreeMap;

use informer::Shared;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Affinity, EphemeralVolumeSource, PodExtendedResourceClaimStatus, PodResourceClaim,
    PodResourceClaimStatus, PodSchedulingGroup, ResourceClaim, ResourceRequirements, Toleration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use machinery::proto::read::{self, Value};
use machinery::proto::wire::{Error, Result, Wire};
use serde::de::DeserializeOwned;

use super::second::Second;

/// A time, if it is one.
pub fn time(to: &mut Option<Second>, wire: u8, from: &mut Wire<'_>) -> Result<()> {
    let seconds = read::seconds(wire, from)?;
    let time = |s| Timestamp::from_second(s).map(Second::from).map_err(|_| read::odd(wire));
    *to = seconds.map(time).transpose()?;
    Ok(())
}

fn text(wire: u8, from: &mut Wire<'_>) -> Result<Option<String>> {
    String::read(wire, from).map(|text| Some(text).filter(|t| !t.is_empty()))
}

/// Calls `field` for each field of the message that is next.
fn fields<'a>(
    wire: u8,
    from: &mut Wire<'a>,
    mut field: impl FnMut(u32, u8, &mut Wire<'a>) -> Result<()>,
) -> Result<()> {
    let mut all = Wire::new(read::part(wire, from)?);
    while !all.is_empty() {
        let (tag, wire) = all.tag()?;
        field(tag, wire, &mut all)?;
    }
    Ok(())
}

/// One of an object's owners.
pub fn owner(to: &mut Vec<OwnerReference>, wire: u8, from: &mut Wire<'_>) -> Result<()> {
    let mut owner = OwnerReference::default();
    fields(wire, from, |tag, wire, from| {
        match tag {
            1 => owner.kind = Value::read(wire, from)?,
            3 => owner.name = Value::read(wire, from)?,
            4 => owner.uid = Value::read(wire, from)?,
            5 => owner.api_version = Value::read(wire, from)?,
            6 => owner.controller = Some(Value::read(wire, from)?),
            7 => owner.block_owner_deletion = Some(Value::read(wire, from)?),
            _ => from.skip(wire)?,
        }
        Ok(())
    })?;
    to.push(owner);
    Ok(())
}

/// As [`owner`], of a list that may be shared once it is complete.
pub fn shared_owner(
    to: &mut Option<Shared<Vec<OwnerReference>>>,
    wire: u8,
    from: &mut Wire<'_>,
) -> Result<()> {
    owner(to.get_or_insert_default(), wire, from)
}

/// One of a pod's tolerations.
pub fn toleration(to: &mut Option<Vec<Toleration>>, wire: u8, from: &mut Wire<'_>) -> Result<()> {
    let mut toleration = Toleration::default();
    fields(wire, from, |tag, wire, from| {
        match tag {
            1 => toleration.key = text(wire, from)?,
            2 => toleration.operator = text(wire, from)?,
            3 => toleration.value = text(wire, from)?,
            4 => toleration.effect = text(wire, from)?,
            5 => toleration.toleration_seconds = Some(Value::read(wire, from)?),
            _ => from.skip(wire)?,
        }
        Ok(())
    })?;
    to.get_or_insert_default().push(toleration);
    Ok(())
}

/// An entry of a map of quantities.
pub fn quantity(to: &mut Option<BTreeMap<String, Quantity>>, wire: u8, from: &mut Wire<'_>) -> Result<()> {
    let (key, value) = read::entry(wire, from, read::quantity)?;
    to.get_or_insert_default().insert(key.into_owned(), Quantity(value));
    Ok(())
}

/// As [`quantity`], of a map that may be shared once it is complete.
pub fn shared_quantity(
    to: &mut Option<Shared<BTreeMap<String, Quantity>>>,
    wire: u8,
    from: &mut Wire<'_>,
) -> Result<()> {
    let (key, value) = read::entry(wire, from, read::quantity)?;
    to.get_or_insert_default().insert(key.into_owned(), Quantity(value));
    Ok(())
}

fn requirement(to: &mut ResourceRequirements, wire: u8, from: &mut Wire<'_>) -> Result<()> {
    fields(wire, from, |tag, wire, from| match tag {
        1 => quantity(&mut to.limits, wire, from),
        2 => quantity(&mut to.requests, wire, from),
        3 => claim(&mut to.claims, wire, from),
        _ => from.skip(wire),
    })
}

/// What a container asks for.
pub fn requirements(to: &mut Option<ResourceRequirements>, wire: u8, from: &mut Wire<'_>) -> Result<()> {
    requirement(to.get_or_insert_default(), wire, from)
}

/// As [`requirements`], of a part that may be shared once it is complete.
pub fn shared_requirements(
    to: &mut Option<Shared<ResourceRequirements>>,
    wire: u8,
    from: &mut Wire<'_>,
) -> Result<()> {
    requirement(to.get_or_insert_default(), wire, from)
}

fn claim(to: &mut Option<Vec<ResourceClaim>>, wire: u8, from: &mut Wire<'_>) -> Result<()> {
    let mut claim = ResourceClaim::default();
    fields(wire, from, |tag, wire, from| {
        match tag {
            1 => claim.name = Value::read(wire, from)?,
            2 => claim.request = text(wire, from)?,
            _ => from.skip(wire)?,
        }
        Ok(())
    })?;
    to.get_or_insert_default().push(claim);
    Ok(())
}

/// A part that hardly any object has.
fn rare<T: DeserializeOwned>(of: &str, wire: u8, from: &mut Wire<'_>) -> Result<T> {
    let table = api::types();
    let part = read::part(wire, from)?;
    let read = table.by_name(of).and_then(|id| machinery::proto::from_message(table, id, part));
    read.ok_or_else(|| read::odd(wire))
}

/// A part that hardly any object has, and none twice.
fn once<T: DeserializeOwned>(to: &mut Option<T>, of: &str, wire: u8, from: &mut Wire<'_>) -> Result<()> {
    if to.is_some() {
        return Err(read::odd(wire));
    }
    *to = Some(rare(of, wire, from)?);
    Ok(())
}

fn another<T: DeserializeOwned>(
    to: &mut Option<Vec<T>>,
    of: &str,
    wire: u8,
    from: &mut Wire<'_>,
) -> Result<()> {
    to.get_or_insert_default().push(rare(of, wire, from)?);
    Ok(())
}

/// Makes readers of rare parts: the field's type, the type's name in the table, and whether it is a list.
macro_rules! rare {
    ($($name:ident: $how:ident $to:ty = $of:literal),* $(,)?) => {$(
        pub fn $name(to: &mut $to, wire: u8, from: &mut Wire<'_>) -> std::result::Result<(), Error> {
            $how(to, $of, wire, from)
        }
    )*};
}

rare! {
    affinity: once Option<Shared<Affinity>> = "core/v1.Affinity",
    ephemeral: once Option<Box<EphemeralVolumeSource>> = "core/v1.EphemeralVolumeSource",
    scheduling_group: once Option<PodSchedulingGroup> = "core/v1.PodSchedulingGroup",
    extended_claim_status: once Option<Box<PodExtendedResourceClaimStatus>> = "core/v1.PodExtendedResourceClaimStatus",
    resource_claim: another Option<Vec<PodResourceClaim>> = "core/v1.PodResourceClaim",
    resource_claim_status: another Option<Vec<PodResourceClaimStatus>> = "core/v1.PodResourceClaimStatus",
}
