//! Declarative validation: the `+k8s:` markers of the type table, interpreted over trees.
//!
//! [`validate`] walks an object with its type and, on updates, with the stored object: what did not change is not
//! judged again. Markers of the beta stage are enforced as those without a stage are (the gate
//! `DeclarativeValidationBeta` is on by default); those of the alpha stage cut a branch short but report nothing, as
//! upstream only counts their mismatches. Metadata has only alpha markers and is not walked, but for what
//! a kind says of its own name. Errors come in the order of upstream's generated code: of a struct what concerns several
//! fields, then field by field; of a field what ends its judgement, what its rules tell, and what stands below it.
//! Rules that upstream
//! implements in code are in [`custom`] (`customValidation`) or left to the kinds' own validation (`customUnique`), and so
//! is whatever upstream's hand-written validation reports and marks as covered: it is reported here and must not be there.
//!
//! Upstream: `apimachinery/pkg/api/validate`, the generated `zz_generated.validations.go`,
//! `apiserver/pkg/registry/rest/validate.go`.

mod custom;
pub(crate) mod format;
mod rule;
mod unions;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use machinery::Value;
use machinery::schema::{Field, ListType, Shape, TypeId, TypeTable};

use super::field::{Bad, Error, Path, Source};
use rule::Rule;

/// Values of types that upstream marks as enumerations; the type table tells only the OpenAPI ones.
const ENUMS: &[(&str, &[&str])] = &[
    ("v1.AddressType", &["FQDN", "IPv4", "IPv6"]),
    ("v1.AllocationConfigSource", &["FromClaim", "FromClass"]),
    ("v1.DeviceAllocationMode", &["All", "ExactCount"]),
    ("v1.DeviceTaintEffect", &["NoExecute", "NoSchedule", "None"]),
    ("v1.DeviceTolerationOperator", &["Equal", "Exists"]),
    ("v1.SkipNodeOperation", &["*", "NodePrepareResources", "NodeUnprepareResources"]),
    ("v1alpha1.EvictionRequestIntent", &["Eviction", "Withdrawn"]),
    ("v1alpha1.RequesterIntent", &["Eviction", "Withdrawn"]),
    ("v1alpha1.ResponderStateType", &["Active", "Canceled", "Completed", "Inactive", "Interrupted"]),
];

/// Enumerations about devices whose names do not say so.
const OF_DEVICES: [&str; 2] = ["AllocationConfigSource", "SkipNodeOperation"];

/// What the markers of a kind refuse about an object, or about its change from `old`. `options` are the names of the
/// conditions that hold (`ifEnabled`).
pub fn validate(id: TypeId, new: &Value, old: Option<&Value>, options: &[&str]) -> Vec<Error> {
    let mut walk = Walk { table: crate::types(), update: old.is_some(), options, errors: Vec::new() };
    walk.structure(id, &Path::ROOT, new, old);
    walk.errors
}

/// What hand-written validation and the declarative rules tell together: covered errors that a rule tells too go. Rules
/// do not judge what did not change, so hand-written validation still tells of it
/// (`apimachinery/pkg/api/validate` `FilterCoveredHandwrittenErrors`).
pub fn together(written: Vec<Error>, declared: Vec<Error>) -> Vec<Error> {
    together_by(written, declared, |path| path.into())
}

/// As [`together`], where the rules are of a version that has fields elsewhere: `normal` makes one path of both
/// (`field.NormalizationRule`).
pub fn together_by(
    mut written: Vec<Error>,
    declared: Vec<Error>,
    normal: impl Fn(&str) -> Cow<'_, str>,
) -> Vec<Error> {
    let immutable = |e: &Error| e.detail == "field is immutable";
    let same = |a: &Error, b: &Error| {
        // Invalid values are told apart by what their rule is called; only that of immutability shares a field.
        a.kind == b.kind && normal(&a.field) == normal(&b.field) && immutable(a) == immutable(b)
    };
    written.retain(|w| w.source != Source::Covered || !declared.iter().any(|d| same(w, d)));
    written.extend(declared.into_iter().map(|e| Error { source: Source::Declared, ..e }));
    written
}

struct Walk<'a> {
    table: &'static TypeTable,
    update: bool,
    options: &'a [&'a str],
    errors: Vec<Error>,
}

/// Two values of a field; nothing and null are the same.
fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    a.unwrap_or(&Value::Null).semantic_eq(b.unwrap_or(&Value::Null))
}

