//! Rules about several fields of a struct: unions, and fields that a discriminator asks for or forbids.
//! Upstream: `union.go`, `zeroorone.go` and `discriminator.go` of `apimachinery/pkg/api/validate`.

use machinery::Value;
use machinery::schema::{Field, TypeId};

use super::rule::Rule;
use super::{Walk, is_set};
use crate::validation::field::{Error, Path};

/// What a union lacks or has too much of.
struct Wording {
    empty: Option<&'static str>,
    several: &'static str,
}

const UNION: Wording =
    Wording { empty: Some("must specify one of: "), several: "must specify exactly one of: " };
const ZERO_OR_ONE: Wording = Wording { empty: None, several: "must specify at most one of: " };

impl Walk<'_> {
    /// The rules of a struct's fields together.
    pub(super) fn members(&mut self, id: TypeId, path: &Path, new: &Value, old: Option<&Value>) {
        for (marker, wording) in [("unionMember", UNION), ("zeroOrOneOfMember", ZERO_OR_ONE)] {
            let fields: Vec<&Field> = self
                .table
                .fields(id)
                .filter(|f| self.rules(f).any(|r| r.name == marker && r.enforced))
                .collect();
            if fields.is_empty() {
                continue;
            }
            let set = |v: Option<&Value>| -> Vec<bool> {
                fields.iter().map(|f| is_set(f, v.and_then(|v| v.get(&f.name)))).collect()
            };
            let names: Vec<&str> = fields.iter().map(|f| f.name.as_str()).collect();
            self.errors.extend(union(&names, &set(Some(new)), old.map(|o| set(Some(o))), wording, path));
        }
        self.modes(id, path, new, old);
    }

    /// Fields that stand or fall with the struct's discriminator.
    fn modes(&mut self, id: TypeId, path: &Path, new: &Value, old: Option<&Value>) {
        let table = self.table;
        let by =
            table.fields(id).find(|f| self.rules(f).any(|r| r.name == "modeDiscriminator" && r.enforced));
        let Some(by) = by.map(|f| f.name.as_str()) else { return };
        let mode = |v: &Value| v.str_at(&[by]).unwrap_or("").to_owned();
        let mut members: Vec<&Field> =
            table.fields(id).filter(|f| self.rules(f).any(|r| r.name == "ifMode")).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        for field in members {
            let value = new.get(&field.name);
            let before = old.map(|o| o.get(&field.name));
            if before.is_some_and(|b| table.field_eq(field, value, b))
                && old.map(mode).as_deref() == Some(&mode(new))
            {
                continue;
            }
            let cases: Vec<Rule<'_>> = self.rules(field).filter(|r| r.name == "ifMode").collect();
            let case = cases.iter().find(|r| r.argument == mode(new)).map(|r| r.nested(self.options));
            let (at, set) = (path.child(&field.name), is_set(field, value));
            match case {
                Some(Some(rule)) if rule.name == "required" && !set => {
                    self.errors.push(Error::required(&at, ""));
                }
                None if set => self.errors.push(Error::forbidden(&at, "")),
                _ => {}
            }
        }
    }

    /// Items of a list of which one at most may stand: `item(type: "Approved")=+k8s:zeroOrOneOfMember`.
    pub(super) fn items(
        &mut self,
        field: &'static Field,
        path: &Path,
        new: Option<&Value>,
        old: Option<&Value>,
    ) {
        let rules: Vec<Rule<'_>> = self
            .rules(field)
            .filter(|r| r.name == "item" && r.enforced && r.payload.ends_with("zeroOrOneOfMember"))
            .collect();
        let wanted: Vec<(&str, &str)> = rules.iter().filter_map(|r| r.argument.split_once(": ")).collect();
        if wanted.is_empty() {
            return;
        }
        let set = |list: Option<&Value>| -> Vec<bool> {
            let list = list.and_then(Value::as_list);
            let has = |key: &str, value: &str| {
                list.is_some_and(|l| {
                    l.iter().any(|item| item.str_at(&[key]) == Some(value.trim_matches('"')))
                })
            };
            wanted.iter().map(|(key, value)| has(key, value)).collect()
        };
        let names: Vec<String> = wanted
            .iter()
            .map(|(key, value)| format!("{}[{{\"{key}\": \"{}\"}}]", field.name, value.trim_matches('"')))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let before = old.filter(|o| o.as_list().is_some_and(|l| !l.is_empty())).map(|o| set(Some(o)));
        self.errors.extend(union(&names, &set(new), before, ZERO_OR_ONE, path));
    }
}

/// Membership that did not change is not judged again.
fn union(
    names: &[&str],
    set: &[bool],
    before: Option<Vec<bool>>,
    wording: Wording,
    path: &Path,
) -> Option<Error> {
    if before.is_some_and(|b| b == set) {
        return None;
    }
    let all = names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    let given: Vec<&str> = names.iter().zip(set).filter(|(_, s)| **s).map(|(n, _)| *n).collect();
    match (given.len(), wording.empty) {
        (0, Some(text)) => Some(Error::invalid(path, "", format!("{text}{all}"))),
        (0 | 1, _) => None,
        _ => {
            let bad = format!("{{{}}}", given.join(", "));
            Some(Error::invalid(path, bad, format!("{}{all}", wording.several)))
        }
    }
}
