//! String formats that are checked. Upstream: `kube-openapi/pkg/validation/strfmt`, `apiserver/validation/formats.go`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use api::validation::content;
use base64::Engine as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use regex::Regex;

use super::text;

/// Names without their hyphens, as upstream compares them.
const NAMES: &[&str] = &[
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "k8sshortname",
    "k8slongname",
];

fn normal(format: &str) -> String {
    format.replace('-', "")
}

/// Whether a value of the type is checked against the format; others are ignored.
pub fn is_supported(kind: &str, format: &str) -> bool {
    match kind {
        "" | "string" => NAMES.contains(&normal(format).as_str()),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

/// The format of a schema, if it would be ignored.
pub fn unrecognized(schema: &JSONSchemaProps) -> Option<&str> {
    let format = text(&schema.format);
    (!format.is_empty() && !is_supported(text(&schema.type_), format)).then_some(format)
}

macro_rules! regexes {
    ($($name:ident = $source:literal;)*) => {$(
        static $name: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new($source).ok());
    )*};
}
regexes! {
    UUID = "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$";
    UUID3 = "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$";
    UUID4 = "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$";
    UUID5 = "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$";
    OBJECT_ID = "^[0-9a-fA-F]{24}$";
    CARD = r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$";
    SSN = "^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$";
    HEX_COLOR = "^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$";
    RGB_COLOR = r"^rgb\([\t\n\x0c\r ]*(0|[1-9][0-9]?|1[0-9]?[0-9]?|2[0-4][0-9]|25[0-5])[\t\n\x0c\r ]*,[\t\n\x0c\r ]*(0|[1-9][0-9]?|1[0-9]?[0-9]?|2[0-4][0-9]|25[0-5])[\t\n\x0c\r ]*,[\t\n\x0c\r ]*(0|[1-9][0-9]?|1[0-9]?[0-9]?|2[0-4][0-9]|25[0-5])[\t\n\x0c\r ]*\)$";
    HOSTNAME = r"^([a-zA-Z0-9\p{L}][a-zA-Z0-9\-\p{L}]{0,62})(\.[a-zA-Z0-9\p{L}][a-zA-Z0-9\-\p{L}]{0,62})*?$";
    EMAIL = r"^[^\s@<>(),;:\\\[\]]+@[^\s@<>(),;:\\\[\]]+$";
    DURATION = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)[\t\n\x0c\r ]*(d|day|days|w|week|weeks|hr|hour|hours|min|minute|minutes|sec|second|seconds|milli|millis|millisecond|milliseconds|ms|micro|micros|microsecond|microseconds|nano|nanos|nanosecond|nanoseconds|ns|us|µs|h|m|s)$";
    DATE_TIME = r"^([0-9]+)-([01][0-9])-([0-3][0-9])[Tt]([01][0-9]|2[0-3]):([0-5][0-9])(:([0-5][0-9]|60)(\.[0-9]+)?)?([zZ]|[+-][0-9]{2}(:?[0-9]{2})?)?$";
}

fn matches(regex: &LazyLock<Option<Regex>>, text: &str) -> bool {
    regex.as_ref().is_some_and(|r| r.is_match(text))
}

/// Whether a text has a supported format.
pub(crate) fn holds(format: &str, text: &str) -> bool {
    match normal(format).as_str() {
        "bsonobjectid" => matches(&OBJECT_ID, text),
        "uri" => uri(text),
        "email" => matches(&EMAIL, text),
        "hostname" => text.len() <= 255 && matches(&HOSTNAME, text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => cidr(text),
        "mac" => mac(text),
        "uuid" => matches(&UUID, text),
        "uuid3" => matches(&UUID3, text),
        "uuid4" => matches(&UUID4, text),
        "uuid5" => matches(&UUID5, text),
        "isbn" => isbn10(text) || isbn13(text),
        "isbn10" => isbn10(text),
        "isbn13" => isbn13(text),
        "creditcard" => card(text),
        "ssn" => matches(&SSN, text),
        "hexcolor" => matches(&HEX_COLOR, text),
        "rgbcolor" => matches(&RGB_COLOR, text),
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "duration" => machinery::time::parse_duration(text).is_ok() || matches(&DURATION, text),
        "datetime" => date_time(text),
        "k8sshortname" => content::dns_label(text).is_empty(),
        "k8slongname" => content::dns_subdomain(text).is_empty(),
        _ => true,
    }
}

/// `url.ParseRequestURI`: an absolute URI or an absolute path, in plain characters.
fn uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    scheme_ok
        && (!rest.starts_with("//") || !rest[2..].split(['/', '?']).next().unwrap_or_default().contains(' '))
}

