//! The effective configuration as a text for the log, so that a node's log tells what it ran with.

use serde_json::{Value, json};

/// The document in YAML, without what headers of requests for static pods say. Upstream: marshalKubeletConfigForLog in
/// cmd/kubelet/app/server.go, v1.37.
pub fn text(document: &Value) -> String {
    let mut document = document.clone();
    let headers = document.get_mut("staticPodURLHeader").and_then(Value::as_object_mut);
    for (_, value) in headers.into_iter().flatten() {
        *value = json!(["<masked>"]);
    }
    let mut out = String::new();
    // What serde writes is JSON.
    if let Ok(tree) = machinery::json::parse(document.to_string().as_bytes()) {
        machinery::yaml::write(&tree, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_headers() {
        let document = json!({"kind": "KubeletConfiguration", "eventBurst": 101,
            "staticPodURLHeader": {"a": ["Authorization: secret"]}});
        let expected =
            "eventBurst: 101\nkind: KubeletConfiguration\nstaticPodURLHeader:\n  a:\n  - <masked>\n";
        assert_eq!(text(&document), expected);
    }
}
