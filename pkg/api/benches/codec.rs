//! Our codecs beside upstream's on the same object, in one run (`make bench`).
//!
//! Arguments: the object as JSON, and upstream's figures as e2e/oracle/bench printed them.

use api::codec::MediaType;
use k8s_openapi::api::core::v1::Pod;
use machinery::{json, proto};
use nix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::hint::black_box;
use std::time::Duration;
use sys::counting::Counting;

/// The daemons' allocator, counted.
#[global_allocator]
static ALLOCATOR: Counting<mimalloc::MiMalloc> = Counting(mimalloc::MiMalloc);

/// Processor time of this process, all threads together.
fn processor() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock of Linux").into()
}

/// Nanoseconds of processor time per run: the best of several rounds, which noise cannot lower. The other side is
/// measured in the same way.
fn time(mut run: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..7 {
        let (started, mut n) = (processor(), 0);
        let mut took = Duration::ZERO;
        while took < Duration::from_millis(150) {
            for _ in 0..16 {
                run();
            }
            n += 16;
            took = processor() - started;
        }
        best = best.min(took.as_nanos() as f64 / f64::from(n));
    }
    best
}

/// Allocations of one run.
fn allocations(mut run: impl FnMut()) -> u64 {
    let before = sys::counting::allocations();
    run();
    sys::counting::allocations() - before
}

/// Upstream's figures: name, nanoseconds, allocations.
fn figures(path: &str) -> HashMap<String, (f64, u64)> {
    let text = std::fs::read_to_string(path).expect("upstream's figures");
    let line = |l: &str| {
        let mut words = l.split(' ');
        let name = words.next()?.to_owned();
        Some((name, (words.next()?.parse().ok()?, words.next()?.parse().ok()?)))
    };
    text.lines().filter_map(line).collect()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let [object, figures_file] = &arguments[..] else {
        println!("skipped: wants an object and upstream's figures (make bench)");
        return;
    };
    let text = std::fs::read(object).expect("the object");
    let upstream = figures(figures_file);
    let table = api::types();
    let (id, decoded) = json::decode_kind(table, &text, true).expect("a kind of the table");
    let wire = proto::encode(table, id, &decoded.value);
    let typed: Pod = api::decode(MediaType::Protobuf, &wire).expect("a pod");
    println!("{} bytes of JSON, {} of protobuf", text.len(), wire.len());
    let read = || json::decode_kind(table, &text, true).expect("JSON").1.value;
    let cases: [(&str, &mut dyn FnMut()); 9] = [
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
        ("protobuf-to-informer", &mut || {
            let skip = api::codec::ManagedFields::Skip;
            black_box(api::codec::decode_with::<Pod>(MediaType::Protobuf, &wire, skip).expect("a pod"));
        }),
        ("typed-to-protobuf", &mut || {
            black_box(api::encode(MediaType::Protobuf, &typed).expect("a pod"));
        }),
    ];
    for (name, run) in cases {
        let (ours, made) = (time(&mut *run), allocations(&mut *run));
        // Upstream's objects are typed, so its plain decoding and encoding are what typed ones compare with.
        let other = match name {
            "protobuf-to-typed" | "protobuf-to-informer" => "protobuf-decode",
            "typed-to-protobuf" => "protobuf-encode",
            same => same,
        };
        let (theirs, their_made) = upstream.get(other).copied().unwrap_or((f64::NAN, 0));
        println!(
            "{name:20} {ours:7.0} ns {made:5} allocations   upstream {theirs:7.0} ns {their_made:5} allocations   ratio {:5.2}",
            theirs / ours
        );
    }
}
