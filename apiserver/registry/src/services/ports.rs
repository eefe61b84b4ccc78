//! Node ports: one bitmap in the store, in upstream's form (`/registry/ranges/servicenodeports`, a RangeAllocation).

use base64::Engine as _;
use bytes::Bytes;
use machinery::{Map, Value, proto};
use rand::RngExt;
use std::ops::RangeInclusive;

use ::api::validation::field::{Error as FieldError, Path};

use super::{Changes, needs_health_check_port, needs_node_port, set};
use crate::core::Core;
use crate::errors::ApiError;
use crate::meta;
use crate::strategy::Call;

const KEY: &str = "ranges/servicenodeports";

/// The bitmap: bit n is the n-th port of the range; bytes are big-endian without leading zeros, as Go's big.Int.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Bitmap(Vec<u8>);

impl Bitmap {
    fn from_big_endian(bytes: &[u8]) -> Self {
        Bitmap(bytes.iter().rev().copied().collect())
    }

    fn to_big_endian(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.0.iter().rev().copied().collect();
        let zeros = bytes.iter().take_while(|b| **b == 0).count();
        bytes.drain(..zeros);
        bytes
    }

    fn has(&self, bit: u16) -> bool {
        self.0.get(usize::from(bit / 8)).is_some_and(|b| b & (1 << (bit % 8)) != 0)
    }

    fn put(&mut self, bit: u16, on: bool) {
        let at = usize::from(bit / 8);
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        let mask = 1 << (bit % 8);
        if on {
            self.0[at] |= mask;
        } else {
            self.0[at] &= !mask;
        }
    }
}

fn range_text(range: &RangeInclusive<u16>) -> String {
    format!("{}-{}", range.start(), range.end())
}

fn decode(bytes: &Bytes) -> Result<Bitmap, ApiError> {
    let (_, object) = proto::decode(::api::types(), bytes)
        .map_err(|e| ApiError::internal(format!("node port allocation cannot be decoded: {e}")))?;
    let data = object.str_at(&["data"]).unwrap_or("");
    let raw = base64::engine::general_purpose::STANDARD
        .decode(data)
        .map_err(|e| ApiError::internal(format!("node port allocation cannot be decoded: {e}")))?;
    Ok(Bitmap::from_big_endian(&raw))
}

fn encode(bitmap: &Bitmap, range: &RangeInclusive<u16>) -> Result<Bytes, ApiError> {
    let mut object = Map::new();
    object.insert("apiVersion", "v1");
    object.insert("kind", "RangeAllocation");
    object.insert("metadata", Map::new());
    object.insert("range", range_text(range));
    let data = base64::engine::general_purpose::STANDARD.encode(bitmap.to_big_endian());
    object.insert("data", data);
    let id = ::api::types()
        .kind("v1", "RangeAllocation")
        .ok_or_else(|| ApiError::internal("no type RangeAllocation"))?;
    Ok(proto::encode(::api::types(), id, &Value::Map(object)).into())
}

/// Changes the bitmap by a conditional write. `change` may run several times.
async fn with_bitmap<T>(
    core: &Core,
    dry_run: bool,
    mut change: impl FnMut(&mut Bitmap) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    let key = core.special_key(KEY);
    let fail = |e: storage::Error| ApiError::internal(format!("node port allocation: {e}"));
    let mut current = core.store.get(&key, 0).await.map_err(fail)?.kv;
    loop {
        let mut bitmap = current.as_ref().map(|kv| decode(&kv.value)).transpose()?.unwrap_or_default();
        let before = bitmap.clone();
        let result = change(&mut bitmap)?;
        if bitmap == before || dry_run {
            return Ok(result);
        }
        let bytes = encode(&bitmap, &core.settings.node_ports)?;
        let expected = current.as_ref().map_or(0, |kv| kv.mod_revision);
        current = match core.store.update(&key, bytes, expected, None).await {
            Ok(_) => return Ok(result),
            Err(storage::Error::Conflict { current, .. }) => current.map(|kv| *kv),
            Err(storage::Error::AlreadyExists { current, .. }) => Some(*current),
            Err(storage::Error::NotFound { .. }) => None,
            Err(error) => return Err(fail(error)),
        };
    }
}

