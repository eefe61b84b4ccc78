//! Small values.

use crate::text;
use machinery::{Quantity, Value, fields as fs, labels as ls, time as t};

pub fn quantity(data: &[u8]) {
    let Ok(q) = Quantity::parse(&text(data)) else { return };
    let again = Quantity::parse(&q.canonical()).expect("own output");
    // There is no suffix for more, and upstream writes the digits without one (`CanonicalizeBytes`): 1e21 in a decimal
    // form of digits alone becomes 1.
    if q.as_f64().abs() < 1e21 {
        assert_eq!(again.cmp(&q), std::cmp::Ordering::Equal);
    }
    let (mut sum, mut product, mut rounded) = (q.clone(), q.clone(), q.clone());
    sum.add(&q);
    sum.sub(&q);
    product.mul(i64::MAX);
    rounded.round_up(-3);
    let _ = (sum.to_string(), product.to_string(), rounded.milli_value(), q.value(), q.as_f64(), q.cmp(&rounded));
}

pub fn time(data: &[u8]) {
    let text = text(data);
    for at in [t::parse_rfc3339(&text), t::parse_micro(&text)].into_iter().flatten() {
        if t::YEARS.contains(&at.seconds) {
            let again = t::parse_rfc3339(&t::format_rfc3339(at.seconds)).expect("own output");
            assert_eq!(again.seconds, at.seconds);
            t::parse_micro(&t::format_micro(at)).expect("own output");
        }
    }
}

pub fn duration(data: &[u8]) {
    if let Ok(d) = t::parse_duration(&text(data)) {
        assert_eq!(t::parse_duration(&t::format_duration(d)).ok(), Some(d));
    }
    let _ = component::duration::GoDuration::parse(&text(data));
}

/// The place of an int-or-string: the port of a probe.
pub fn int_or_string(data: &[u8]) {
    let mut document = br#"{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"name":"c","livenessProbe":{"httpGet":{"port":"#.to_vec();
    document.extend_from_slice(data);
    document.extend_from_slice(b"}}}]}}");
    crate::codecs::json(&document);
}

pub fn labels(data: &[u8]) {
    let text = text(data);
    if let Ok(s) = ls::parse(&text) {
        let again = ls::parse(&s.to_string()).expect("own output");
        assert_eq!(again.to_string(), s.to_string());
        s.matches(&std::collections::BTreeMap::from([("a".to_string(), "b".to_string())]));
    }
    if let Ok(v) = machinery::json::parse(data) {
        let _ = ls::Selector::from_value(Some(&v));
    }
}

pub fn fields(data: &[u8]) {
    if let Ok(s) = fs::parse(&text(data)) {
        // Terms sort by their text, which the first reading may have changed.
        let once = fs::parse(&s.to_string()).expect("own output");
        assert_eq!(fs::parse(&once.to_string()).expect("own output").to_string(), once.to_string());
    }
}

/// A tree from JSON; null if it is none.
pub fn tree(data: &[u8]) -> Value {
    machinery::json::parse(data).unwrap_or_default()
}
