//! The hash that ties a running container to its spec.
//!
//! It must equal upstream's, or every container restarts when one kubelet takes over from the other. Upstream hashes
//! the Go dump of the bytes of `{"image":..,"name":..}`: pkg/kubelet/container/helpers.go HashContainer, v1.37.

use k8s_openapi::api::core::v1::Container;

const OFFSET: u32 = 0x811c_9dc5;
const PRIME: u32 = 0x0100_0193;

/// FNV-1a, 32 bits, as a writer.
struct Fnv32a(u32);

impl Fnv32a {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(PRIME);
        }
    }
}

/// Hash of the parts of a container that force a restart when they change: name and image.
pub fn container_hash(container: &Container) -> u64 {
    let mut json = String::from("{\"image\":");
    go_json_string(container.image.as_deref().unwrap_or_default(), &mut json);
    json.push_str(",\"name\":");
    go_json_string(&container.name, &mut json);
    json.push('}');
    let mut hash = Fnv32a(OFFSET);
    hash.write(b"([]uint8)[");
    for (index, byte) in json.bytes().enumerate() {
        if index > 0 {
            hash.write(b" ");
        }
        hash.write(byte.to_string().as_bytes());
    }
    hash.write(b"]");
    u64::from(hash.0)
}

/// Writes a JSON string as Go's encoder does, with its escapes for HTML.
fn go_json_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_upstream() {
        let container = Container { name: "c".into(), image: Some("busybox:1".into()), ..Default::default() };
        assert_eq!(format!("{:x}", container_hash(&container)), "1aaabc84");
    }
}
