//! Cluster IPs as IPAddress objects.

use ipnet::IpNet;
use machinery::Value;
use rand::RngExt;
use serde_json::json;
use std::net::IpAddr;

use ::api::validation::field::{Bad, Error as FieldError, Path};

use super::families::family_of;
use super::{Changes, set, strings, text};
use crate::codec;
use crate::core::Core;
use crate::errors::ApiError;
use crate::meta;
use crate::store_errors;
use crate::strategy::Call;

/// Random picks before the range is walked.
const PICKS: usize = 32;
/// Addresses looked at in a walk; a larger range that is this full is as good as full.
const WALK: u128 = 65_536;

/// The ranges addresses are taken from: those of ready ServiceCIDR objects, else the configured ones.
async fn ranges(core: &Core, family: &str) -> Result<Vec<IpNet>, ApiError> {
    let objects = core.find_all("networking.k8s.io", "servicecidrs", "").await?;
    let live = objects.iter().filter(|o| meta::deletion_timestamp(o).is_empty());
    let mut nets: Vec<IpNet> =
        live.flat_map(|o| strings(o, "cidrs")).filter_map(|text| text.parse().ok()).collect();
    if nets.is_empty() {
        nets.clone_from(&core.settings.service_cidrs);
    }
    nets.retain(|net| matches!(net, IpNet::V4(_)) == (family == "IPv4"));
    Ok(nets)
}

/// Families of the configured ranges, primary first.
pub fn configured(core: &Core) -> super::families::Families {
    core.settings
        .service_cidrs
        .iter()
        .map(|net| if matches!(net, IpNet::V4(_)) { "IPv4" } else { "IPv6" })
        .collect()
}

/// Allocates what a service with a cluster IP lacks, and claims what it names. `held` it has already.
pub async fn allocate(
    call: &Call<'_>,
    service: &mut Value,
    held: &[String],
    changes: &mut Changes,
) -> Result<(), ApiError> {
    if text(service, "clusterIP") == "None" || strings(service, "clusterIPs").iter().any(|ip| ip == "None") {
        return Ok(());
    }
    let families = strings(service, "ipFamilies");
    let mut addresses = strings(service, "clusterIPs");
    for (i, family) in families.iter().enumerate() {
        let asked = addresses.get(i).cloned().filter(|ip| !ip.is_empty());
        if let Some(asked) = &asked
            && held.contains(asked)
        {
            continue;
        }
        let got = match &asked {
            Some(asked) => claim(call, service, asked, family, changes).await,
            None => next(call, service, family, changes).await,
        };
        let got = got.map_err(|why| refuse(service, asked.as_deref(), &addresses, &why))?;
        match addresses.get_mut(i) {
            Some(slot) => *slot = got,
            None => addresses.push(got),
        }
    }
    if let Some(first) = addresses.first().cloned() {
        set(service, "clusterIP", first)?;
        set(service, "clusterIPs", addresses)?;
    }
    Ok(())
}

fn refuse(service: &Value, asked: Option<&str>, addresses: &[String], why: &str) -> ApiError {
    match asked {
        Some(ip) => {
            let spec = Path::new("spec");
            let detail = format!("failed to allocate IP {ip}: {why}");
            let error = FieldError::invalid(&spec.child("clusterIPs"), Bad::json(&addresses), detail);
            ApiError::invalid_fields("", "Service", meta::name(service), &[error])
        }
        None => ApiError::internal(format!("failed to allocate a serviceIP: {why}")),
    }
}

async fn claim(
    call: &Call<'_>,
    service: &Value,
    asked: &str,
    family: &str,
    changes: &mut Changes,
) -> Result<String, String> {
    let address: IpAddr = asked.parse().map_err(|_| "invalid address".to_owned())?;
    let nets = ranges(call.core, family).await.map_err(|e| e.message)?;
    let within = nets.iter().any(|net| net.contains(&address) && is_assignable(net, address));
    if !within {
        let texts: Vec<String> = nets.iter().map(ToString::to_string).collect();
        return Err(format!(
            "the provided IP ({asked}) is not in the valid range. The range of valid IPs is {}",
            texts.join(",")
        ));
    }
    take(call, service, address, changes).await?;
    Ok(address.to_string())
}

