//! Finds the bytes of strings that need attention, many bytes at a time.
//!
//! Sixteen bytes are compared together, in a form that compilers turn into vector instructions; what is left is looked
//! at as one integer, where the lowest bit set tells the first byte.

const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES * 0x80;

/// The high bit of each byte that is zero; bits above the first one may be wrong.
#[inline(always)]
const fn zero(v: u64) -> u64 {
    v.wrapping_sub(ONES) & !v & HIGH
}

/// The high bit of each byte that equals `byte`, as [`zero`].
#[inline(always)]
const fn equal(v: u64, byte: u8) -> u64 {
    zero(v ^ (ONES * byte as u64))
}

/// The high bit of each byte below 0x20, as [`zero`].
#[inline(always)]
const fn control(v: u64) -> u64 {
    v.wrapping_sub(ONES * 0x20) & !v & HIGH
}

/// A set of bytes, told for one byte and for eight.
trait Special {
    fn one(b: u8) -> bool;
    /// The high bit of each byte of the set; bits above the first one may be wrong.
    fn eight(v: u64) -> u64;
}

/// What ends the plain part of a string that is read: quote, backslash, controls.
struct Ends;

impl Special for Ends {
    #[inline(always)]
    fn one(b: u8) -> bool {
        (b < 0x20) | (b == b'"') | (b == b'\\')
    }
    #[inline(always)]
    fn eight(v: u64) -> u64 {
        control(v) | equal(v, b'"') | equal(v, b'\\')
    }
}

/// What is not written as it is, or may not be: escapes, HTML characters, everything beyond ASCII.
struct Escapes;

impl Special for Escapes {
    #[inline(always)]
    fn one(b: u8) -> bool {
        // '"' and '&' differ in one bit, and so do '<' and '>'.
        !(0x20..0x80).contains(&b) | (b | 4 == b'&') | (b | 2 == b'>') | (b == b'\\')
    }
    #[inline(always)]
    fn eight(v: u64) -> u64 {
        control(v) | v & HIGH | equal(v | (ONES * 4), b'&') | equal(v | (ONES * 2), b'>') | equal(v, b'\\')
    }
}

/// What makes JSON text differ from how Go re-emits it: spaces, HTML characters, everything beyond ASCII.
struct Loose;

impl Special for Loose {
    #[inline(always)]
    fn one(b: u8) -> bool {
        !(0x21..0x80).contains(&b) | (b == b'&') | (b | 2 == b'>')
    }
    #[inline(always)]
    fn eight(v: u64) -> u64 {
        control(v) | equal(v, b' ') | v & HIGH | equal(v, b'&') | equal(v | (ONES * 2), b'>')
    }
}

/// Fewer than eight bytes as one integer, letters behind them.
#[inline(always)]
fn short(rest: &[u8]) -> u64 {
    let n = rest.len();
    let fill = (ONES * u64::from(b'a')).checked_shl(n as u32 * 8).unwrap_or(0);
    let bytes = match (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        (Some(front), Some(back)) => {
            u64::from(u32::from_le_bytes(*front)) | u64::from(u32::from_le_bytes(*back)) << ((n - 4) * 8)
        }
        _ => {
            let at = |i: usize| u64::from(rest.get(i).copied().unwrap_or(0)) << (i * 8);
            at(0) | at(1) | at(2)
        }
    };
    bytes | fill
}

/// How many bytes come before the first one of the set.
#[inline(always)]
fn before<S: Special>(data: &[u8]) -> usize {
    let mut at = 0;
    while let Some(sixteen) = data[at..].first_chunk::<16>() {
        if sixteen.iter().fold(false, |any, b| any | S::one(*b)) {
            break;
        }
        at += 16;
    }
    while let Some(eight) = data[at..].first_chunk::<8>() {
        let found = S::eight(u64::from_le_bytes(*eight));
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = &data[at..];
    at + rest.len().min((S::eight(short(rest)).trailing_zeros() / 8) as usize)
}

/// How many bytes come before the first quote, backslash or control character.
#[inline]
pub(super) fn before_end(data: &[u8]) -> usize {
    before::<Ends>(data)
}

/// How many bytes of a string Go writes as they are.
#[inline]
pub(super) fn before_escape(data: &[u8]) -> usize {
    before::<Escapes>(data)
}

/// Whether Go re-emits the JSON text as it is.
#[inline]
pub(super) fn is_compact(data: &[u8]) -> bool {
    before::<Loose>(data) == data.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<S: Special>() {
        for b in 0..=u8::MAX {
            for len in 0..40 {
                for at in 0..=len {
                    let mut data = vec![b'x'; len];
                    if let Some(place) = data.get_mut(at) {
                        *place = b;
                    }
                    let want = data.iter().position(|b| S::one(*b)).unwrap_or(len);
                    assert_eq!(before::<S>(&data), want, "{data:?}");
                }
            }
        }
        // Two neighbours, which must not disturb each other.
        for b in 0..=u8::MAX {
            for c in 0..=u8::MAX {
                let data = [b'x', b, c, b'x', b'x', b'x', b'x', b'x'];
                let want = data.iter().position(|b| S::one(*b)).unwrap_or(8);
                assert_eq!(before::<S>(&data), want, "{data:?}");
            }
        }
    }

    #[test]
    fn every_byte_at_every_place() {
        check::<Ends>();
        check::<Escapes>();
        check::<Loose>();
    }
}
