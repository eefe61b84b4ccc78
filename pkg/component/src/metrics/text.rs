//! The two text formats. Upstream: prometheus/common/expfmt text_create.go, openmetrics_create.go.

use std::fmt::Write;

use super::collect::{Kind, Metrics, Sample, Value};
use crate::flags::format_float;

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    }
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

fn labels(out: &mut String, sample: &Sample, bound: Option<&str>) {
    if sample.labels.is_empty() && bound.is_none() {
        return;
    }
    out.push('{');
    let mut first = true;
    let own = sample.labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    for (name, value) in own.chain(bound.map(|b| ("le", b))) {
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        escape(out, value, true);
        out.push('"');
    }
    out.push('}');
}

/// `text/plain; version=0.0.4`.
pub(super) fn prometheus(families: &[Metrics]) -> String {
    let mut out = String::new();
    for family in families {
        if !family.help.is_empty() {
            let _ = write!(out, "# HELP {} ", family.name);
            escape(&mut out, &family.help, false);
            out.push('\n');
        }
        let _ = writeln!(out, "# TYPE {} {}", family.name, kind(family.kind));
        for sample in &family.samples {
            let stamp = sample.timestamp_ms.map(|t| format!(" {t}")).unwrap_or_default();
            samples(&mut out, &family.name, sample, &stamp, &|v| format_float(v, 64));
        }
    }
    out
}

/// `application/openmetrics-text; version=1.0.0`.
pub(super) fn openmetrics(families: &[Metrics]) -> String {
    let mut out = String::new();
    let float = |v: f64| {
        let text = format_float(v, 64);
        if text.contains(['.', 'e', 'N', 'I']) { text } else { text + ".0" }
    };
    for family in families {
        let total = family.name.strip_suffix("_total").filter(|_| family.kind == Kind::Counter);
        let name = total.unwrap_or(&family.name);
        let shown = match family.kind {
            // A counter must end in _total; one that does not has no type there.
            Kind::Counter if total.is_none() => "unknown",
            other => kind(other),
        };
        if !family.help.is_empty() {
            let _ = write!(out, "# HELP {name} ");
            escape(&mut out, &family.help, true);
            out.push('\n');
        }
        let _ = writeln!(out, "# TYPE {name} {shown}");
        for sample in &family.samples {
            let stamp =
                sample.timestamp_ms.map(|t| format!(" {}", float(t as f64 / 1e3))).unwrap_or_default();
            samples(&mut out, &family.name, sample, &stamp, &float);
        }
    }
    out.push_str("# EOF\n");
    out
}

fn samples(out: &mut String, name: &str, sample: &Sample, stamp: &str, float: &dyn Fn(f64) -> String) {
    match &sample.value {
        Value::Number(value) => {
            out.push_str(name);
            labels(out, sample, None);
            let _ = writeln!(out, " {}{stamp}", float(*value));
        }
        Value::Histogram { buckets, count, sum } => {
            let bounds = buckets.iter().map(|(bound, n)| (float(*bound), *n));
            for (bound, n) in bounds.chain([("+Inf".to_string(), *count)]) {
                let _ = write!(out, "{name}_bucket");
                labels(out, sample, Some(&bound));
                let _ = writeln!(out, " {n}{stamp}");
            }
            let _ = write!(out, "{name}_sum");
            labels(out, sample, None);
            let _ = writeln!(out, " {}{stamp}", float(*sum));
            let _ = write!(out, "{name}_count");
            labels(out, sample, None);
            let _ = writeln!(out, " {count}{stamp}");
        }
    }
}
