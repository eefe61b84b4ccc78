//! IP addresses (upstream's pkg/cel/library/ip.go over Go's net/netip).

use super::{object, text};
use crate::decls::short::*;
use crate::eval::{EvalError, Res};
use crate::val::{Object, Val};
use machinery::golang::quote;
use std::any::Any;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const NAME: &str = "net.IP";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ip(pub IpAddr);

impl Object for Ip {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn type_name(&self) -> &str {
        NAME
    }

    fn type_value(&self) -> Type {
        Type::opaque(NAME)
    }

    fn equals(&self, other: &dyn Object) -> Option<bool> {
        Some(self == other.as_any().downcast_ref::<Self>()?)
    }

    fn size(&self) -> Option<u64> {
        Some(if self.0.is_ipv4() { 4 } else { 16 })
    }

    fn text(&self) -> Option<std::string::String> {
        Some(self.0.to_string())
    }
}

fn fail(s: &str, why: &str, at: &str) -> std::string::String {
    let at = if at.is_empty() { std::string::String::new() } else { format!(" (at {})", quote(at)) };
    format!("ParseAddr({}): {why}{at}", quote(s))
}

/// Go's `netip.ParseAddr`, zones refused only by callers: they are dropped here after the check of their form.
pub(super) fn parse(s: &str) -> Result<IpAddr, std::string::String> {
    match s.bytes().find(|b| matches!(b, b'.' | b':' | b'%')) {
        Some(b'.') => v4(s, s).map(|b| IpAddr::V4(Ipv4Addr::from(b))),
        Some(b':') => v6(s).map(IpAddr::V6),
        Some(_) => Err(fail(s, "missing IPv6 address", "")),
        None => Err(fail(s, "unable to parse IP", "")),
    }
}

/// The four fields of `part`, which ends `whole`.
fn v4(whole: &str, part: &str) -> Result<[u8; 4], std::string::String> {
    let b = part.as_bytes();
    let mut fields = [0u8; 4];
    let (mut value, mut position, mut digits) = (0u32, 0, 0);
    for (i, c) in b.iter().enumerate() {
        match c {
            b'0'..=b'9' => {
                if digits == 1 && value == 0 {
                    return Err(fail(whole, "IPv4 field has octet with leading zero", ""));
                }
                value = value * 10 + u32::from(c - b'0');
                digits += 1;
                if value > 255 {
                    return Err(fail(whole, "IPv4 field has value >255", ""));
                }
            }
            b'.' => {
                if i == 0 || i == b.len() - 1 || b[i - 1] == b'.' {
                    return Err(fail(whole, "IPv4 field must have at least one digit", &part[i..]));
                }
                if position == 3 {
                    return Err(fail(whole, "IPv4 address too long", ""));
                }
                fields[position] = value as u8;
                position += 1;
                (value, digits) = (0, 0);
            }
            _ => return Err(fail(whole, "unexpected character", &part[i..])),
        }
    }
    if position < 3 {
        return Err(fail(whole, "IPv4 address too short", ""));
    }
    fields[3] = value as u8;
    Ok(fields)
}

/// One group of hexadecimal digits: how many, and their value.
fn group(whole: &str, s: &str) -> Result<(usize, u16), std::string::String> {
    let digits = s.bytes().take_while(u8::is_ascii_hexdigit).count();
    if digits > 4 {
        return Err(fail(whole, "each group must have 4 or less digits", s));
    }
    if digits == 0 {
        return Err(fail(whole, "each colon-separated field must have at least one digit", s));
    }
    Ok((digits, u16::from_str_radix(&s[..digits], 16).unwrap_or(0)))
}

