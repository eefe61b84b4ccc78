//! How long a request may take.
//! Upstream: `k8s.io/apiserver/pkg/endpoints/filters/request_deadline.go`.

use std::time::{Duration, Instant};

use registry::errors::ApiError;

use crate::web::query::Query;

/// The client's `timeout` parameter if it is shorter than the server's limit. Of requests that may run as long as they
/// like it is not even looked at.
pub(super) fn of(
    query: &Query,
    long_running: bool,
    started: Instant,
    limit: Duration,
) -> Result<Instant, ApiError> {
    let wanted = match query.get("timeout").filter(|t| !t.is_empty() && !long_running) {
        None => limit,
        // A negative timeout is none.
        Some(text) => match parse_duration(text.strip_prefix('-').unwrap_or(text)) {
            Some(_) if text.starts_with('-') => limit,
            Some(Duration::ZERO) => limit,
            Some(wanted) => wanted.min(limit),
            None => {
                let why = format!("time: invalid duration {text:?}");
                return Err(ApiError::bad_request(format!(
                    "invalid timeout specified in the request URL - {why}"
                )));
            }
        },
    };
    Ok(started + wanted)
}

/// A non-negative Go duration (`1h2m3.5s`, `300ms`, `0`).
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, seconds) =
            [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)]
                .into_iter()
                .filter(|(unit, _)| rest.starts_with(unit))
                .max_by_key(|(unit, _)| unit.len())?;
        total += value * seconds;
        rest = &rest[unit.len()..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(total).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines() {
        let (started, limit) = (Instant::now(), Duration::from_secs(60));
        for (raw, long_running, want) in [
            ("", false, Some(60)),
            ("timeout=5s", false, Some(5)),
            ("timeout=1h", false, Some(60)),
            ("timeout=-1s", false, Some(60)),
            ("timeout=x", false, None),
            ("timeout=x", true, Some(60)),
        ] {
            let got = of(&Query::parse(raw), long_running, started, limit);
            let got = got.ok().map(|deadline| (deadline - started).as_secs());
            assert_eq!(got, want, "{raw} {long_running}");
        }
    }

    #[test]
    fn durations() {
        for (text, want) in [
            ("34s", Some(34_000)),
            ("1m30s", Some(90_000)),
            ("1.5s", Some(1500)),
            ("5ms", Some(5)),
            ("0", Some(0)),
        ] {
            assert_eq!(parse_duration(text), want.map(Duration::from_millis), "{text}");
        }
        for text in ["", "5", "s", "1x", "-1s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
