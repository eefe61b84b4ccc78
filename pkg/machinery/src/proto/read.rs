//! Types that read themselves from a message: for readers that keep a few fields of many objects, where going by the type
//! table costs several times what those fields cost.
//!
//! [`message!`](crate::message) names a struct's fields with their numbers; everything else is passed over. The result must
//! be what serde makes of the same message: tests of such types compare both, and the numbers to the table ([`misnamed`]).
//! A message that is legal and odd may be refused; the caller then goes the long way ([`super::from_slice`]), which also
//! words errors.

use std::borrow::Cow;

use super::decode;
use super::wire::{BYTES, Error, Result, VARINT, Wire};
use crate::schema::TypeTable;
use crate::time;

/// A value that fills a field.
pub trait Value: Sized {
    /// Reads one.
    ///
    /// # Errors
    /// The wire has something else.
    fn read(wire: u8, from: &mut Wire<'_>) -> Result<Self>;

    /// JSON leaves it out of fields that may be left out.
    fn is_zero(&self) -> bool;
}

/// A struct whose fields are read one by one.
pub trait Message: Default {
    /// Its name in the type table.
    const TYPE: &'static str;
    /// Numbers and names of the fields that are read.
    const FIELDS: &'static [(u32, &'static str)];

    /// Takes in what a message says.
    ///
    /// # Errors
    /// It is no message of this type, or an odd one.
    fn merge(&mut self, message: &[u8]) -> Result<()>;
}

/// Not to be read this way.
pub fn odd(wire: u8) -> Error {
    Error::WireType { wire, field: String::new() }
}

/// A part with a length.
///
/// # Errors
/// The wire has something else.
pub fn part<'a>(wire: u8, from: &mut Wire<'a>) -> Result<&'a [u8]> {
    if wire == BYTES { from.bytes() } else { Err(odd(wire)) }
}

/// A text; what is no UTF-8 is replaced, as in JSON.
///
/// # Errors
/// The wire has something else.
pub fn text<'a>(wire: u8, from: &mut Wire<'a>) -> Result<Cow<'a, str>> {
    part(wire, from).map(crate::json::lossy)
}

/// Seconds since 1970 of a time; none of the zero time, which stands for no time.
///
/// # Errors
/// The wire has something else, or a time that JSON cannot have.
pub fn seconds(wire: u8, from: &mut Wire<'_>) -> Result<Option<i64>> {
    let instant = decode::instant(part(wire, from)?)?;
    match instant.seconds {
        _ if instant.is_zero() => Ok(None),
        seconds if time::YEARS.contains(&seconds) => Ok(Some(seconds)),
        _ => Err(odd(wire)),
    }
}

/// A quantity in its canonical form.
///
/// # Errors
/// The wire has something else, or no quantity.
pub fn quantity(wire: u8, from: &mut Wire<'_>) -> Result<String> {
    decode::quantity(part(wire, from)?).map(String::from)
}

/// Key and value of a map's entry: `value` reads the latter.
///
/// # Errors
/// The wire has something else, or an entry without a value.
pub fn entry<'a, V>(
    wire: u8,
    from: &mut Wire<'a>,
    value: impl Fn(u8, &mut Wire<'a>) -> Result<V>,
) -> Result<(Cow<'a, str>, V)> {
    let mut fields = Wire::new(part(wire, from)?);
    let (mut key, mut found) = (Cow::Borrowed(""), None);
    while !fields.is_empty() {
        match fields.tag()? {
            (1, wire) => key = text(wire, &mut fields)?,
            (2, wire) => found = Some(value(wire, &mut fields)?),
            (_, wire) => fields.skip(wire)?,
        }
    }
    found.map(|value| (key, value)).ok_or_else(|| odd(wire))
}

/// A type's message, read by the type.
///
/// # Errors
/// It is no message of this type, or an odd one.
pub fn message<T: Message>(data: &[u8]) -> Result<T> {
    let mut read = T::default();
    read.merge(data)?;
    Ok(read)
}

/// A field whose number is not that of the table; for tests.
pub fn misnamed<T: Message>(table: &TypeTable) -> Option<(u32, &'static str)> {
    let plain = |name: &str| name.replace('_', "").to_lowercase();
    let Some(id) = table.by_name(T::TYPE) else { return Some((0, T::TYPE)) };
    let fits = |(tag, name): &&(u32, &str)| {
        let found = table.by_tag(id, *tag).map(|at| table.field_at(table.wire_fields(id)[at]));
        found.is_some_and(|field| plain(&field.name) == plain(name))
    };
    T::FIELDS.iter().find(|field| !fits(field)).copied()
}

