use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::layer::SubscriberExt;

use super::*;

fn capture(format: Format, log: impl FnOnce()) -> String {
    let memory = Arc::new(Mutex::new(String::new()));
    let layer = KlogLayer::new(format, Output::Memory(memory.clone()));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
    Arc::try_unwrap(memory).map(Mutex::into_inner).unwrap_or_default()
}

#[test]
fn text_lines_are_klogs() {
    let out = capture(Format::Text, || {
        tracing::info!(pod = "ns/a", count = 3, ok = true, "Synced \"pod\"");
        let error = std::io::Error::other("boom");
        tracing::error!(err = &error as &dyn std::error::Error, "Failed");
        tracing::warn!(lines = "one\ntwo", "Odd");
    });
    let header = regex::Regex::new(r"(?m)^([IWE])\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ tests\.rs:\d+\] ").unwrap();
    let bare = header.replace_all(&out, "$1 ");
    let expected = "I \"Synced \\\"pod\\\"\" pod=\"ns/a\" count=3 ok=true\n\
                    E \"Failed\" err=\"boom\"\n\
                    W \"Odd\" lines=<\n\tone\n\ttwo\n >\n";
    assert_eq!(bare, expected);
}

#[test]
fn json_lines_parse() {
    let out = capture(Format::Json, || {
        tracing::info!(v = 2i64, key = "a\"b", n = 1.5, "hello");
        tracing::error!(err = "no", "bad");
    });
    let lines: Vec<serde_json::Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines[0]["msg"], "hello");
    assert_eq!(lines[0]["v"], 2);
    assert_eq!(lines[0]["key"], "a\"b");
    assert_eq!(lines[0]["n"], 1.5);
    assert!(lines[0]["ts"].as_f64().unwrap() > 1e12);
    assert!(lines[1].get("v").is_none());
}

#[test]
fn patterns() {
    for (pattern, text, expected) in [
        ("kubelet", "kubelet", true),
        ("kube*", "kubelet", true),
        ("*let", "kubelet", true),
        ("k?belet", "kubelet", true),
        ("kube", "kubelet", false),
        ("*a*b*c", "xaxbxc", true),
        ("", "x", false),
    ] {
        assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
    }
}
