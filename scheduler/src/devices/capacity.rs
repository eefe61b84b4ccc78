//! Capacity of devices that several claims may share: what a request takes, rounded as the device's policy says, and
//! whether that much is left. Upstream: structured/internal/incubating/consumable_capacity.go.

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::{
    CapacityRequestPolicy, CapacityRequestPolicyRange, CapacityRequirements, DeviceCapacity,
};
use machinery::quantity::Quantity;

use super::slice::Device;
use super::supply::{Amounts, quantity};

/// The request is beyond what can be computed with: no device is tried further.
const UNREPRESENTABLE: &str = "capacity request cannot be represented in the device's range arithmetic";
const NEGATIVE: &str = "capacity value is negative";

fn capacities(device: &Device) -> impl Iterator<Item = (&String, &DeviceCapacity)> {
    device.capacity.iter().flatten()
}

/// What a request takes of every capacity of a device. Upstream: GetConsumedCapacityFromRequest.
pub fn consumed(
    wanted: Option<&CapacityRequirements>,
    device: &Device,
    fractional: bool,
) -> Result<Amounts, String> {
    let wanted = wanted.and_then(|w| w.requests.as_ref());
    let one = |(name, capacity): (&String, &DeviceCapacity)| {
        let asked = wanted.and_then(|w| w.get(name)).map(quantity);
        let amount = takes(asked, capacity, fractional).map_err(|e| format!("capacity {name:?}: {e}"));
        amount.map(|amount| (name.clone(), amount))
    };
    capacities(device).map(one).collect()
}

/// Whether a request can be met beside what others took and what the allocation under way takes.
/// Upstream: CmpRequestOverCapacity.
pub fn fits(
    wanted: Option<&CapacityRequirements>,
    device: &Device,
    taken: Option<&Amounts>,
    under_way: Option<&Amounts>,
    fractional: bool,
) -> Result<bool, String> {
    let known = |name: &String| device.capacity.as_ref().is_some_and(|c| c.contains_key(name));
    let asked = wanted.and_then(|w| w.requests.as_ref());
    if !asked.is_none_or(|a| a.keys().all(known)) {
        return Ok(false);
    }
    let consumed = consumed(wanted, device, fractional)?;
    if let Some((name, _)) = consumed.iter().find(|(_, q)| q.sign() < 0) {
        return Err(format!("capacity {name:?}: {NEGATIVE}"));
    }
    Ok(capacities(device).all(|(name, capacity)| {
        let mut sum = consumed.get(name).cloned().unwrap_or_default();
        if violates(&sum, capacity.request_policy.as_ref(), fractional) {
            return false;
        }
        for amounts in [taken, under_way].into_iter().flatten() {
            if let Some(more) = amounts.get(name) {
                sum.add(more);
            }
        }
        sum <= quantity(&capacity.value)
    }))
}

/// Upstream: calculateConsumedCapacity, fillEmptyRequest.
fn takes(asked: Option<Quantity>, capacity: &DeviceCapacity, fractional: bool) -> Result<Quantity, String> {
    let policy = capacity.request_policy.as_ref();
    let Some(asked) = asked else {
        return Ok(quantity(policy.and_then(|p| p.default.as_ref()).unwrap_or(&capacity.value)));
    };
    let Some(policy) = policy else { return Ok(asked) };
    if let Some(range) = &policy.valid_range {
        return round_up(asked, range, fractional);
    }
    let mut values = policy.valid_values.iter().flatten().map(quantity);
    Ok(values.find(|v| asked <= *v).unwrap_or(asked))
}

/// Thousandths, if there is nothing finer.
fn exact_milli(q: &Quantity) -> Option<i64> {
    let milli = q.milli_value();
    (Quantity::from_milli(milli, q.format()) == *q).then_some(milli)
}

