//! What a `TracingConfiguration` says, and what it may not say.

use machinery::golang::quote;
use serde::{Deserialize, Serialize};

use crate::endpoint;

/// More would be more than every span. Upstream: `maxSamplingRatePerMillion`.
const MILLION: i32 = 1_000_000;

/// The fields of `TracingConfiguration` of component-base/tracing/api/v1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Configuration {
    /// The collector, as gRPC names servers; `localhost:4317` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// How many traces of a million begin here; those that began elsewhere are continued as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling_rate_per_million: Option<i32>,
}

/// A field with a value it may not have; shown as upstream's `field.Invalid`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: Invalid value: {value}: {detail}")]
pub struct Invalid {
    /// Path.
    pub field: String,
    /// The value as it is shown.
    pub value: String,
    /// What is wrong.
    pub detail: String,
}

impl Configuration {
    /// Everything that is wrong, with paths below `path`. Upstream: `ValidateTracingConfiguration`.
    pub fn problems(&self, path: &str) -> Vec<Invalid> {
        let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let mut out = Vec::new();
        if let Some(rate) = self.sampling_rate_per_million {
            let detail = match rate {
                ..0 => "sampling rate must be positive",
                0..=MILLION => "",
                _ => "sampling rate per million must be less than or equal to one million",
            };
            if !detail.is_empty() {
                let (field, value) = (at("samplingRatePerMillion"), rate.to_string());
                out.push(Invalid { field, value, detail: detail.to_owned() });
            }
        }
        if let Some(Err((shown, detail))) = self.endpoint.as_deref().map(endpoint::check) {
            out.push(Invalid { field: at("endpoint"), value: quote(&shown), detail });
        }
        out
    }

    /// The share of traces that begin here.
    pub(crate) fn ratio(&self) -> f64 {
        f64::from(self.sampling_rate_per_million.unwrap_or(0)) / f64::from(MILLION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMES: &str = "Options are none, dns, unix, or unix-abstract.  See https://github.com/grpc/grpc/blob/master/doc/naming.md";

    fn check(endpoint: &str, rate: Option<i32>, want: &[&str]) {
        let endpoint = Some(endpoint).filter(|e| *e != "-").map(str::to_owned);
        let config = Configuration { endpoint, sampling_rate_per_million: rate };
        let found: Vec<String> = config.problems("tracing").iter().map(ToString::to_string).collect();
        assert_eq!(found, want, "{config:?}");
    }

    /// Recorded from upstream's `ValidateTracingConfiguration`.
    #[test]
    fn what_upstream_accepts_and_refuses() {
        for fine in [
            "-",
            "",
            "localhost:4317",
            "localhost",
            "dns://google.com:4317",
            "dns:///h:1",
            "unix://path/to/socket",
            "unix:/run/x.sock",
            "unix:///run/x.sock",
            "unix-abstract:///x",
            "[::1]:4317",
            "::1",
            "host:99999",
            "user@h:1",
            "[fe80::1%25en0]:1",
        ] {
            check(fine, Some(5), &[]);
        }
        check("-", Some(1_000_000), &[]);
        check("-", Some(0), &[]);
        check(
            "-",
            Some(-1),
            &["tracing.samplingRatePerMillion: Invalid value: -1: sampling rate must be positive"],
        );
        check(
            "-",
            Some(1_000_001),
            &[
                "tracing.samplingRatePerMillion: Invalid value: 1000001: sampling rate per million must be less than or equal to one million",
            ],
        );
        for (endpoint, shown, detail) in [
            (
                "http://localhost:4317",
                "http://localhost:4317",
                format!("unsupported scheme: http.  {SCHEMES}"),
            ),
            ("HTTP://x", "HTTP://x", format!("unsupported scheme: http.  {SCHEMES}")),
            ("//h:1", "//h:1", format!("unsupported scheme: .  {SCHEMES}")),
            ("/a//b", "/a//b", format!("unsupported scheme: .  {SCHEMES}")),
            ("dn%2s://h:1", "dn%2s://h:1", "first path segment in URL cannot contain colon".into()),
            ("1h://x", "1h://x", "first path segment in URL cannot contain colon".into()),
            ("://x", "://x", "missing protocol scheme".into()),
            ("host:port", "dns://host:port", "invalid port \":port\" after host".into()),
            ("a b:1", "dns://a b:1", "invalid character \" \" in host name".into()),
            ("host%zz:1", "dns://host%zz:1", "invalid URL escape \"%zz\"".into()),
            ("h:1/p%zz", "dns://h:1/p%zz", "invalid URL escape \"%zz\"".into()),
            ("[::1", "dns://[::1", "missing ']' in host".into()),
            ("host\u{1}:1", "dns://host\u{1}:1", "net/url: invalid control character in URL".into()),
        ] {
            let parse = if detail.starts_with("unsupported") {
                String::new()
            } else {
                format!("parse {}: ", quote(shown))
            };
            let want = format!("tracing.endpoint: Invalid value: {}: {parse}{detail}", quote(shown));
            check(endpoint, None, &[&want]);
        }
        let top = Configuration { endpoint: None, sampling_rate_per_million: Some(-1) }.problems("");
        assert_eq!(top[0].field, "samplingRatePerMillion");
    }

    #[test]
    fn ratio() {
        let of = |rate| Configuration { endpoint: None, sampling_rate_per_million: rate }.ratio();
        assert_eq!((of(None), of(Some(250_000)), of(Some(1_000_000))), (0.0, 0.25, 1.0));
    }
}
