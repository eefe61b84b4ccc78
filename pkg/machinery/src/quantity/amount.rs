//! The number inside a quantity: 64 bits with a decimal scale, or arbitrary precision where that overflows.

use super::Format;
use num_bigint::{BigInt, Sign};
use std::cmp::Ordering;
use std::fmt;

/// Difference of scales beyond which digits are not aligned any more: the smaller operand cannot be seen.
const MAX_SHIFT: i64 = 20_000;

/// `unscaled * 10^scale`.
#[derive(Clone, Debug)]
pub(super) struct Dec {
    pub unscaled: BigInt,
    pub scale: i64,
}

#[derive(Clone, Debug)]
pub(super) enum Amount {
    /// `value * 10^scale`.
    Small {
        value: i64,
        scale: i32,
    },
    Big(Box<Dec>),
}

impl Default for Amount {
    fn default() -> Self {
        Amount::Small { value: 0, scale: 0 }
    }
}

impl From<i64> for Dec {
    fn from(v: i64) -> Dec {
        Dec { unscaled: v.into(), scale: 0 }
    }
}

fn pow10(n: i64) -> BigInt {
    BigInt::from(10).pow(n.clamp(0, MAX_SHIFT) as u32)
}

impl Dec {
    pub fn sign(&self) -> i32 {
        match self.unscaled.sign() {
            Sign::Minus => -1,
            Sign::NoSign => 0,
            Sign::Plus => 1,
        }
    }

    fn neg(&self) -> Dec {
        Dec { unscaled: -&self.unscaled, scale: self.scale }
    }

    /// Upper bound of the number of decimal digits, at most one too many.
    fn digits(&self) -> i64 {
        // 643/2136 is just above log10(2).
        (self.unscaled.bits() as i64 * 643) / 2136 + 1
    }

    pub fn compare(&self, other: &Dec) -> Ordering {
        let signs = self.sign().cmp(&other.sign());
        if signs != Ordering::Equal || self.sign() == 0 {
            return signs;
        }
        // Far apart in size: no need to write the digits out.
        let (a, b) = (self.digits() + self.scale, other.digits() + other.scale);
        if (a - b).abs() > 2 {
            let by_size = a.cmp(&b);
            return if self.sign() < 0 { by_size.reverse() } else { by_size };
        }
        let low = self.scale.min(other.scale);
        let lift = |d: &Dec| &d.unscaled * pow10(d.scale - low);
        lift(self).cmp(&lift(other))
    }

    fn add(&self, other: &Dec) -> Dec {
        if self.sign() == 0 || other.sign() == 0 {
            let (value, zero) = if self.sign() == 0 { (other, self) } else { (self, other) };
            let low = value.scale.min(zero.scale);
            if value.scale - low > MAX_SHIFT {
                return value.clone();
            }
            return Dec { unscaled: &value.unscaled * pow10(value.scale - low), scale: low };
        }
        let (high, low) = if self.scale >= other.scale { (self, other) } else { (other, self) };
        let shift = high.scale - low.scale;
        if shift > MAX_SHIFT {
            let larger = if high.digits() + high.scale >= low.digits() + low.scale { high } else { low };
            return larger.clone();
        }
        Dec { unscaled: &high.unscaled * pow10(shift) + &low.unscaled, scale: low.scale }
    }

    /// Away from zero to a multiple of `10^scale`; the result has exactly that scale where it can be reached.
    pub fn round_up(&self, scale: i64) -> Dec {
        let shift = scale - self.scale;
        if shift <= 0 {
            if -shift > MAX_SHIFT {
                return self.clone();
            }
            return Dec { unscaled: &self.unscaled * pow10(-shift), scale };
        }
        if self.sign() == 0 || shift > self.digits() {
            return Dec { unscaled: self.sign().into(), scale };
        }
        let divisor = pow10(shift);
        let (mut quotient, remainder) = (&self.unscaled / &divisor, &self.unscaled % &divisor);
        if remainder.sign() != Sign::NoSign {
            quotient += self.sign();
        }
        Dec { unscaled: quotient, scale }
    }

    /// The low 64 bits, as Go's `big.Int.Int64`.
    fn low_i64(v: &BigInt) -> i64 {
        let magnitude = v.iter_u64_digits().next().unwrap_or(0) as i64;
        if v.sign() == Sign::Minus { magnitude.wrapping_neg() } else { magnitude }
    }