/// Network and (IPv4) broadcast addresses are not given out.
fn is_assignable(net: &IpNet, address: IpAddr) -> bool {
    address != net.network() && (matches!(net, IpNet::V6(_)) || address != net.broadcast())
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The n-th address of a network; `None` beyond its end.
fn nth(net: &IpNet, n: u128) -> Option<IpAddr> {
    let value = number(net.network()).checked_add(n)?;
    let address = match net {
        IpNet::V4(_) => IpAddr::from(u32::try_from(value).ok()?.to_be_bytes()),
        IpNet::V6(_) => IpAddr::from(value.to_be_bytes()),
    };
    net.contains(&address).then_some(address)
}

fn size(net: &IpNet) -> u128 {
    let bits = u32::from(net.max_prefix_len() - net.prefix_len());
    // Upstream looks at no more than 64 bits of a range.
    1_u128 << bits.min(64)
}

/// The low part of a range is left to addresses that users choose (`calculateRangeOffset`).
fn static_part(size: u128) -> u128 {
    if size <= 16 { 0 } else { (size / 16).clamp(16, 256) }
}

async fn next(
    call: &Call<'_>,
    service: &Value,
    family: &str,
    changes: &mut Changes,
) -> Result<String, String> {
    for net in ranges(call.core, family).await.map_err(|e| e.message)? {
        let (size, low) = (size(&net), static_part(size(&net)));
        for _ in 0..PICKS {
            let n = rand::rng().random_range(low..size.max(low + 1));
            if let Some(address) = try_nth(call, service, &net, n, changes).await? {
                return Ok(address.to_string());
            }
        }
        // Dense: walk the dynamic part, then the static one.
        for n in (low..size.min(low + WALK)).chain(0..low) {
            if let Some(address) = try_nth(call, service, &net, n, changes).await? {
                return Ok(address.to_string());
            }
        }
    }
    Err("range is full".into())
}

async fn try_nth(
    call: &Call<'_>,
    service: &Value,
    net: &IpNet,
    n: u128,
    changes: &mut Changes,
) -> Result<Option<IpAddr>, String> {
    let Some(address) = nth(net, n).filter(|a| is_assignable(net, *a)) else { return Ok(None) };
    match take(call, service, address, changes).await {
        Ok(()) => Ok(Some(address)),
        Err(why) if why == ALLOCATED => Ok(None),
        Err(why) => Err(why),
    }
}

const ALLOCATED: &str = "provided IP is already allocated";

/// Creates the IPAddress object.
async fn take(
    call: &Call<'_>,
    service: &Value,
    address: IpAddr,
    changes: &mut Changes,
) -> Result<(), String> {
    let core = call.core;
    let resource = core.any_version("networking.k8s.io", "ipaddresses").map_err(|e| e.message)?.clone();
    let name = address.to_string();
    let mut object = Value::from(json!({
        "metadata": {"name": name, "labels": {
            "ipaddress.kubernetes.io/ip-family": family_of(&name),
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}},
        "spec": {"parentRef": {"group": "", "resource": "services",
            "namespace": meta::namespace(service), "name": meta::name(service)}},
    }));
    codec::stamp(&mut object, resource.row.kind);
    meta::fill_system_fields(&mut object, call.now);
    let key = core.key(resource.row, "", &name).map_err(|e| e.message)?;
    let bytes = codec::encode_stored(resource.row, &object).map_err(|e| e.message)?;
    if call.request.dry_run {
        let taken = core.store.get(&key, 0).await.map_err(|e| e.to_string())?.kv.is_some();
        return if taken { Err(ALLOCATED.into()) } else { Ok(()) };
    }
    match core.store.create(&key, bytes, None).await {
        Ok(_) => {
            changes.addresses.push(name);
            Ok(())
        }
        Err(storage::Error::AlreadyExists { .. }) => Err(ALLOCATED.into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Deletes the IPAddress object.
pub async fn release(core: &Core, address: &str) -> Result<(), ApiError> {
    let resource = core.any_version("networking.k8s.io", "ipaddresses")?.clone();
    let key = core.key(resource.row, "", address)?;
    let found = core.store.get(&key, 0).await.map_err(|e| store_errors::get(e, resource.row, address))?;
    let Some(kv) = found.kv else { return Ok(()) };
    match core.store.delete(&key, kv.mod_revision).await {
        Ok(_) | Err(storage::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(store_errors::delete(error, resource.row, address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_as_upstreams() {
        let net: IpNet = "10.96.0.0/12".parse().unwrap();
        assert_eq!((size(&net), static_part(size(&net))), (1 << 20, 256));
        assert_eq!(static_part(256), 16);
        assert_eq!(nth(&net, 1), Some("10.96.0.1".parse().unwrap()));
        assert_eq!(nth(&net, 1 << 20), None);
        assert!(!is_assignable(&net, "10.96.0.0".parse().unwrap()));
    }
}