/// A range is computed with in thousandths if that is switched on and they do, and in units if not. Upstream: useMilli.
fn in_milli(range: &CapacityRequestPolicyRange, fractional: bool) -> bool {
    let bounds = [Some(&range.min), range.max.as_ref()];
    let step = range.step.as_ref().map(quantity);
    fractional
        && bounds.into_iter().flatten().all(|q| exact_milli(&quantity(q)).is_some())
        && step.is_none_or(|s| exact_milli(&s).is_some_and(|m| m >= 1))
}

/// Upstream: roundUpRange.
fn round_up(
    asked: Quantity,
    range: &CapacityRequestPolicyRange,
    fractional: bool,
) -> Result<Quantity, String> {
    let min = quantity(&range.min);
    if asked < min {
        return Ok(min);
    }
    let Some(step) = range.step.as_ref().map(quantity) else { return Ok(asked) };
    let milli = in_milli(range, fractional);
    let wrong = |why: String| format!("{UNREPRESENTABLE}: {why}");
    let text = asked.to_string();
    let of = |q: &Quantity| if milli { q.milli_value() } else { q.value() };
    if milli && exact_milli(&asked).is_none() {
        return Err(wrong(format!("request {text} is not a representable milli value")));
    }
    if !milli && asked.cmp_i64(i64::MAX).is_gt() {
        return Err(wrong(format!("request {text} exceeds MaxInt64")));
    }
    let (low, by) = (of(&min), of(&step));
    let over = of(&asked).saturating_sub(low);
    let limit = if milli { "the milli-value range" } else { "MaxInt64" };
    let past = || wrong(format!("rounding request {text} up to the next step passes {limit}"));
    let whole = over.checked_div(by).ok_or_else(past)?;
    let steps = whole + i64::from(over.checked_rem(by) != Some(0));
    let value = by.checked_mul(steps).and_then(|v| low.checked_add(v)).ok_or_else(past)?;
    Ok(match milli {
        true if value % 1000 == 0 => Quantity::new(value / 1000, step.format()),
        true => Quantity::from_milli(value, step.format()),
        false => Quantity::new(value, step.format()),
    })
}

/// Upstream: violatesPolicy.
fn violates(amount: &Quantity, policy: Option<&CapacityRequestPolicy>, fractional: bool) -> bool {
    let Some(policy) = policy else { return false };
    if policy.default.as_ref().is_some_and(|d| quantity(d) == *amount) {
        return false;
    }
    if let Some(range) = &policy.valid_range {
        return outside(amount, range, fractional);
    }
    let values = policy.valid_values.as_deref().unwrap_or_default();
    !values.is_empty() && !values.iter().any(|v| quantity(v) == *amount)
}

/// Upstream: violateValidRange.
fn outside(amount: &Quantity, range: &CapacityRequestPolicyRange, fractional: bool) -> bool {
    if range.max.as_ref().is_some_and(|max| *amount > quantity(max)) {
        return true;
    }
    let Some(step) = range.step.as_ref().map(quantity) else { return false };
    let min = quantity(&range.min);
    if !in_milli(range, fractional) {
        return amount.value().wrapping_sub(min.value()).checked_rem(step.value()) != Some(0);
    }
    let Some(milli) = exact_milli(amount) else { return true };
    milli.wrapping_sub(min.milli_value()).checked_rem(step.milli_value()) != Some(0)
}

/// Adds to what the allocation under way takes of a device.
pub fn add(held: &mut Amounts, amounts: &Amounts) {
    for (name, amount) in amounts {
        held.entry(name.clone()).or_default().add(amount);
    }
}

/// Takes it back.
pub fn sub(held: &mut Amounts, amounts: &Amounts) {
    for (name, amount) in amounts {
        if let Some(there) = held.get_mut(name) {
            there.sub(amount);
        }
    }
}

/// As it is written.
pub fn written(
    amounts: &Amounts,
) -> BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity> {
    let text = |q: &Quantity| k8s_openapi::apimachinery::pkg::api::resource::Quantity(q.to_string());
    amounts.iter().map(|(name, q)| (name.clone(), text(q))).collect()
}
