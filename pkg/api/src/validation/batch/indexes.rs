//! Lists of completion indexes: `1,3-5`.

/// How many indexes there are below `completions`.
///
/// # Errors
/// Upstream's texts (`validateIndexesFormat`).
pub(super) fn count(text: &str, completions: i32) -> Result<i32, String> {
    let mut total = 0_i32;
    let mut last: Option<i32> = None;
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (from, to) = interval(part, completions)?;
        if let Some(last) = last.filter(|l| *l >= from) {
            return Err(format!("non-increasing order, previous: {last}, current: {from}"));
        }
        total = total.saturating_add(to.saturating_sub(from).saturating_add(1));
        last = Some(to);
    }
    Ok(total)
}

fn interval(text: &str, completions: i32) -> Result<(i32, i32), String> {
    let quoted = |t: &str| crate::validation::field::quote(t);
    let index = |t: &str| -> Result<i32, String> {
        // Go's Atoi takes a plus sign too.
        let value = t
            .parse::<i64>()
            .map_err(|_| format!("cannot convert string to integer for index: {}", quoted(t)))?;
        match i32::try_from(value) {
            Ok(value) if value < completions => Ok(value),
            Err(_) if value < 0 => Ok(i32::MIN),
            _ => Err(format!("too large index: {}", quoted(t))),
        }
    };
    match text.split('-').collect::<Vec<_>>()[..] {
        [one] => index(one).map(|i| (i, i)),
        [from, to] => {
            let (from, to) = (index(from)?, index(to)?);
            if from >= to {
                return Err(format!("non-increasing order, previous: {from}, current: {to}"));
            }
            Ok((from, to))
        }
        _ => Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            quoted(text)
        )),
    }
}

/// The first index of both lists; intervals that cannot be read are passed over.
pub(super) fn overlap(a: &str, b: &str, completions: i32) -> Option<i32> {
    let parsed = |text: &str| -> Vec<(i32, i32)> {
        text.split(',').filter(|_| !text.is_empty()).filter_map(|p| interval(p, completions).ok()).collect()
    };
    let (a, b) = (parsed(a), parsed(b));
    let (mut i, mut j) = (0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        if x.0 <= y.1 && y.0 <= x.1 {
            return Some(x.0.max(y.0));
        }
        if x.0 <= y.0 { i += 1 } else { j += 1 }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_overlaps() {
        assert_eq!(count("1,3-5", 10), Ok(4));
        assert_eq!(count("", 10), Ok(0));
        assert!(count("3,1", 10).unwrap_err().starts_with("non-increasing"));
        assert!(count("10", 10).unwrap_err().starts_with("too large"));
        assert!(count("1-2-3", 10).unwrap_err().contains("at most two parts"));
        assert_eq!(overlap("1,3-5", "0,4", 10), Some(4));
        assert_eq!(overlap("1", "2", 10), None);
    }
}
