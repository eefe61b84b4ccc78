//! Every parser on arbitrary input: an answer, never a panic, a hang, a deep stack or much memory; and what a parser
//! accepts must survive being written and read again.
//!
//! One binary holds all targets, the variable FUZZ_TARGET picks one (`hack/fuzz.sh`). A target that takes several
//! inputs gets them separated by a zero byte.
#![no_main]

mod apply;
mod codecs;
mod configs;
mod patches;
mod server;
mod values;

use libfuzzer_sys::{Corpus, fuzz_target};
use std::sync::OnceLock;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 20] = [
    ("json", codecs::json),
    ("json_any", codecs::json_any),
    ("yaml", codecs::yaml),
    ("protobuf", codecs::protobuf),
    ("protobuf_to_json", codecs::protobuf_to_json),
    ("typed", codecs::typed),
    ("quantity", values::quantity),
    ("time", values::time),
    ("duration", values::duration),
    ("int_or_string", values::int_or_string),
    ("labels", values::labels),
    ("fields", values::fields),
    ("json_patch", patches::json_patch),
    ("merge_patch", patches::merge_patch),
    ("strategic", patches::strategic),
    ("fields_v1", apply::fields_v1),
    ("apply", apply::apply),
    ("kubeconfig", configs::kubeconfig),
    ("config", configs::component_config),
    ("wal", server::wal),
];

static TARGET: OnceLock<Target> = OnceLock::new();

fuzz_target!(init: {
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    match TARGETS.iter().find(|t| t.0 == wanted) {
        Some((_, target)) => drop(TARGET.set(*target)),
        None => {
            let names: Vec<_> = TARGETS.iter().map(|t| t.0).collect();
            println!("{}", names.join("\n"));
            std::process::exit(0);
        }
    }
}, |data: &[u8]| -> Corpus {
    if let Some(target) = TARGET.get() {
        target(data);
    }
    Corpus::Keep
});

/// The first `N` inputs, separated by zero bytes; missing ones are empty.
fn inputs<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut parts = data.splitn(N, |b| *b == 0);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}
