//! Address ranges (upstream's pkg/cel/library/cidr.go).

use super::{ip, object, text};
use crate::decls::short::*;
use crate::eval::{EvalError, Res};
use crate::val::{Object, Val};
use machinery::golang::quote;
use std::any::Any;
use std::net::IpAddr;

const NAME: &str = "net.CIDR";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl Object for Cidr {
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
        Some(u64::from(self.bits.div_ceil(8)))
    }

    fn text(&self) -> Option<std::string::String> {
        Some(format!("{}/{}", self.address, self.bits))
    }
}

impl Cidr {
    fn masked(self) -> Cidr {
        let address = match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V4((u32::from(v4) & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V6((u128::from(v6) & mask).into())
            }
        };
        Cidr { address, bits: self.bits }
    }

    fn contains(self, ip: IpAddr) -> bool {
        self.address.is_ipv4() == ip.is_ipv4()
            && Cidr { address: ip, bits: self.bits }.masked() == self.masked()
    }
}

/// Go's `netip.ParsePrefix`.
fn parse_prefix(s: &str) -> Result<Cidr, std::string::String> {
    let fail = |why: std::string::String| format!("netip.ParsePrefix({}): {why}", quote(s));
    let (address, bits) = s.rsplit_once('/').ok_or_else(|| fail("no '/'".into()))?;
    let ip = ip::parse(address).map_err(fail)?;
    if address.contains('%') {
        return Err(fail("IPv6 zones cannot be present in a prefix".into()));
    }
    let bad = || fail(format!("bad bits after slash: {}", quote(bits)));
    if bits.len() > 1 && !bits.starts_with(|c| matches!(c, '1'..='9')) {
        return Err(bad());
    }
    let bits: i64 = bits.parse().map_err(|_| bad())?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    if !(0..=most).contains(&bits) {
        return Err(fail("prefix length out of range".into()));
    }
    Ok(Cidr { address: ip, bits: bits as u8 })
}

fn parse(s: &str) -> Result<Cidr, std::string::String> {
    let cidr = parse_prefix(s)
        .map_err(|e| format!("network address parse error during conversion from string: {e}"))?;
    if matches!(cidr.address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(format!("IPv4-mapped IPv6 address {} is not allowed", quote(s)));
    }
    Ok(cidr)
}

fn from_text(s: &str) -> Result<Cidr, EvalError> {
    parse(s).map_err(|e| {
        EvalError::new(format!("network address parse error during conversion from string: {e}"))
    })
}

fn cidr(args: &[Val<'_>], i: usize) -> Result<Cidr, EvalError> {
    object::<Cidr>(args, i).copied()
}

fn contains_ip<'a>(args: &[Val<'a>]) -> Res<'a> {
    let ip = match &args[1] {
        // Upstream answers an argument of the wrong form with the other's lack of an overload.
        Val::Str(s) => ip::address(s).map_err(|_| crate::val::ops::no_overload())?,
        _ => object::<ip::Ip>(args, 1)?.0,
    };
    Ok(Val::Bool(cidr(args, 0)?.contains(ip)))
}

fn contains_cidr<'a>(args: &[Val<'a>]) -> Res<'a> {
    let whole = cidr(args, 0)?;
    let part = match &args[1] {
        Val::Str(s) => from_text(s)?,
        _ => cidr(args, 1)?,
    };
    Ok(Val::Bool(whole.bits <= part.bits && whole.contains(part.address)))
}

pub(crate) fn functions() -> Vec<Function> {
    let t = || Type::opaque(NAME);
    let ip_t = || Type::opaque(ip::NAME);
    vec![
        func("cidr")
            .global("string_to_cidr", vec![String], t())
            .code(|args| from_text(text(args, 0)?).map(Val::object)),
        func("containsIP")
            .member("cidr_contains_ip_string", vec![t(), String], Bool)
            .code(contains_ip)
            .member("cidr_contains_ip_ip", vec![t(), ip_t()], Bool)
            .code(contains_ip),
        func("containsCIDR")
            .member("cidr_contains_cidr_string", vec![t(), String], Bool)
            .code(contains_cidr)
            .member("cidr_contains_cidr", vec![t(), t()], Bool)
            .code(contains_cidr),
        func("ip")
            .member("cidr_ip", vec![t()], ip_t())
            .code(|args| Ok(Val::object(ip::Ip(cidr(args, 0)?.address)))),
        func("prefixLength")
            .member("cidr_prefix_length", vec![t()], Int)
            .code(|args| Ok(Val::Int(cidr(args, 0)?.bits.into()))),
        func("masked")
            .member("cidr_masked", vec![t()], t())
            .code(|args| Ok(Val::object(cidr(args, 0)?.masked()))),
        func("isCIDR")
            .global("is_cidr", vec![String], Bool)
            .code(|args| Ok(Val::Bool(parse(text(args, 0)?).is_ok()))),
        func("string")
            .global("cidr_to_string", vec![t()], String)
            .code(|args| Ok(Val::str(cidr(args, 0)?.text().unwrap_or_default()))),
    ]
}