fn cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let plain = !bits.is_empty()
        && bits.bytes().all(|b| b.is_ascii_digit())
        && (bits == "0" || !bits.starts_with('0'));
    let Ok(bits) = bits.parse::<u8>() else { return false };
    match address.parse() {
        Ok(IpAddr::V4(_)) => plain && bits <= 32,
        Ok(IpAddr::V6(_)) => plain && bits <= 128,
        Err(_) => false,
    }
}

/// `net.ParseMAC`.
fn mac(text: &str) -> bool {
    let hex = |part: &str, len: usize| part.len() == len && part.bytes().all(|b| b.is_ascii_hexdigit());
    for separator in [':', '-'] {
        let parts: Vec<&str> = text.split(separator).collect();
        if matches!(parts.len(), 6 | 8 | 20) {
            return parts.iter().all(|p| hex(p, 2));
        }
    }
    let parts: Vec<&str> = text.split('.').collect();
    matches!(parts.len(), 3 | 4 | 10) && parts.iter().all(|p| hex(p, 4))
}

fn digits(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect()
}

fn isbn10(text: &str) -> bool {
    let text = digits(text);
    let bytes = text.as_bytes();
    let Some((last, first)) = bytes.split_last().filter(|(_, first)| first.len() == 9) else { return false };
    if !first.iter().all(u8::is_ascii_digit) || !(last.is_ascii_digit() || *last == b'X') {
        return false;
    }
    let sum: u32 = first.iter().zip(1..).map(|(b, weight)| weight * u32::from(b - b'0')).sum();
    let check = if *last == b'X' { 10 } else { u32::from(last - b'0') };
    (sum + 10 * check).is_multiple_of(11)
}

fn isbn13(text: &str) -> bool {
    let text = digits(text);
    let bytes = text.as_bytes();
    if bytes.len() != 13 || !bytes.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum: u32 = bytes.iter().zip([1, 3].into_iter().cycle()).map(|(b, w)| w * u32::from(b - b'0')).sum();
    sum.is_multiple_of(10)
}

/// Digits in one of the issuers' ranges with Luhn's check digit.
fn card(text: &str) -> bool {
    let number: String = text.chars().filter(char::is_ascii_digit).collect();
    if !matches(&CARD, &number) {
        return false;
    }
    let sum: u32 = number
        .bytes()
        .rev()
        .zip([false, true].into_iter().cycle())
        .map(|(b, double)| {
            let digit = u32::from(b - b'0') * if double { 2 } else { 1 };
            if digit > 9 { digit - 9 } else { digit }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// `strfmt.IsDateTime`: lenient about zones and fractions, strict about ranges.
fn date_time(text: &str) -> bool {
    if text.len() < 4 || !matches(&DATE_TIME, text) {
        return false;
    }
    let Some((date, _)) = text.split_once(['T', 't']) else { return false };
    let mut parts = date.split('-').skip(1).map(|p| p.parse::<u8>().unwrap_or(0));
    matches!((parts.next(), parts.next()), (Some(1..=12), Some(1..=31)))
}

#[cfg(test)]
mod tests {
    use super::holds;

    #[test]
    fn formats() {
        for (format, good, bad) in [
            ("ipv4", "10.0.0.1", "10.0.0"),
            ("ipv6", "fe80::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "00:1b:63:84:45:e6", "00:1b"),
            ("uuid", "A987FBC9-4BED-3078-CF07-9141BA07C9F3", "A987"),
            ("isbn10", "0321751043", "0321751044"),
            ("isbn13", "978-0321751041", "978-0321751042"),
            ("creditcard", "4111-1111-1111-1111", "4111-1111-1111-1112"),
            ("date", "2020-01-31", "2020-13-01"),
            ("date-time", "2014-12-15T19:30:20.000Z", "2014-12-15"),
            ("duration", "22 ns", "22 parsecs"),
            ("byte", "aGVsbG8=", "aGVsbG8"),
            ("uri", "http://a/b", "a b"),
            ("hexcolor", "#FFFFFF", "#GG"),
            ("rgbcolor", "rgb(255,255,255)", "rgb(256,0,0)"),
            ("email", "a@b.c", "a"),
            ("k8s-short-name", "abc", "a.b"),
        ] {
            assert!(holds(format, good), "{format} {good}");
            assert!(!holds(format, bad), "{format} {bad}");
        }
    }
}