    fn scaled_value(&self, scale: i64) -> i64 {
        let shift = scale - self.scale;
        if shift <= 0 {
            let factor = 10_f64.powi((-shift).min(400) as i32) as i64;
            return Self::low_i64(&self.unscaled).wrapping_mul(factor);
        }
        // Upstream's short path looks at the low 64 bits only, right or wrong, and always rounds upwards.
        if shift < 19 && self.unscaled < BigInt::from(i64::MAX) {
            let (low, divisor) = (Self::low_i64(&self.unscaled), 10_i64.pow(shift as u32));
            return low / divisor + i64::from(low % divisor != 0);
        }
        if shift > self.digits() {
            // Floor and one more: -1 + 1 for negative values.
            return i64::from(self.sign() > 0);
        }
        let divisor = pow10(shift);
        let (mut quotient, remainder) = (&self.unscaled / &divisor, &self.unscaled % &divisor);
        if remainder.sign() == Sign::Plus {
            quotient += 1;
        }
        Self::low_i64(&quotient)
    }
}

/// `value * 10^by` if it fits.
fn lift(value: i64, by: i64) -> Option<i64> {
    if value == 0 {
        return Some(0);
    }
    10_i64.checked_pow(u32::try_from(by).ok()?)?.checked_mul(value)
}

/// `value / 10^by`, away from zero, and whether that was exact.
fn lower(value: i64, by: i64) -> (i64, bool) {
    let Some(divisor) = u32::try_from(by).ok().and_then(|n| 10_i64.checked_pow(n)) else {
        return (value.signum(), value == 0);
    };
    let (quotient, remainder) = (value / divisor, value % divisor);
    (quotient + remainder.signum(), remainder == 0)
}

impl Amount {
    pub fn scale(&self) -> i64 {
        match self {
            Amount::Small { scale, .. } => i64::from(*scale),
            Amount::Big(d) => d.scale,
        }
    }

    pub fn sign(&self) -> i32 {
        match self {
            Amount::Small { value, .. } => value.signum() as i32,
            Amount::Big(d) => d.sign(),
        }
    }

    fn dec(&self) -> Dec {
        match self {
            Amount::Small { value, scale } => Dec { unscaled: (*value).into(), scale: i64::from(*scale) },
            Amount::Big(d) => (**d).clone(),
        }
    }

    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Amount::Small { value, scale } if *scale >= 0 => lift(*value, i64::from(*scale)),
            _ => None,
        }
    }

    pub fn as_f64(&self) -> f64 {
        let (base, scale) = match self {
            Amount::Small { value, scale } => (*value as f64, i64::from(*scale)),
            // Through text: correctly rounded, and infinite rather than wrong when too large.
            Amount::Big(d) => (d.unscaled.to_string().parse().unwrap_or(f64::INFINITY), d.scale),
        };
        if scale == 0 { base } else { base * 10_f64.powi(scale.clamp(-400, 400) as i32) }
    }

    pub fn scaled_value(&self, want: i32) -> i64 {
        match self {
            Amount::Small { value, scale } => {
                let up = i64::from(*scale) - i64::from(want);
                match up {
                    ..=-1 => lower(*value, -up).0,
                    // Upstream multiplies these at once and keeps what overflowed, others step by step.
                    1 | 2 | 3 | 6 | 9 => value.wrapping_mul(10_i64.pow(up as u32)),
                    _ => lift(*value, up).unwrap_or(0),
                }
            }
            Amount::Big(d) => d.scaled_value(i64::from(want)),
        }
    }

    pub fn round_up(&self, to: i32) -> (Amount, bool) {
        match self {
            Amount::Small { scale, .. } if *scale >= to => (self.clone(), true),
            Amount::Small { value, scale } => {
                let (value, exact) = lower(*value, i64::from(to) - i64::from(*scale));
                (Amount::Small { value, scale: to }, exact)
            }
            Amount::Big(d) => {
                let rounded = d.round_up(i64::from(to));
                let exact = rounded.compare(d).is_eq();
                (Amount::Big(Box::new(rounded)), exact)
            }
        }
    }

    pub fn neg(&self) -> Amount {
        match self {
            Amount::Small { value, scale } if *value != i64::MIN => {
                Amount::Small { value: -value, scale: *scale }
            }
            other => Amount::Big(Box::new(other.dec().neg())),
        }
    }

    pub fn add(&self, other: &Amount) -> Amount {
        if let (Amount::Small { value: a, scale: s }, Amount::Small { value: b, scale: t }) = (self, other) {
            if *b == 0 {
                return self.clone();
            }
            if *a == 0 {
                return other.clone();
            }
            let low = (*s).min(*t);
            let up = |v: i64, scale: i32| lift(v, i64::from(scale) - i64::from(low));
            if let Some(value) = up(*a, *s).zip(up(*b, *t)).and_then(|(x, y)| x.checked_add(y)) {
                return Amount::Small { value, scale: low };
            }
        }
        Amount::Big(Box::new(self.dec().add(&other.dec())))
    }

    pub fn mul(&self, by: i64) -> (Amount, bool) {
        if let Amount::Small { value, scale } = self {
            if *value == 0 {
                return (self.clone(), true);
            }
            if by == 0 {
                return (Amount::default(), true);
            }
            if let Some(v) = value.checked_mul(by)
                && (*scale <= 0 || lift(v, i64::from(*scale)).is_some())
            {
                return (Amount::Small { value: v, scale: *scale }, true);
            }
        }
        let mut d = self.dec();
        d.unscaled *= by;
        let fits = i64::try_from(&d.unscaled).is_ok();
        (Amount::Big(Box::new(d)), fits)
    }

    pub fn cmp(&self, other: &Amount) -> Ordering {
        match (self, other) {
            (Amount::Small { value: a, scale: s }, Amount::Small { value: b, scale: t }) if s == t => {
                a.cmp(b)
            }
            (a, b) => a.dec().compare(&b.dec()),
        }
    }
}