/// A port a service wants: a given one, or any.
struct Wish {
    /// Index into `spec.ports`; `None` for the health check port.
    index: Option<usize>,
    asked: Option<u16>,
}

/// Allocates what a service lacks and claims what it names; `held` ports are its own already. What it held and no
/// longer names is freed.
pub async fn allocate(
    call: &Call<'_>,
    service: &mut Value,
    held: &[u16],
    changes: &mut Changes,
) -> Result<(), ApiError> {
    let (mut wishes, twins) = wishes(service);
    if needs_health_check_port(service) {
        let asked = service.i64_at(&["spec", "healthCheckNodePort"]).and_then(|p| u16::try_from(p).ok());
        wishes.push(Wish { index: None, asked: asked.filter(|p| *p != 0) });
    }
    let name = meta::name(service).to_owned();
    let range = call.core.settings.node_ports.clone();
    let missing = wishes.iter().any(|w| w.asked.is_none_or(|p| !held.contains(&p)));
    let ports = if missing {
        with_bitmap(call.core, call.request.dry_run, |bitmap| fulfil(&wishes, held, &range, bitmap, &name))
            .await?
    } else {
        wishes.iter().filter_map(|w| w.asked).collect()
    };
    for (wish, port) in wishes.iter().zip(&ports) {
        if !held.contains(port) && !call.request.dry_run {
            changes.ports.push(*port);
        }
        match wish.index {
            Some(index) => set_port(service, index, *port)?,
            None => set(service, "healthCheckNodePort", i64::from(*port))?,
        }
    }
    for (index, of) in twins {
        let port = node_port(service, of).unwrap_or(0);
        set_port(service, index, port)?;
    }
    let used = held_ports(service);
    changes.freed_ports.extend(held.iter().filter(|p| !used.contains(p)));
    Ok(())
}

fn node_port(service: &Value, index: usize) -> Option<u16> {
    let port = service.list_at(&["spec", "ports"])?.get(index)?;
    port.i64_at(&["nodePort"]).and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0)
}

fn set_port(service: &mut Value, index: usize, port: u16) -> Result<(), ApiError> {
    let Some(Value::List(ports)) = service.get_path_mut(&["spec", "ports"]) else { return Ok(()) };
    match ports.get_mut(index) {
        Some(Value::Map(entry)) => {
            entry.insert("nodePort", i64::from(port));
            Ok(())
        }
        _ => Err(ApiError::internal("service port is not an object")),
    }
}

/// Every node port a service names, its health check port included.
pub fn held_ports(service: &Value) -> Vec<u16> {
    let mut held = Vec::new();
    if needs_node_port(service) {
        let count = service.list_at(&["spec", "ports"]).map_or(0, |l| l.len());
        held.extend((0..count).filter_map(|i| node_port(service, i)));
    }
    if needs_health_check_port(service) {
        let port = service.i64_at(&["spec", "healthCheckNodePort"]).and_then(|p| u16::try_from(p).ok());
        held.extend(port.filter(|p| *p != 0));
    }
    held.sort_unstable();
    held.dedup();
    held
}

/// Ports to ask for, and those that share the port of an earlier entry (same number, other protocol).
fn wishes(service: &Value) -> (Vec<Wish>, Vec<(usize, usize)>) {
    let (mut wishes, mut twins) = (Vec::new(), Vec::new());
    if !needs_node_port(service) {
        return (wishes, twins);
    }
    let Some(ports) = service.list_at(&["spec", "ports"]) else { return (wishes, twins) };
    for index in 0..ports.len() {
        let asked = node_port(service, index);
        let number = |i: usize| ports[i].i64_at(&["port"]);
        let protocol = |i: usize| ports[i].str_at(&["protocol"]).unwrap_or("TCP").to_owned();
        let twin = (0..index).find(|i| {
            protocol(*i) != protocol(index)
                && match asked {
                    Some(asked) => node_port(service, *i) == Some(asked),
                    None => number(*i) == number(index),
                }
        });
        match twin {
            Some(of) => twins.push((index, of)),
            None => wishes.push(Wish { index: Some(index), asked }),
        }
    }
    (wishes, twins)
}