/// Whether a field says anything: pointers when they are there, the rest when it is not zero.
fn is_set(field: &Field, value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::List(list)) => !list.is_empty(),
        Some(Value::Map(map)) => field.flags.pointer || !map.is_empty(),
        Some(_) if field.flags.pointer => true,
        Some(Value::Str(text)) => !text.is_empty(),
        Some(Value::Bool(on)) => *on,
        Some(value) => value.as_i64() != Some(0),
    }
}

fn enumeration(field: &Field) -> Option<&'static [&'static str]> {
    let go = field.extra().go_type.as_deref()?;
    let go = go.trim_start_matches(['*', '[', ']']);
    // Devices have the same types in all versions.
    let devices = ["v1beta1.", "v1beta2.", "v1alpha3."].iter().find_map(|v| go.strip_prefix(v));
    let devices = devices.filter(|name| name.starts_with("Device") || OF_DEVICES.contains(name));
    let named = |name: &str| match devices {
        Some(own) => name.strip_prefix("v1.") == Some(own),
        None => name == go,
    };
    ENUMS.iter().find(|(name, _)| named(name)).map(|(_, values)| *values)
}

/// The fields of a type that have a rule, or one anywhere below them.
fn ruled(table: &'static TypeTable, id: TypeId) -> &'static [&'static Field] {
    static RULED: OnceLock<HashMap<TypeId, Vec<&'static Field>>> = OnceLock::new();
    let fields = RULED.get_or_init(|| {
        let known = fixpoint(table);
        let fields = |id: &TypeId| table.fields(*id).filter(|f| is_ruled(table, f, &known)).collect();
        known.iter().map(|id| (*id, fields(id))).collect()
    });
    fields.get(&id).map_or(&[], Vec::as_slice)
}

fn is_ruled(table: &TypeTable, f: &Field, known: &HashSet<TypeId>) -> bool {
    !f.extra().rules.is_empty()
        || enumeration(f).is_some()
        || element(table, f.shape).is_some_and(|id| known.contains(&id))
}

/// The types that have a rule anywhere below them.
fn fixpoint(table: &TypeTable) -> HashSet<TypeId> {
    let mut known = HashSet::new();
    loop {
        let before = known.len();
        for id in table.types() {
            if !known.contains(&id) && table.fields(id).any(|f| is_ruled(table, f, &known)) {
                known.insert(id);
            }
        }
        if known.len() == before {
            return known;
        }
    }
}

/// The struct that a field is, or is a list or map of.
fn element(table: &TypeTable, shape: Shape) -> Option<TypeId> {
    match shape {
        Shape::Struct(id) => Some(id),
        Shape::List(e) | Shape::Wrapped(e) | Shape::Map(e) => element(table, table.elem(e)),
        _ => None,
    }
}

impl Walk<'_> {
    fn rules<'s>(&'s self, field: &'static Field) -> impl Iterator<Item = Rule<'static>> + 's {
        field.extra().rules.iter().filter_map(|text| Rule::parse(text, self.options))
    }

    fn structure(&mut self, id: TypeId, path: &Path, new: &Value, old: Option<&Value>) {
        let fields = ruled(self.table, id);
        if fields.is_empty() {
            return;
        }
        self.members(id, path, new, old);
        for field in fields {
            let (at, now) = (path.child(&field.name), new.get(&field.name));
            let before = old.map(|o| o.get(&field.name));
            if field.name == "metadata" {
                self.subfields(field, &at, now, before.flatten());
            } else {
                self.field(field, &at, now, before);
            }
        }
    }

    /// The rules of a kind about parts of its metadata, which are texts. What did not change is not judged again
    /// (`validate.Subfield`).
    fn subfields(&mut self, field: &'static Field, path: &Path, new: Option<&Value>, old: Option<&Value>) {
        let rules: Vec<Rule<'_>> = self.rules(field).filter(|r| r.name == "subfield").collect();
        let options = self.options;
        let optional = |part: &str| {
            let mut own = rules.iter().filter(|r| r.argument == part);
            own.any(|r| r.nested(options).is_some_and(|inner| inner.name == "optional"))
        };
        for rule in &rules {
            let told = |metadata: Option<&Value>| {
                metadata.and_then(|m| m.str_at(&[rule.argument])).unwrap_or_default().to_owned()
            };
            let (text, before) = (told(new), told(old));
            if (text.is_empty() && optional(rule.argument)) || (self.update && before == text) {
                continue;
            }
            let Some(inner) = rule.nested(self.options) else { continue };
            self.scalar(&inner, &path.child(rule.argument), &Value::from(text.as_str()));
        }
    }

    /// `old` is none where the struct has no counterpart, and some nothing where that has no such field.
    fn field(
        &mut self,
        field: &'static Field,
        path: &Path,
        new: Option<&Value>,
        old: Option<Option<&Value>>,
    ) {
        if self.update && old.is_some_and(|old| self.table.field_eq(field, new, old)) {
            return;
        }
        let rules: Vec<Rule<'_>> = self.rules(field).collect();
        if self.cut_short(field, &rules, path, new, old) {
            return;
        }
        let old = old.flatten();
        if let Some(value) = new.filter(|_| rules.iter().any(|r| r.name == "customValidation" && r.enforced))
        {
            self.errors.extend(custom::check(value, path));
        }
        for rule in rules.iter().filter(|r| !waits(r)) {
            match (rule.name, new) {
                (_, None | Some(Value::Null)) => {}
                ("monotonic", Some(Value::Int(now))) => {
                    let before = old.and_then(Value::as_i64).filter(|before| self.update && now < before);
                    let detail = |before: i64| format!("may not be decreased from {before}");
                    let error = before.map(|before| Error::invalid(path, *now, detail(before)));
                    self.errors.extend(error.filter(|_| rule.enforced));
                }
                ("eachKey", Some(Value::Map(map))) => {
                    let Some(inner) = rule.nested(self.options) else { continue };
                    for key in map.keys() {
                        if !(self.update && old.and_then(|o| o.get(key)).is_some()) {
                            self.scalar(&inner, path, &Value::from(key.as_str()));
                        }
                    }
                }
                (_, Some(value)) => self.scalar(rule, path, value),
            }
        }
        self.of_list(field, &rules, path, new, old);
        self.enumerated(field, path, new);
        if let Some(value) = new {
            self.below(field, &rules, path, value, old);
        }
    }

    /// The rules that need to know what kind of list a field is.
    fn of_list(
        &mut self,
        field: &'static Field,
        rules: &[Rule<'_>],
        path: &Path,
        new: Option<&Value>,
        old: Option<&Value>,
    ) {
        let first = |names: &[&str]| rules.iter().position(|r| names.contains(&r.name));
        let (items, unique) = (first(&["item"]), first(&["listType", "unique"]));
        let set = rules.iter().any(|r| r.payload == "set");
        for (i, rule) in rules.iter().enumerate().filter(|(_, r)| waits(r)) {
            // The rules about the list as a whole are judged once, where the first stands.
            if Some(i) == items {
                self.items(field, path, new, old);
            } else if Some(i) == unique {
                self.unique(field, rules, path, new);
            } else if let ("eachVal", Some(Value::List(list))) = (rule.name, new) {
                let Some(inner) = rule.nested(self.options) else { continue };
                for (i, item) in list.iter().enumerate() {
                    let known = old.and_then(Value::as_list).is_some_and(|l| l.iter().any(|o| o == item));
                    if !(self.update && set && known) {
                        self.scalar(&inner, &path.index(i), item);
                    }
                }
            }
        }
    }

    /// The rules after whose failure nothing else about a field is told.
    fn cut_short(
        &mut self,
        field: &Field,
        rules: &[Rule<'_>],
        path: &Path,
        new: Option<&Value>,
        old: Option<Option<&Value>>,
    ) -> bool {
        let set = is_set(field, new);
        let was = old.is_some_and(|o| is_set(field, o));
        let null = || Bad::Raw("null".into());
        let mut cut = false;
        let (last, first): (Vec<&Rule<'_>>, Vec<&Rule<'_>>) = rules.iter().partition(|r| waits(r));
        for rule in first.into_iter().chain(last) {
            let length = new.and_then(Value::as_list).map_or(0, |l| l.len());
            if matches!((rule.name, rule.payload), ("update", "NoAddItem" | "NoRemoveItem")) {
                let moved = self.moved_items(rule, &keys_of(field, rules), path, new, old.flatten());
                cut |= !moved.is_empty();
                self.errors.extend(moved.into_iter().filter(|_| rule.enforced));
                continue;
            }
            let error = match (rule.name, rule.payload) {
                ("required", _) if !set => Some(Error::required(path, "")),
                ("forbidden", _) if set => Some(Error::forbidden(path, "")),
                ("optional", _) if !set => None,
                ("immutable", _) if self.update => Some(Error::invalid(path, null(), "field is immutable")),
                ("update", "NoSet") if self.update && !was && set => {
                    Some(Error::invalid(path, null(), "field cannot be set once created"))
                }
                ("update", "NoUnset") if self.update && was && !set => {
                    Some(Error::invalid(path, null(), "field cannot be cleared once set"))
                }
                ("update", "NoModify") if self.update && was && set => {
                    Some(Error::invalid(path, null(), "field cannot be modified once set"))
                }
                ("maxItems", _) => match rule.number().and_then(|n| usize::try_from(n).ok()) {
                    Some(most) if length > most => Some(Error::too_many(path, length, most)),
                    _ => continue,
                },
                _ => continue,
            };
            cut = true;
            self.errors.extend(error.filter(|_| rule.enforced));
        }
        cut
    }

    /// Items that came or went, where the rule forbids that (`validate.ValSliceUpdate`).
    fn moved_items(
        &self,
        rule: &Rule<'_>,
        keys: &[&str],
        path: &Path,
        new: Option<&Value>,
        old: Option<&Value>,
    ) -> Vec<Error> {
        let items = |v: Option<&Value>| v.and_then(Value::as_list).cloned().unwrap_or_default();
        let (new, old) = (items(new), items(old));
        let lacks = |list: &machinery::List, item: &Value| !list.iter().any(|i| alike(keys, i, item));
        if !self.update {
            Vec::new()
        } else if rule.payload == "NoAddItem" {
            let added = new.iter().enumerate().filter(|(_, item)| lacks(&old, item));
            added.map(|(i, _)| Error::forbidden(&path.index(i), "item may not be added")).collect()
        } else {
            let removed = old.iter().filter(|item| lacks(&new, item));
            removed.map(|_| Error::forbidden(path, "item may not be removed")).collect()
        }
    }

    /// Keys of lists that are maps, and items of lists that are sets, stand once.
    fn unique(&mut self, field: &Field, rules: &[Rule<'_>], path: &Path, new: Option<&Value>) {
        let Some(list) = new.and_then(Value::as_list) else { return };
        let by = |kind: &str| {
            rules.iter().any(|r| matches!(r.name, "unique" | "listType") && r.payload == kind && r.enforced)
        };
        let own = rules.iter().any(|r| r.name == "customUnique");
        let keys = keys_of(field, rules);
        if own || !(by("set") || (by("map") && !keys.is_empty())) {
            return;
        }
        for (i, item) in list.iter().enumerate() {
            if list.iter().take(i).any(|earlier| alike(&keys, earlier, item)) {
                let bad = match item {
                    Value::Str(text) => Bad::Text(text.to_string()),
                    other => Bad::Raw(other.to_string()),
                };
                self.errors.push(Error::duplicate(&path.index(i), bad));
            }
        }
    }

    /// A rule about one value.
    fn scalar(&mut self, rule: &Rule<'_>, path: &Path, value: &Value) {
        if !rule.enforced {
            return;
        }
        let bound = rule.number().unwrap_or_default();
        let most = usize::try_from(bound).unwrap_or_default();
        match (rule.name, value) {
            ("format", Value::Str(text)) => self.errors.extend(format::check(rule.payload, text, path)),
            ("maxLength", Value::Str(text)) if text.chars().count() > most => {
                self.errors.push(Error::too_long_characters(path, most));
            }
            ("maxBytes", Value::Str(text)) if text.len() > most => {
                self.errors.push(Error::too_long(path, most));
            }
            ("minimum", Value::Int(n)) if *n < bound => {
                let detail = format!("must be greater than or equal to {bound}");
                self.errors.push(Error::invalid(path, *n, detail));
            }
            ("maximum", Value::Int(n)) if *n > bound => {
                let detail = format!("must be less than or equal to {bound}");
                self.errors.push(Error::invalid(path, *n, detail));
            }
            _ => {}
        }
    }

    fn enumerated(&mut self, field: &Field, path: &Path, new: Option<&Value>) {
        let Some(values) = enumeration(field) else { return };
        let mut check = |path: &Path, text: &str| {
            if !values.contains(&text) {
                self.errors.push(Error::not_supported(path, Bad::enumerated(text), values));
            }
        };
        match new {
            Some(Value::List(list)) => {
                for (i, item) in list.iter().enumerate() {
                    check(&path.index(i), item.as_str().unwrap_or(""));
                }
            }
            Some(Value::Str(text)) => check(path, text),
            None | Some(Value::Null) if !field.flags.pointer && matches!(field.shape, Shape::String) => {
                check(path, "");
            }
            _ => {}
        }
    }

    /// The structs inside a value.
    fn below(&mut self, field: &Field, rules: &[Rule<'_>], path: &Path, new: &Value, old: Option<&Value>) {
        let inside = |e| match self.table.elem(e) {
            Shape::Struct(id) => Some(id),
            _ => None,
        };
        match (field.shape, new) {
            (Shape::Struct(id), Value::Map(_)) => self.structure(id, path, new, old.filter(|o| !o.is_null())),
            (Shape::List(e) | Shape::Wrapped(e), Value::List(list)) => {
                let (Some(id), keys) = (inside(e), keys_of(field, rules)) else { return };
                for (i, item) in list.iter().enumerate() {
                    let mut olds = old.and_then(Value::as_list).into_iter().flat_map(|l| l.iter());
                    let before = olds.find(|o| !keys.is_empty() && alike(&keys, o, item));
                    if !(self.update && before.is_some_and(|b| self.table.semantic_eq(id, b, item))) {
                        self.structure(id, &path.index(i), item, before);
                    }
                }
            }
            (Shape::Map(e), Value::Map(map)) => {
                let Some(id) = inside(e) else { return };
                for (key, item) in map.iter() {
                    let before = old.and_then(|o| o.get(key));
                    if !(self.update && before.is_some_and(|b| self.table.semantic_eq(id, b, item))) {
                        self.structure(id, &path.key(key), item, before);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Whether upstream's generator puts a rule behind the others of a field, as it depends on what they say of the list
/// (`code-generator/cmd/validation-gen/validators`, deferred validations).
fn waits(rule: &Rule<'_>) -> bool {
    matches!(rule.name, "eachVal" | "item" | "listType" | "unique" | "update")
}

/// The fields by which items of a list that is a map are told apart.
fn keys_of<'t>(field: &'t Field, rules: &[Rule<'t>]) -> Vec<&'t str> {
    let mut keys: Vec<&str> = rules.iter().filter(|r| r.name == "listMapKey").map(|r| r.payload).collect();
    if keys.is_empty() && field.list_type == Some(ListType::Map) {
        keys = field.list_keys().iter().map(|k| k.as_str()).collect();
    }
    keys
}

/// Whether two items have the same keys; without keys, whether they are the same.
fn alike(keys: &[&str], a: &Value, b: &Value) -> bool {
    if keys.is_empty() { a == b } else { keys.iter().all(|k| same(a.get(k), b.get(k))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(kind: (&str, &str), new: serde_json::Value, old: Option<serde_json::Value>) -> Vec<String> {
        let id = crate::types().kind(kind.0, kind.1).expect("a kind");
        let tree = |v: &serde_json::Value| machinery::value::to_value(v).expect("a tree");
        let old = old.as_ref().map(tree);
        validate(id, &tree(&new), old.as_ref(), &[]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_are_enforced_and_spare_what_did_not_change() {
        let class = ("storage.k8s.io/v1", "StorageClass");
        let new = serde_json::json!({"parameters": {"a": "b"}});
        assert_eq!(errors(class, new.clone(), None), ["provisioner: Required value"]);
        assert!(errors(class, new.clone(), Some(new)).is_empty());
        let (a, b) = (serde_json::json!({"provisioner": "a"}), serde_json::json!({"provisioner": "b"}));
        assert_eq!(errors(class, a, Some(b)), ["provisioner: Invalid value: null: field is immutable"]);
    }

    #[test]
    fn covered_errors_give_way_to_what_rules_tell() {
        let at = Path::new("handler");
        let told = |written, declared| {
            together(written, declared).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let odd = || Error::invalid(&at, "A", "odd").covered();
        assert_eq!(told(vec![odd()], vec![]), ["handler: Invalid value: \"A\": odd"]);
        assert_eq!(
            told(vec![odd()], vec![Error::invalid(&at, "A", "bad")]),
            ["handler: Invalid value: \"A\": bad"]
        );
        let fixed = || Error::invalid(&at, "A", "field is immutable");
        assert_eq!(told(vec![odd()], vec![fixed()]).len(), 2);
        assert_eq!(told(vec![Error::required(&at, "")], vec![Error::required(&at, "")]).len(), 2);
    }

    #[test]
    fn unions_and_modes() {
        let slice = ("resource.k8s.io/v1", "ResourceSlice");
        let device = serde_json::json!({"spec": {"devices": [{"name": "d", "attributes": {"a": {"int": 1, "bool": true}}}]}});
        let at = "spec.devices[0].attributes[a]: Invalid value: \"{int, bool}\": must specify exactly one of: \
                  `int`, `bool`, `string`, `version`, `ints`, `bools`, `strings`, `versions`";
        assert_eq!(errors(slice, device, None), [at]);
        let level = ("flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration");
        let new = serde_json::json!({"spec": {"type": "Limited", "exempt": {}}});
        assert_eq!(errors(level, new, None), ["spec.exempt: Forbidden", "spec.limited: Required value"]);
    }
}
