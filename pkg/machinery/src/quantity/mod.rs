//! Resource quantities: exact fixed-point numbers with a suffix, as upstream's `resource.Quantity`.
//!
//! The observable behaviour follows upstream's apimachinery `pkg/api/resource` to the letter, its surprises
//! included: a text that parses on the short path and looks canonical is kept as written (`"1."`, `"+1"`,
//! `"01"`), sub-nano values round up, only binary suffixes are capped at 2^63-1, and a decimal exponent beyond
//! `E` prints no suffix.
//!
//! Differences, all for hostile input: where upstream would compute with millions of digits (`1e2000000000` plus
//! one), ours keeps the larger operand.
//!
//! Start at [`Quantity::parse`]; [`amount`] holds the arithmetic.

mod amount;
mod parse;
#[cfg(test)]
mod tests;

use crate::value::Str;
use amount::Amount;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

pub use parse::ParseError;

/// How a quantity is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `12e6`
    #[default]
    DecimalExponent,
    /// `12Mi`
    BinarySI,
    /// `12M`
    DecimalSI,
}

/// A fixed-point number together with the way it was, or will be, written.
#[derive(Clone, Debug, Default)]
pub struct Quantity {
    amount: Amount,
    format: Format,
    /// The text as parsed, where upstream keeps it. Cleared by arithmetic.
    text: Option<Str>,
}

impl Quantity {
    pub fn new(value: i64, format: Format) -> Self {
        Self::scaled(value, 0, format)
    }

    /// `value` thousandths.
    pub fn from_milli(value: i64, format: Format) -> Self {
        Self::scaled(value, -3, format)
    }

    /// `value * 10^scale`.
    pub fn scaled(value: i64, scale: i32, format: Format) -> Self {
        Self { amount: Amount::Small { value, scale }, format, text: None }
    }

    /// Zero without a format: what a missing field reads as. The first addition gives it one.
    pub fn zero() -> Self {
        Self::default()
    }

    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse::parse(text)
    }

    /// Whether the text is one of the usual ones that [`Quantity::parse`] and writing leave as they are, told without
    /// doing either. No says nothing.
    pub fn is_settled(text: &str) -> bool {
        parse::is_settled(text)
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn is_zero(&self) -> bool {
        self.amount.sign() == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.amount.sign()
    }

    /// The value in units, rounded away from zero; 0 where it does not fit (as upstream's `Value`).
    pub fn value(&self) -> i64 {
        self.scaled_value(0)
    }

    /// The value in thousandths, rounded away from zero.
    pub fn milli_value(&self) -> i64 {
        self.scaled_value(-3)
    }

    /// The value in units of `10^scale`, rounded away from zero.
    pub fn scaled_value(&self, scale: i32) -> i64 {
        self.amount.scaled_value(scale)
    }

    /// The value if it is a whole number kept in 64 bits.
    pub fn as_i64(&self) -> Option<i64> {
        self.amount.as_i64()
    }

    /// The nearest float, cheaply (upstream's `AsApproximateFloat64`).
    pub fn as_f64(&self) -> f64 {
        self.amount.as_f64()
    }

    pub fn add(&mut self, other: &Quantity) {
        self.text = None;
        if self.is_zero() {
            self.format = other.format;
        }
        self.amount = self.amount.add(&other.amount);
    }

    pub fn sub(&mut self, other: &Quantity) {
        self.text = None;
        if self.is_zero() {
            self.format = other.format;
        }
        self.amount = self.amount.add(&other.amount.neg());
    }

    /// Multiplies; answers whether the unscaled result still fits 64 bits.
    pub fn mul(&mut self, by: i64) -> bool {
        self.text = None;
        let (amount, fits) = self.amount.mul(by);
        self.amount = amount;
        fits
    }

    pub fn neg(&mut self) {
        self.text = None;
        self.amount = self.amount.neg();
    }

    /// Rounds away from zero to a multiple of `10^scale`; answers whether nothing was lost.
    pub fn round_up(&mut self, scale: i32) -> bool {
        let (amount, exact) = self.amount.round_up(scale);
        if amount.scale() != self.amount.scale() {
            self.text = None;
        }
        self.amount = amount;
        exact
    }

    pub fn set(&mut self, value: i64) {
        self.set_scaled(value, 0);
    }

    pub fn set_milli(&mut self, value: i64) {
        self.set_scaled(value, -3);
    }

    pub fn set_scaled(&mut self, value: i64, scale: i32) {
        self.text = None;
        self.amount = Amount::Small { value, scale };
    }

    pub fn cmp_i64(&self, other: i64) -> Ordering {
        self.amount.cmp(&Amount::Small { value: other, scale: 0 })
    }

    /// The canonical text, ignoring how the quantity was written.
    pub fn canonical(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = amount::write_canonical(&self.amount, self.format, &mut out);
        out
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(t) => f.write_str(t),
            None => amount::write_canonical(&self.amount, self.format, f),
        }
    }
}

impl FromStr for Quantity {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        Self::parse(s)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By value; the way of writing does not count.
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.amount.cmp(&other.amount)
    }
}

impl serde::Serialize for Quantity {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        Quantity::parse(text.trim()).map_err(serde::de::Error::custom)
    }
}
