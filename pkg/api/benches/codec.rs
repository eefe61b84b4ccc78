//! Our codecs beside upstream's on the same object, in one run (`make bench`).
//!
//! Arguments: the object as JSON, and upstream's figures as e2e/oracle/bench printed them.

use api::codec::MediaType;
use k8s_openapi::api::core::v1::Pod;
use machinery::{json, proto};
use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Nanoseconds per run: the best of several rounds, which noise cannot lower.
fn time(mut run: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..7 {
        let (started, mut n) = (Instant::now(), 0);
        while started.elapsed() < Duration::from_millis(150) {
            for _ in 0..16 {
                run();
            }
            n += 16;
        }
        best = best.min(started.elapsed().as_nanos() as f64 / f64::from(n));
    }
    best
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let [object, figures] = &arguments[..] else {
        println!("skipped: wants an object and upstream's figures (make bench)");
        return;
    };
    let text = std::fs::read(object).expect("the object");
    let upstream: HashMap<String, f64> = std::fs::read_to_string(figures)
        .expect("upstream's figures")
        .lines()
        .filter_map(|l| {
            let mut words = l.split(' ');
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        })
        .collect();
    let table = api::types();
    let (id, decoded) = json::decode_kind(table, &text, true).expect("a kind of the table");
    let wire = proto::encode(table, id, &decoded.value);
    let typed: Pod = api::decode(MediaType::Protobuf, &wire).expect("a pod");
    println!("{} bytes of JSON, {} of protobuf", text.len(), wire.len());
    let read = || json::decode_kind(table, &text, true).expect("JSON").1.value;
    let cases: [(&str, &mut dyn FnMut()); 8] = [
        ("json-to-protobuf", &mut || {
            black_box(proto::encode(table, id, &read()));
        }),
        ("protobuf-to-json", &mut || {
            let mut out = Vec::with_capacity(16 << 10);
            proto::to_json(table, &wire, &mut out).expect("protobuf");
            black_box(out);
        }),
        ("json-decode", &mut || {
            black_box(read());
        }),
        ("json-encode", &mut || {
            black_box(json::encode(table, id, &decoded.value));
        }),
        ("protobuf-decode", &mut || {
            black_box(proto::decode(table, &wire).expect("protobuf"));
        }),
        ("protobuf-encode", &mut || {
            black_box(proto::encode(table, id, &decoded.value));
        }),
        ("protobuf-to-typed", &mut || {
            black_box(api::decode::<Pod>(MediaType::Protobuf, &wire).expect("a pod"));
        }),
        ("typed-to-protobuf", &mut || {
            black_box(api::encode(MediaType::Protobuf, &typed).expect("a pod"));
        }),
    ];
    for (name, run) in cases {
        let ours = time(run);
        // Upstream's objects are typed, so its plain decoding and encoding are what typed ones compare with.
        let other = match name {
            "protobuf-to-typed" => "protobuf-decode",
            "typed-to-protobuf" => "protobuf-encode",
            same => same,
        };
        let theirs = upstream.get(other).copied().unwrap_or(f64::NAN);
        println!("{name:18} {ours:9.0} ns   upstream {theirs:9.0} ns   ratio {:5.2}", theirs / ours);
    }
}