fn fulfil(
    wishes: &[Wish],
    held: &[u16],
    range: &RangeInclusive<u16>,
    bitmap: &mut Bitmap,
    name: &str,
) -> Result<Vec<u16>, ApiError> {
    let spec = Path::new("spec");
    let list = spec.child("ports");
    let mut ports = Vec::with_capacity(wishes.len());
    for wish in wishes {
        let Some(asked) = wish.asked else {
            let port = pick(bitmap, range)
                .ok_or_else(|| ApiError::internal("failed to allocate a nodePort: range is full"))?;
            bitmap.put(port - range.start(), true);
            ports.push(port);
            continue;
        };
        if !held.contains(&asked) {
            let why = if !range.contains(&asked) {
                Some(format!(
                    "provided port is not in the valid range. The range of valid ports is {}",
                    range_text(range)
                ))
            } else if bitmap.has(asked - range.start()) {
                Some("provided port is already allocated".to_owned())
            } else {
                bitmap.put(asked - range.start(), true);
                None
            };
            if let Some(why) = why {
                let index = wish.index.unwrap_or(0);
                let at = list.index(index);
                let error = match wish.index {
                    Some(_) => FieldError::invalid(&at.child("nodePort"), i64::from(asked), why),
                    None => FieldError::invalid(&spec.child("healthCheckNodePort"), i64::from(asked), why),
                };
                return Err(ApiError::invalid_fields("", "Service", name, &[error]));
            }
        }
        ports.push(asked);
    }
    Ok(ports)
}

/// A free port: random in the part above the static one, else the first free one anywhere.
fn pick(bitmap: &Bitmap, range: &RangeInclusive<u16>) -> Option<u16> {
    let size = u32::from(range.end() - range.start()) + 1;
    let low = if size <= 16 { 0 } else { (size / 32).clamp(16, 128) };
    let free = |bit: u32| u16::try_from(bit).ok().filter(|b| !bitmap.has(*b));
    let start = rand::rng().random_range(low..size.max(low + 1));
    let found = (start..size).chain(low..start).chain(0..low).find_map(free)?;
    range.start().checked_add(found)
}

/// Gives ports back.
pub async fn release(core: &Core, ports: &[u16]) -> Result<(), ApiError> {
    let range = core.settings.node_ports.clone();
    with_bitmap(core, false, |bitmap| {
        for port in ports.iter().filter(|p| range.contains(p)) {
            bitmap.put(port - range.start(), false);
        }
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bitmap_is_a_big_int() {
        let mut bitmap = Bitmap::default();
        bitmap.put(0, true);
        bitmap.put(9, true);
        assert_eq!(bitmap.to_big_endian(), [2, 1]);
        assert_eq!(Bitmap::from_big_endian(&[2, 1]), bitmap);
        bitmap.put(9, false);
        assert_eq!(bitmap.to_big_endian(), [1]);
        let stored = encode(&bitmap, &(30000..=32767)).unwrap();
        assert_eq!(decode(&stored).unwrap().to_big_endian(), [1]);
    }

    #[test]
    fn same_number_shares_a_port() {
        let service = Value::from(json!({"spec": {"type": "NodePort", "ports": [
            {"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 80, "protocol": "TCP"}]}}));
        let (wishes, twins) = wishes(&service);
        assert_eq!((wishes.len(), twins), (2, vec![(1, 0)]));
        let mut bitmap = Bitmap::default();
        let ports = fulfil(&wishes, &[], &(30000..=32767), &mut bitmap, "s").unwrap();
        assert!(ports.iter().all(|p| (30000..=32767).contains(p)) && ports[0] != ports[1]);
    }
}
