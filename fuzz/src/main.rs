//! Every parser on arbitrary input: an answer, never a panic, a hang, a deep stack or much memory; and what a parser
//! accepts must survive being written and read again.
//!
//! One binary holds all targets, the variable FUZZ_TARGET picks one (`hack/fuzz.sh`). A target that takes several
//! inputs gets them separated by a zero byte.
#![no_main]

#[cfg(feature = "daemons")]
mod apply;
#[cfg(feature = "daemons")]
mod codecs;
#[cfg(feature = "daemons")]
mod configs;
mod expressions;
#[cfg(feature = "daemons")]
mod patches;
#[cfg(feature = "daemons")]
mod server;
mod streams;
#[cfg(feature = "daemons")]
mod values;

use libfuzzer_sys::{Corpus, fuzz_target};
use std::sync::OnceLock;

type Target = fn(&[u8]);

const TARGETS: &[(&str, Target)] = &[
    ("cel", expressions::cel),
    ("spdy", streams::spdy),
    #[cfg(feature = "daemons")]
    ("json", codecs::json),
    #[cfg(feature = "daemons")]
    ("json_any", codecs::json_any),
    #[cfg(feature = "daemons")]
    ("yaml", codecs::yaml),
    #[cfg(feature = "daemons")]
    ("protobuf", codecs::protobuf),
    #[cfg(feature = "daemons")]
    ("protobuf_to_json", codecs::protobuf_to_json),
    #[cfg(feature = "daemons")]
    ("typed", codecs::typed),
    #[cfg(feature = "daemons")]
    ("quantity", values::quantity),
    #[cfg(feature = "daemons")]
    ("time", values::time),
    #[cfg(feature = "daemons")]
    ("duration", values::duration),
    #[cfg(feature = "daemons")]
    ("int_or_string", values::int_or_string),
    #[cfg(feature = "daemons")]
    ("labels", values::labels),
    #[cfg(feature = "daemons")]
    ("fields", values::fields),
    #[cfg(feature = "daemons")]
    ("json_patch", patches::json_patch),
    #[cfg(feature = "daemons")]
    ("merge_patch", patches::merge_patch),
    #[cfg(feature = "daemons")]
    ("strategic", patches::strategic),
    #[cfg(feature = "daemons")]
    ("fields_v1", apply::fields_v1),
    #[cfg(feature = "daemons")]
    ("apply", apply::apply),
    #[cfg(feature = "daemons")]
    ("kubeconfig", configs::kubeconfig),
    #[cfg(feature = "daemons")]
    ("config", configs::component_config),
    #[cfg(feature = "daemons")]
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