fn v6(whole: &str) -> Result<Ipv6Addr, std::string::String> {
    let mut s = whole;
    if let Some((before, zone)) = whole.split_once('%') {
        if zone.is_empty() {
            return Err(fail(whole, "zone must be a non-empty string", ""));
        }
        s = before;
    }
    let mut out = [0u8; 16];
    let mut ellipsis = None;
    if let Some(rest) = s.strip_prefix("::") {
        ellipsis = Some(0);
        s = rest;
        if s.is_empty() {
            return Ok(Ipv6Addr::UNSPECIFIED);
        }
    }
    let mut i = 0;
    while i < 16 {
        let (digits, value) = group(whole, s)?;
        if s[digits..].starts_with('.') {
            if ellipsis.is_none() && i != 12 {
                let why = "embedded IPv4 address must replace the final 2 fields of the address";
                return Err(fail(whole, why, s));
            }
            if i + 4 > 16 {
                let why = "too many hex fields to fit an embedded IPv4 at the end of the address";
                return Err(fail(whole, why, s));
            }
            out[i..i + 4].copy_from_slice(&v4(whole, s)?);
            s = "";
            i += 4;
            break;
        }
        out[i..i + 2].copy_from_slice(&value.to_be_bytes());
        i += 2;
        s = &s[digits..];
        if s.is_empty() {
            break;
        }
        if !s.starts_with(':') {
            return Err(fail(whole, "unexpected character, want colon", s));
        }
        if s.len() == 1 {
            return Err(fail(whole, "colon must be followed by more characters", s));
        }
        s = &s[1..];
        if let Some(rest) = s.strip_prefix(':') {
            if ellipsis.is_some() {
                return Err(fail(whole, "multiple :: in address", s));
            }
            ellipsis = Some(i);
            s = rest;
            if s.is_empty() {
                break;
            }
        }
    }
    if !s.is_empty() {
        return Err(fail(whole, "trailing garbage after address", s));
    }
    expand(whole, out, i, ellipsis)
}

fn expand(
    whole: &str,
    mut out: [u8; 16],
    filled: usize,
    ellipsis: Option<usize>,
) -> Result<Ipv6Addr, std::string::String> {
    match ellipsis {
        None if filled < 16 => Err(fail(whole, "address string too short", "")),
        Some(_) if filled == 16 => Err(fail(whole, "the :: must expand to at least one field of zeros", "")),
        Some(at) => {
            out.copy_within(at..filled, at + 16 - filled);
            out[at..at + 16 - filled].fill(0);
            Ok(Ipv6Addr::from(out))
        }
        None => Ok(Ipv6Addr::from(out)),
    }
}

pub(super) fn address(s: &str) -> Result<IpAddr, EvalError> {
    let ip = parse(s).map_err(|e| {
        EvalError::new(format!("IP Address {} parse error during conversion from string: {e}", quote(s)))
    })?;
    if s.contains('%') {
        return Err(EvalError::new(format!("IP address {} with zone value is not allowed", quote(s))));
    }
    if matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(EvalError::new(format!("IPv4-mapped IPv6 address {} is not allowed", quote(s))));
    }
    Ok(ip)
}

fn ip(args: &[Val<'_>]) -> Result<IpAddr, EvalError> {
    object::<Ip>(args, 0).map(|ip| ip.0)
}

fn link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }
}

fn link_local_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn global_unicast(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !(broadcast || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local_unicast(ip))
}

fn is_canonical<'a>(args: &[Val<'a>]) -> Res<'a> {
    let s = text(args, 0)?;
    Ok(Val::Bool(address(s)?.to_string() == s))
}

pub(crate) fn functions() -> Vec<Function> {
    let t = || Type::opaque(NAME);
    let test = |name, id, code| func(name).member(id, vec![t()], Bool).code(code);
    vec![
        func("ip")
            .global("string_to_ip", vec![String], t())
            .code(|args| Ok(Val::object(Ip(address(text(args, 0)?)?)))),
        func("family")
            .member("ip_family", vec![t()], Int)
            .code(|args| Ok(Val::Int(if ip(args)?.is_ipv4() { 4 } else { 6 }))),
        func("ip.isCanonical").global("ip_is_canonical", vec![String], Bool).code(is_canonical),
        test("isUnspecified", "ip_is_unspecified", |args| Ok(Val::Bool(ip(args)?.is_unspecified()))),
        test("isLoopback", "ip_is_loopback", |args| Ok(Val::Bool(ip(args)?.is_loopback()))),
        test("isLinkLocalMulticast", "ip_is_link_local_multicast", |args| {
            Ok(Val::Bool(link_local_multicast(ip(args)?)))
        }),
        test("isLinkLocalUnicast", "ip_is_link_local_unicast", |args| {
            Ok(Val::Bool(link_local_unicast(ip(args)?)))
        }),
        test("isGlobalUnicast", "ip_is_global_unicast", |args| Ok(Val::Bool(global_unicast(ip(args)?)))),
        func("isIP")
            .global("is_ip", vec![String], Bool)
            .code(|args| Ok(Val::Bool(address(text(args, 0)?).is_ok()))),
        func("string")
            .global("ip_to_string", vec![t()], String)
            .code(|args| Ok(Val::str(ip(args)?.to_string()))),
    ]
}