/// Divides by `factor` as often as it goes without remainder.
fn strip(mut v: BigInt, factor: u32) -> (BigInt, i64) {
    let mut times = 0;
    while v.sign() != Sign::NoSign && (&v % factor).sign() == Sign::NoSign {
        v /= factor;
        times += 1;
    }
    (v, times)
}

fn strip_i64(mut v: i64, factor: i64) -> (i64, i64) {
    let mut times = 0;
    while (v >= factor || v <= -factor) && v % factor == 0 {
        v /= factor;
        times += 1;
    }
    (v, times)
}

/// The canonical form, after `Quantity.CanonicalizeBytes`.
pub(super) fn write_canonical<W: fmt::Write>(amount: &Amount, format: Format, out: &mut W) -> fmt::Result {
    if amount.sign() == 0 {
        return out.write_char('0');
    }
    if format == Format::BinarySI {
        let small = |n: i64| Amount::Small { value: n, scale: 0 };
        let below_1ki = amount.cmp(&small(-1024)).is_gt() && amount.cmp(&small(1024)).is_lt();
        if !below_1ki {
            let (rounded, exact) = amount.round_up(0);
            if exact {
                return write_binary(&rounded, out);
            }
        }
    }
    let format = if format == Format::BinarySI { Format::DecimalSI } else { format };
    write_decimal(amount, format, out)
}

fn write_binary<W: fmt::Write>(amount: &Amount, out: &mut W) -> fmt::Result {
    let small = match amount {
        Amount::Small { value, scale } if *scale >= 0 => lift(*value, i64::from(*scale)),
        _ => None,
    };
    let times = match small {
        Some(v) => {
            let (v, times) = strip_i64(v, 1024);
            write!(out, "{v}")?;
            times
        }
        None => {
            let (v, times) = strip(amount.dec().round_up(0).unscaled, 1024);
            write!(out, "{v}")?;
            times
        }
    };
    let suffix = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    out.write_str(suffix.get(times as usize).unwrap_or(&""))
}

fn write_decimal<W: fmt::Write>(amount: &Amount, format: Format, out: &mut W) -> fmt::Result {
    let lifted = |v: i64, exponent: i64| lift(v, exponent.rem_euclid(3)).map(|v| (v, exponent));
    let small = match amount {
        Amount::Small { value, scale } => {
            let (v, times) = strip_i64(*value, 10);
            lifted(v, i64::from(*scale) + times)
        }
        Amount::Big(_) => None,
    };
    let exponent = match small {
        Some((v, exponent)) => {
            write!(out, "{v}")?;
            exponent
        }
        None => {
            let d = amount.dec();
            let (v, times) = strip(d.unscaled, 10);
            let exponent = d.scale + times;
            write!(out, "{}", v * pow10(exponent.rem_euclid(3)))?;
            exponent
        }
    };
    let exponent = exponent - exponent.rem_euclid(3);
    if format == Format::DecimalExponent {
        return if exponent == 0 { Ok(()) } else { write!(out, "e{exponent}") };
    }
    let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    let at = usize::try_from(exponent / 3 + 3).ok();
    out.write_str(at.and_then(|i| suffix.get(i)).unwrap_or(&""))
}
