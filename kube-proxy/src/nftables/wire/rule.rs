//! Rules: words become expressions.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::attribute::{Attributes, LONGEST};
use super::command::{CREATE, kind};
use super::expression::{
    EQUAL, Expressions, Field, L4PROTO, MARK, UNEQUAL, interface, prefix, random, register, track,
};
use super::set::{self, Choices, Edge, Verdict, flag, octets, protocol};
use super::{Compiler, remark, unquoted};
use crate::model::Family;

/// NLM_F_CREATE and NLM_F_APPEND: after the rules that are there.
const APPEND: u16 = 0xc00;
/// What an element has besides its data.
const AROUND: usize = 24;
/// Addresses of this machine, among types of addresses.
const LOCAL: u32 = 2;

fn hexadecimal(word: &str) -> Option<u32> {
    u32::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

fn net(word: &str) -> Option<IpNet> {
    word.parse().ok().or_else(|| word.parse::<IpAddr>().ok().map(IpNet::from))
}

impl Compiler {
    /// Compiles a rule.
    pub fn rule(&mut self, chain: &str, words: &[&str]) -> Option<()> {
        let (words, comment) = match words {
            [words @ .., "comment", text] => (words, Some(remark(0, unquoted(text)?)?)),
            words => (words, None),
        };
        let (mut rule, mut rest) = (Expressions::default(), words);
        while !rest.is_empty() {
            rest = self.statement(&mut rule, rest)?;
        }
        self.message(kind::NEW_RULE, APPEND, |body| {
            body.text(2, chain).nest(4, |at| at.0.extend_from_slice(&rule.0.0));
            comment.iter().for_each(|c| {
                body.bytes(7, c);
            });
        })
    }

    /// Compiles the first words; returns the rest.
    fn statement<'a, 'b>(&mut self, rule: &mut Expressions, words: &'a [&'b str]) -> Option<&'a [&'b str]> {
        match words {
            ["ct", "state", "new", rest @ ..] => Some(track(rule, 0, 8, rest)),
            ["ct", "status", "dnat", rest @ ..] => Some(track(rule, 2, 0x20, rest)),
            ["mark", "and", mask, "!=", "0", rest @ ..] => {
                rule.meta(MARK, 1);
                rule.mask(true, &hexadecimal(mask)?.to_ne_bytes(), &[0; 4]);
                rule.compare(UNEQUAL, &[0; 4]);
                Some(rest)
            }
            ["mark", "set", "mark", "xor", bits, rest @ ..] => {
                rule.set_mark(u32::MAX, hexadecimal(bits)?);
                Some(rest)
            }
            ["mark", "set", "mark", "or", bits, rest @ ..] => {
                let bits = hexadecimal(bits)?;
                rule.set_mark(!bits, bits);
                Some(rest)
            }
            ["fib", side @ ("saddr" | "daddr"), "type", "local", rest @ ..] => {
                let side = if *side == "saddr" { 1 } else { 2 };
                rule.push("fib", |at| {
                    at.number(3, side).number(2, 3).number(1, 1);
                });
                rule.compare(EQUAL, &LOCAL.to_ne_bytes());
                Some(rest)
            }
            ["iifname", rest @ ..] => interface(rule, rest),
            ["meta", "l4proto", name, rest @ ..] if *name != "." => {
                rule.meta(L4PROTO, 1);
                rule.compare(EQUAL, &[protocol(name)?]);
                Some(rest)
            }
            ["masquerade", "fully-random", rest @ ..] => {
                rule.push("masq", |at| {
                    at.number(1, 0x10);
                });
                Some(rest)
            }
            ["reject", rest @ ..] => {
                // That the port cannot be reached.
                let code = if self.family == Family::V4 { 3 } else { 4 };
                rule.push("reject", |at| {
                    at.number(1, 0).bytes(2, &[code]);
                });
                Some(rest)
            }
            ["drop", rest @ ..] => {
                rule.verdict(&Verdict::parse(&words[..1])?);
                Some(rest)
            }
            ["jump" | "goto", _, rest @ ..] => {
                rule.verdict(&Verdict::parse(&words[..2])?);
                Some(rest)
            }
            ["dnat", rest @ ..] => self.dnat(rule, rest),
            ["numgen", "random", "mod", count, "vmap", "{", inside @ .., "}"] => {
                let id = self.choices(&Choices::verdicts(), inside, |words, data| {
                    Verdict::parse(words)?.write(data);
                    Some(())
                })?;
                random(rule, count.parse().ok()?);
                rule.lookup(Some(0), "__map%d", Some(id), false);
                Some(&[])
            }
            ["update", set, "{", _, "saddr", "}", rest @ ..] => {
                let (name, id) = self.set(set)?;
                rule.load(&self.address("saddr")?, 1);
                rule.push("dynset", |at| {
                    at.number(4, 1).number(3, 1).text(1, name);
                    id.iter().for_each(|id| {
                        at.number(2, *id);
                    });
                });
                Some(rest)
            }
            _ => self.matching(rule, words),
        }
    }

    /// Addresses compared, and fields looked up.
    fn matching<'a, 'b>(&mut self, rule: &mut Expressions, words: &'a [&'b str]) -> Option<&'a [&'b str]> {
        let (first, mut rest) = self.field(words)?;
        let mut fields = vec![first];
        while let [".", more @ ..] = rest {
            let (field, after) = self.field(more)?;
            fields.push(field);
            rest = after;
        }
        if let [field @ Field::Payload(..)] = fields.as_slice() {
            match rest {
                ["!=", "{", ..] | ["{", ..] => return self.ranges(rule, field, rest),
                ["!=", value, rest @ ..] => return prefix(rule, field, UNEQUAL, net(value)?).map(|()| rest),
                [value, rest @ ..] if net(value).is_some() => {
                    return prefix(rule, field, EQUAL, net(value)?).map(|()| rest);
                }
                _ => {}
            }
        }
        let mut slot = 0;
        for field in &fields {
            rule.load(field, register(slot));
            slot += match field {
                Field::Payload(_, _, length) => length.div_ceil(4),
                Field::Protocol => 1,
            };
        }
        let (to, set, rest) = match rest {
            ["vmap", set, rest @ ..] => (Some(0), set, rest),
            [set, rest @ ..] => (None, set, rest),
            [] => return None,
        };
        let (name, id) = self.set(set)?;
        rule.lookup(to, name, id, false);
        Some(rest)
    }

    fn field<'a, 'b>(&self, words: &'a [&'b str]) -> Option<(Field, &'a [&'b str])> {
        match words {
            ["ip" | "ip6", side, rest @ ..] => Some((self.address(side)?, rest)),
            ["meta", "l4proto", rest @ ..] => Some((Field::Protocol, rest)),
            ["th", "dport", rest @ ..] => Some((Field::Payload(2, 2, 2), rest)),
            _ => None,
        }
    }

    fn address(&self, side: &str) -> Option<Field> {
        let (offset, length) = match (self.family, side) {
            (Family::V4, "saddr") => (12, 4),
            (Family::V4, "daddr") => (16, 4),
            (Family::V6, "saddr") => (8, 16),
            (Family::V6, "daddr") => (24, 16),
            _ => return None,
        };
        Some(Field::Payload(1, offset, length))
    }

    /// A set's name, and its number if this transaction adds it.
    fn set<'b>(&self, word: &'b str) -> Option<(&'b str, Option<u32>)> {
        let name = word.strip_prefix('@')?;
        Some((name, self.declared.get(name).copied()))
    }

    /// `to A:P`, or `ip addr . port to numgen random mod N map { 0 : A . P , ... }`.
    fn dnat<'a, 'b>(&mut self, rule: &mut Expressions, words: &'a [&'b str]) -> Option<&'a [&'b str]> {
        let (nat_family, slots) = if self.family == Family::V4 { (2, 1) } else { (10, 4) };
        let nat = |port: u32, flags: Option<u32>| {
            move |at: &mut Attributes| {
                at.number(1, 1).number(2, nat_family).number(3, 1).number(5, port);
                flags.iter().for_each(|flags| {
                    at.number(7, *flags);
                });
            }
        };
        match words {
            ["to", address, rest @ ..] => {
                let address: SocketAddr = address.parse().ok()?;
                rule.immediate(1, &octets(address.ip()));
                rule.immediate(2, &address.port().to_be_bytes());
                rule.push("nat", nat(2, Some(2)));
                Some(rest)
            }
            [
                _,
                "addr",
                ".",
                "port",
                "to",
                "numgen",
                "random",
                "mod",
                count,
                "map",
                "{",
                inside @ ..,
                "}",
            ] => {
                let id = self.choices(&Choices::endpoints(self.family), inside, |words, data| {
                    data.bytes(1, &set::key(words)?);
                    Some(())
                })?;
                random(rule, count.parse().ok()?);
                rule.lookup(Some(1), "__map%d", Some(id), false);
                rule.push("nat", nat(register(slots), None));
                Some(&[])
            }
            _ => None,
        }
    }

    /// A map from numbers, as `0 : X , 1 : Y`; returns its number.
    fn choices(
        &mut self,
        made: &Choices,
        words: &[&str],
        value: impl Fn(&[&str], &mut Attributes) -> Option<()>,
    ) -> Option<u32> {
        let mut elements = Vec::new();
        for entry in words.split(|w| *w == ",") {
            let [number, ":", rest @ ..] = entry else { return None };
            let mut data = Attributes::default();
            value(rest, &mut data)?;
            elements.push((number.parse::<u32>().ok()?, data));
        }
        if elements.iter().map(|(_, data)| data.0.len() + AROUND).sum::<usize>() > LONGEST {
            return None;
        }
        self.sets += 1;
        let id = self.sets;
        let size = u32::try_from(elements.len()).ok()?;
        self.message(kind::NEW_SET, CREATE, |body| made.write(body, id, size))?;
        self.message(kind::NEW_ELEMENT, CREATE, |body| {
            body.text(2, "__map%d").number(4, id);
            body.nest(3, |list| {
                for (at, (number, data)) in (1..).zip(&elements) {
                    list.nest(at, |element| {
                        element.nest(1, |key| {
                            key.bytes(1, &number.to_ne_bytes());
                        });
                        element.nest(2, |at| at.0.extend_from_slice(&data.0));
                    });
                }
            });
        })?;
        Some(id)
    }

    /// `[!=] { A , B }`.
    fn ranges<'a, 'b>(
        &mut self,
        rule: &mut Expressions,
        field: &Field,
        words: &'a [&'b str],
    ) -> Option<&'a [&'b str]> {
        let (how, words) = if let ["!=", rest @ ..] = words { (UNEQUAL, rest) } else { (EQUAL, words) };
        let end = words.iter().position(|w| *w == "}")?;
        let joined = words.get(1..end)?.join(" ").replace(',', " ");
        let ranges = joined.split_whitespace().map(net).collect::<Option<Vec<IpNet>>>()?;
        if let [only] = ranges.as_slice() {
            prefix(rule, field, how, *only)?;
        } else {
            let id = self.anonymous(&ranges, field)?;
            rule.load(field, 1);
            rule.lookup(None, "__set%d", Some(id), how == UNEQUAL);
        }
        words.get(end + 1..)
    }

    fn anonymous(&mut self, ranges: &[IpNet], field: &Field) -> Option<u32> {
        if ranges.len() * 2 * (AROUND + 16) > LONGEST {
            return None;
        }
        let intervals = ranges.iter().any(|r| r.prefix_len() < r.max_prefix_len());
        let edges = if intervals {
            set::edges(ranges)
        } else {
            ranges.iter().map(|r| Edge { at: r.addr(), over: false }).collect()
        };
        self.sets += 1;
        // nft counts both ends of each range, and what is before the first.
        let ranges = edges.iter().filter(|e| !e.over).count();
        let size = if intervals { 2 * ranges + usize::from(edges.first()?.over) } else { ranges };
        let (id, size) = (self.sets, u32::try_from(size).ok()?);
        let (kind, length, protocol) = if self.family == Family::V4 { (7, 4, 12) } else { (8, 16, 13) };
        let Field::Payload(_, offset, _) = field else { return None };
        // How nft numbers the fields of an IP header, to list the set by name.
        let named = match offset {
            12 => 11,
            16 => 12,
            8 => 8,
            _ => 9,
        };
        self.message(kind::NEW_SET, CREATE, |body| {
            let interval = if intervals { flag::INTERVAL } else { 0 };
            body.text(2, "__set%d").number(3, flag::ANONYMOUS | flag::CONSTANT | interval);
            body.number(4, kind).number(5, length).number(10, id);
            body.nest(9, |about| {
                about.number(1, size);
            });
            let mut extra = vec![0, 4, 2, 0, 0, 0];
            if intervals {
                extra.extend([2, 4, 1, 0, 0, 0]);
            }
            extra.extend([3, 20, 0, 4, 7, 0, 0, 0, 1, 12, 0, 4, protocol, 0, 0, 0, 1, 4, named, 0, 0, 0]);
            body.bytes(13, &extra);
        })?;
        self.message(kind::NEW_ELEMENT, CREATE, |body| {
            body.text(2, "__set%d").number(4, id);
            body.nest(3, |list| {
                for (at, edge) in (1..).zip(&edges) {
                    list.nest(at, |element| {
                        if edge.over {
                            element.number(3, 1);
                        }
                        element.nest(1, |key| {
                            key.bytes(1, &octets(edge.at));
                        });
                        // The last range has no end.
                        if intervals && !edge.over && usize::from(at) == edges.len() {
                            element.bytes(6, &[1, 4, 1, 0, 0, 0]);
                        }
                    });
                }
            });
        })?;
        Some(id)
    }
}
