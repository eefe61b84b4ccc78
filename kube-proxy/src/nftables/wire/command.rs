//! Tables, chains, sets, maps and their elements.

use super::attribute::Attributes;
use super::set;
use super::{Compiler, remark, unquoted};
use crate::nftables::base::word;
use crate::nftables::names::TABLE;

/// Kinds of message. Linux: include/uapi/linux/netfilter/nf_tables.h, as all numbers in this folder.
pub mod kind {
    pub const NEW_TABLE: u8 = 0;
    pub const DELETE_TABLE: u8 = 2;
    pub const NEW_CHAIN: u8 = 3;
    pub const DELETE_CHAIN: u8 = 5;
    pub const NEW_RULE: u8 = 6;
    pub const DELETE_RULE: u8 = 8;
    pub const NEW_SET: u8 = 9;
    pub const DELETE_SET: u8 = 11;
    pub const NEW_ELEMENT: u8 = 12;
    pub const DELETE_ELEMENT: u8 = 14;
    pub const NEW_OBJECT: u8 = 18;
    pub const DELETE_OBJECT: u8 = 20;
}

/// NLM_F_CREATE.
pub const CREATE: u16 = 0x400;
const COUNTER: u32 = 1;
const HOOKS: [&str; 5] = ["prerouting", "input", "forward", "output", "postrouting"];

impl Compiler {
    /// Compiles a line.
    pub fn command(&mut self, words: &[&str]) -> Option<()> {
        let [verb, kind, family, TABLE, rest @ ..] = words else { return None };
        if *family != word(self.family) {
            return None;
        }
        match (*verb, *kind, rest) {
            ("add", "table", rest) => self.table(rest),
            ("delete", "table", []) => self.message(kind::DELETE_TABLE, 0, |_| {}),
            ("add", "chain", [name, rest @ ..]) => self.chain(name, rest),
            ("add", "rule", [chain, rest @ ..]) => self.rule(chain, rest),
            ("add", "set" | "map", [name, rest @ ..]) => self.declare(name, rest),
            ("add", "element", [set, "{", rest @ .., "}"]) => self.element(set, rest, true),
            ("delete", "element", [set, "{", rest @ .., "}"]) => self.element(set, rest, false),
            ("add" | "delete", "counter", [name]) => self.counter(*verb == "add", name),
            ("flush", "chain", [name]) => self.named(kind::DELETE_RULE, 2, name),
            ("delete", "chain", [name]) => self.named(kind::DELETE_CHAIN, 3, name),
            ("flush", "set" | "map", [name]) => self.emptied(name),
            ("delete", "set" | "map", [name]) => {
                self.declared.remove(*name);
                self.named(kind::DELETE_SET, 2, name)
            }
            _ => None,
        }
    }

    /// A message about our table.
    pub fn message(&mut self, kind: u8, flags: u16, fill: impl FnOnce(&mut Attributes)) -> Option<()> {
        self.batch.push(self.line, self.family, kind, flags, |body| {
            body.text(1, TABLE);
            fill(body);
        });
        Some(())
    }

    fn named(&mut self, kind: u8, attribute: u16, name: &str) -> Option<()> {
        self.message(kind, 0, |body| {
            body.text(attribute, name);
        })
    }

    /// Here nft has the set's name first.
    fn emptied(&mut self, set: &str) -> Option<()> {
        self.batch.push(self.line, self.family, kind::DELETE_ELEMENT, 0, |body| {
            body.text(2, set).text(1, TABLE);
        });
        Some(())
    }

    fn table(&mut self, rest: &[&str]) -> Option<()> {
        let comment = match rest {
            [] => None,
            ["{", "comment", text, ";", "}"] => Some(remark(0, unquoted(text)?)?),
            _ => return None,
        };
        self.message(kind::NEW_TABLE, CREATE, |body| {
            body.number(2, 0);
            comment.iter().for_each(|c| {
                body.bytes(6, c);
            });
        })
    }

    fn chain(&mut self, name: &str, rest: &[&str]) -> Option<()> {
        let (mut comment, mut base) = (None, None);
        match rest {
            [] => {}
            ["{", "comment", text, ";", "}"] => comment = Some(remark(0, unquoted(text)?)?),
            ["{", "type", kind, "hook", hook, "priority", priority, ";", "}"] => {
                let hook = (0..).zip(HOOKS).find(|(_, name)| name == hook)?.0;
                base = Some((*kind, hook, priority.parse::<i32>().ok()?));
            }
            _ => return None,
        }
        self.message(kind::NEW_CHAIN, CREATE, |body| {
            body.text(3, name);
            if let Some((kind, hook, priority)) = base {
                body.text(7, kind);
                body.nest(4, |at| {
                    at.number(1, hook).bytes(2, &priority.to_be_bytes());
                });
            }
            comment.iter().for_each(|c| {
                body.bytes(12, c);
            });
        })
    }

    fn declare(&mut self, name: &str, rest: &[&str]) -> Option<()> {
        let shape = set::Shape::parse(rest)?;
        self.sets += 1;
        let id = self.sets;
        self.declared.insert(name.to_string(), id);
        let extra = shape.extra()?;
        self.message(kind::NEW_SET, CREATE, |body| {
            body.text(2, name);
            shape.write(body);
            body.number(10, id);
            shape.timeout.iter().for_each(|ms| {
                body.bytes(11, &ms.to_be_bytes());
            });
            body.bytes(13, &extra);
        })
    }

    /// `key`, `key comment "..."`, and in maps `: verdict`.
    fn element(&mut self, set: &str, words: &[&str], add: bool) -> Option<()> {
        let mut parts = words.splitn(2, |w| *w == ":");
        let (left, verdict) = (parts.next()?, parts.next());
        let (key, comment) = match left {
            [key @ .., "comment", text] => (key, Some(remark(0, unquoted(text)?)?)),
            key => (key, None),
        };
        let key = set::key(key)?;
        let verdict = match verdict {
            Some(words) => Some(set::Verdict::parse(words)?),
            None => None,
        };
        // nft deletes by name even from sets that the same transaction adds.
        let id = self.declared.get(set).filter(|_| add).copied();
        let (kind, flags) = if add { (kind::NEW_ELEMENT, CREATE) } else { (kind::DELETE_ELEMENT, 0) };
        self.message(kind, flags, |body| {
            body.text(2, set);
            id.iter().for_each(|id| {
                body.number(4, *id);
            });
            body.nest(3, |list| {
                list.nest(1, |element| {
                    element.nest(1, |at| {
                        at.bytes(1, &key);
                    });
                    verdict.iter().for_each(|v| {
                        element.nest(2, |data| v.write(data));
                    });
                    comment.iter().for_each(|c| {
                        element.bytes(6, c);
                    });
                });
            });
        })
    }

    fn counter(&mut self, add: bool, name: &str) -> Option<()> {
        let (kind, flags) = if add { (kind::NEW_OBJECT, CREATE) } else { (kind::DELETE_OBJECT, 0) };
        self.message(kind, flags, |body| {
            body.text(2, name).number(3, COUNTER);
            body.nest(4, |data| {
                if add {
                    data.bytes(1, &[0; 8]).bytes(2, &[0; 8]);
                }
            });
        })
    }
}
