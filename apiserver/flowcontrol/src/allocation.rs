//! Divides a sum among parties in proportion to their targets, each within its bounds.
//! Upstream: `k8s.io/apiserver/pkg/util/flowcontrol/conc_alloc.go`.

/// One who gets a share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Item {
    /// Its share is proportional to this where its bounds allow.
    pub target: f64,
    /// At least.
    pub lower: f64,
    /// At most.
    pub upper: f64,
}

const MIN_TARGET: f64 = 0.001;
const EPSILON: f64 = 1e-7;

/// An item whose bounds are relative to its target.
struct Relative {
    target: f64,
    lower: f64,
    upper: f64,
}

/// The one allocation that sums to `sum` and gives everyone `proportion * target`, cut to its bounds; and that
/// proportion.
///
/// # Errors
/// When the bounds contradict each other or the sum.
pub fn allocate(sum: f64, items: &[Item]) -> Result<(Vec<f64>, f64), String> {
    if sum < 0.0 {
        return Err("negative sums are not supported".to_owned());
    }
    let relative =
        items.iter().enumerate().map(|(at, item)| check(at, item)).collect::<Result<Vec<_>, _>>()?;
    let most = |of: fn(&Relative) -> f64| relative.iter().map(of).fold(0.0, f64::max);
    let least = |of: fn(&Relative) -> f64| relative.iter().map(of).fold(f64::from(f32::MAX), f64::min);
    let (lower_most, upper_least) = (most(|r| r.lower), least(|r| r.upper));
    let low: f64 = items.iter().map(|i| i.lower).sum();
    let high: f64 = items.iter().map(|i| i.upper).sum();
    if lower_most > 1.0 {
        return Err(format!("a lower bound is {lower_most} times its target"));
    }
    if low - sum > EPSILON {
        return Err(format!("lower bounds sum to {low}, which is higher than the required sum of {sum}"));
    }
    if sum - high > EPSILON {
        return Err(format!("upper bounds sum to {high}, which is lower than the required sum of {sum}"));
    }
    if sum == 0.0 {
        return Ok((vec![0.0; items.len()], 0.0));
    }
    if low - sum > -EPSILON {
        return Ok((items.iter().map(|i| i.lower).collect(), least(|r| r.lower)));
    }
    if sum - high > -EPSILON {
        return Ok((items.iter().map(|i| i.upper).collect(), most(|r| r.upper)));
    }
    let proportion = sum / relative.iter().map(|r| r.target).sum::<f64>();
    if lower_most <= proportion && proportion <= upper_least {
        return Ok((relative.iter().map(|r| r.target * proportion).collect(), proportion));
    }
    let proportion = search(sum, low, &relative)?;
    let share = |(item, r): (&Item, &Relative)| item.lower.max(item.upper.min(proportion * r.target));
    Ok((items.iter().zip(&relative).map(share).collect(), proportion))
}

fn check(at: usize, item: &Item) -> Result<Relative, String> {
    if item.lower < 0.0 {
        return Err(format!("lower bound {at} is {} but negative lower bounds are not allowed", item.lower));
    }
    if item.target < item.lower {
        let Item { target, lower, .. } = item;
        return Err(format!("target {at} is {target}, which is below its lower bound of {lower}"));
    }
    if item.upper < item.lower {
        let Item { upper, lower, .. } = item;
        return Err(format!(
            "upper bound {at} is {upper} but should not be less than the lower bound {lower}"
        ));
    }
    let target = item.target.max(MIN_TARGET);
    Ok(Relative { target, lower: item.lower / target, upper: item.upper / target })
}

/// Raises the proportion from bound to bound: at a lower bound an item's share begins to grow with it, at an upper
/// bound it stops.
fn search(sum: f64, low: f64, items: &[Relative]) -> Result<f64, String> {
    let mut bounds: Vec<(f64, f64)> =
        items.iter().flat_map(|r| [(r.lower, r.target), (r.upper, -r.target)]).collect();
    bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut so_far, mut proportion, mut growing) = (low, 0.0, 0.0);
    for (bound, change) in bounds {
        if growing > 0.0 {
            let solution = proportion + (sum - so_far) / growing;
            if solution <= bound {
                return Ok(solution);
            }
            so_far += (bound - proportion) * growing;
        }
        proportion = bound;
        growing += change;
    }
    Err("impossible: ran out of bounds to consider in bound-constrained problem".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item() -> impl Strategy<Value = Item> {
        (0u32..50, 0u32..50, 0u32..100).prop_map(|(lower, more, room)| Item {
            lower: lower.into(),
            target: (lower + more).into(),
            upper: (lower + room).into(),
        })
    }

    proptest! {
        #[test]
        fn sums_within_bounds(items in prop::collection::vec(item(), 1..8), at in 0.0f64..1.0) {
            let low: f64 = items.iter().map(|i| i.lower).sum();
            let high: f64 = items.iter().map(|i| i.upper).sum();
            let sum = (low + (high - low) * at).round();
            let (shares, proportion) = allocate(sum, &items).unwrap();
            prop_assert!((shares.iter().sum::<f64>() - sum).abs() < 1e-6);
            for (share, item) in shares.iter().zip(&items) {
                prop_assert!(*share >= item.lower - 1e-9 && *share <= item.upper + 1e-9);
                let fair = proportion * item.target.max(MIN_TARGET);
                let cut = item.lower.max(item.upper.min(fair));
                prop_assert!((share - cut).abs() < 1e-4 || sum == 0.0, "{share} {cut} {item:?}");
            }
        }
    }
}