impl Value for Box<str> {
    fn read(wire: u8, from: &mut Wire<'_>) -> Result<Self> {
        text(wire, from).map(Into::into)
    }
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

impl Value for String {
    fn read(wire: u8, from: &mut Wire<'_>) -> Result<Self> {
        text(wire, from).map(Cow::into_owned)
    }
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

fn varint(wire: u8, from: &mut Wire<'_>) -> Result<u64> {
    if wire == VARINT { from.varint() } else { Err(odd(wire)) }
}

impl Value for i64 {
    fn read(wire: u8, from: &mut Wire<'_>) -> Result<Self> {
        varint(wire, from).map(|v| v as i64)
    }
    fn is_zero(&self) -> bool {
        *self == 0
    }
}

impl Value for i32 {
    fn read(wire: u8, from: &mut Wire<'_>) -> Result<Self> {
        varint(wire, from).map(|v| v as i32)
    }
    fn is_zero(&self) -> bool {
        *self == 0
    }
}

impl Value for bool {
    fn read(wire: u8, from: &mut Wire<'_>) -> Result<Self> {
        varint(wire, from).map(|v| v != 0)
    }
    fn is_zero(&self) -> bool {
        !*self
    }
}

/// Makes a struct a [`Message`]: its name in the type table, and number, field and sort of each field.
///
/// Sorts: `value`; `shown value`, an `Option` that is none if JSON leaves the value out; `some value`, of a pointer, so that
/// zero is some; `struct` and `some struct`; `values`, `some values`, `structs`, `some structs` for lists; and `by` a function
/// of the field, the wire type and the wire.
#[macro_export]
macro_rules! message {
    ($of:ty, $name:literal { $($tag:literal $($field:ident).+ ($($sort:tt)+)),* $(,)? }) => {
        impl $crate::proto::read::Message for $of {
            const TYPE: &'static str = $name;
            const FIELDS: &'static [(u32, &'static str)] =
                &[$(($tag, $crate::message!(@name $($field).+))),*];

            fn merge(&mut self, message: &[u8]) -> ::std::result::Result<(), $crate::proto::Error> {
                let mut fields = $crate::proto::wire::Wire::new(message);
                while !fields.is_empty() {
                    match fields.tag()? {
                        $(($tag, wire) => $crate::message!(@read ($($sort)+) self.$($field).+, wire, fields),)*
                        (_, wire) => fields.skip(wire)?,
                    }
                }
                Ok(())
            }
        }
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $outer:ident . $($field:ident).+) => { $crate::message!(@name $($field).+) };
    (@read (value) $to:expr, $wire:ident, $from:ident) => {
        $to = $crate::proto::read::Value::read($wire, &mut $from)?
    };
    (@read (shown value) $to:expr, $wire:ident, $from:ident) => {
        $to = Some($crate::proto::read::Value::read($wire, &mut $from)?)
            .filter(|v| !$crate::proto::read::Value::is_zero(v))
    };
    (@read (some value) $to:expr, $wire:ident, $from:ident) => {
        $to = Some($crate::proto::read::Value::read($wire, &mut $from)?)
    };
    (@read (values) $to:expr, $wire:ident, $from:ident) => {
        $to.push($crate::proto::read::Value::read($wire, &mut $from)?)
    };
    (@read (some values) $to:expr, $wire:ident, $from:ident) => {
        $to.get_or_insert_default().push($crate::proto::read::Value::read($wire, &mut $from)?)
    };
    (@read (struct) $to:expr, $wire:ident, $from:ident) => {
        $crate::proto::read::Message::merge(&mut $to, $crate::proto::read::part($wire, &mut $from)?)?
    };
    (@read (some struct) $to:expr, $wire:ident, $from:ident) => {
        $crate::proto::read::Message::merge(
            $to.get_or_insert_default(),
            $crate::proto::read::part($wire, &mut $from)?,
        )?
    };
    (@read (structs) $to:expr, $wire:ident, $from:ident) => {
        $to.push($crate::proto::read::message($crate::proto::read::part($wire, &mut $from)?)?)
    };
    (@read (some structs) $to:expr, $wire:ident, $from:ident) => {
        $to.get_or_insert_default()
            .push($crate::proto::read::message($crate::proto::read::part($wire, &mut $from)?)?)
    };
    (@read (by $how:path) $to:expr, $wire:ident, $from:ident) => {
        $how(&mut $to, $wire, &mut $from)?
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Inner {
        text: Option<Box<str>>,
        number: Option<i64>,
    }
    message!(Inner, "x/v1.Inner" { 1 text (shown value), 2 number (some value) });

    #[derive(Debug, Default, PartialEq)]
    struct Outer {
        inner: Option<Inner>,
        all: Vec<Inner>,
        names: Option<Vec<String>>,
        count: i32,
        pairs: Vec<(String, String)>,
    }
    message!(Outer, "x/v1.Outer" {
        1 inner (some struct),
        2 all (structs),
        3 names (some values),
        4 count (value),
        5 pairs (by pair),
    });

    fn pair(to: &mut Vec<(String, String)>, wire: u8, from: &mut Wire<'_>) -> Result<()> {
        let (key, value) = entry(wire, from, text)?;
        to.push((key.into_owned(), value.into_owned()));
        Ok(())
    }

    #[test]
    fn fields_are_read_and_others_passed_over() {
        let inner = |text: Option<&str>, number| Inner { text: text.map(Into::into), number };
        let data = b"\x0a\x03\x0a\x01a\x12\x02\x10\x00\x4a\x02zz\x12\x02\x0a\x00\x1a\x01n\x1a\x01m\x20\x07\x2a\x06\x0a\x01k\x12\x01v";
        let read: Outer = message(data).expect("a message");
        let wanted = Outer {
            inner: Some(inner(Some("a"), None)),
            all: vec![inner(None, Some(0)), inner(None, None)],
            names: Some(vec!["n".into(), "m".into()]),
            count: 7,
            pairs: vec![("k".into(), "v".into())],
        };
        assert_eq!(read, wanted);
        // A struct in two parts is one struct.
        let read: Outer = message(b"\x0a\x03\x0a\x01a\x0a\x02\x10\x05").expect("a message");
        assert_eq!(read.inner, Some(inner(Some("a"), Some(5))));
    }

    #[test]
    fn what_is_no_message_of_the_type_is_refused() {
        for data in [&b"\x0a\x05a"[..], b"\x20", b"\x22\x01a", b"\x08\x01", b"\x2a\x03\x0a\x01k"] {
            assert!(message::<Outer>(data).is_err(), "{data:?}");
        }
    }
}
