//! Names that stay short and unique: hashes in letters, as upstream makes them.

use sha2::{Digest, Sha256};

/// The first letters of a text's SHA-256 in base 32; a multiple of eight, at most 48.
pub fn letters(text: &str, count: usize) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut name = String::with_capacity(count);
    for five in digest.chunks_exact(5).take(count / 8) {
        let bits = five.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        for letter in (0..8).rev() {
            let value = u8::try_from(bits >> (letter * 5) & 31).unwrap_or(0);
            name.push(char::from(if value < 26 { b'A' + value } else { b'2' + value - 26 }));
        }
    }
    name
}
