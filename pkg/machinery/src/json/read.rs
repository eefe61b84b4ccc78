//! Reads JSON as a type of the table into canonical form.
//!
//! Mirrors sigs.k8s.io/json (`internal/golang/encoding/json/decode.go`) with CaseSensitive and PreserveInts: the
//! first value that does not fit is remembered and reading goes on; a type's own reader (quantities, times, ...)
//! ends it at once; a repeated field is read over the first one, so that maps and structs merge.

use super::errors::{Abort, Keys, Path, Strict, type_error};
use super::lex::{Cursor, key_str};
use super::{any::AnyReader, write};
use crate::golang;
use crate::quantity::Quantity;
use crate::schema::lookup::{Sparse, ascending};
use crate::schema::{Choice, Field, Shape, TypeId, TypeTable};
use crate::time;
use crate::value::{List, MAX_DEPTH, Map, MapBuilder, Str, Value};

pub(super) struct Reader<'t> {
    pub table: &'t TypeTable,
    pub strict: Strict,
    /// The first value that did not fit.
    pub saved: Option<String>,
}

type Read<T> = Result<T, Abort>;

fn syntax<T>(x: Option<T>) -> Read<T> {
    x.ok_or(Abort::Syntax)
}

/// A value's place: its field (for Go's type names), and what an earlier occurrence left there.
pub(super) struct Place<'a> {
    pub field: Option<&'a Field>,
    /// Levels of list or map that were entered below the field.
    pub below: usize,
    pub prev: Option<Value>,
}

/// The values of a struct that were met, by the rank of their fields' names.
pub(crate) type Met = Sparse<Value>;

impl Reader<'_> {
    fn save(&mut self, path: &Path<'_>, found: &str, wanted: &str) {
        if self.saved.is_none() {
            self.saved = Some(type_error(self.table, path, found, wanted));
        }
    }

    /// A value of the wrong JSON type: skip it and remember the error.
    fn mismatch(
        &mut self,
        c: &mut Cursor<'_>,
        path: &Path<'_>,
        shape: Shape,
        place: &Place<'_>,
    ) -> Read<Value> {
        let wanted = self.go_type(shape, place);
        self.mismatch_named(c, path, &wanted)?;
        Ok(place.prev.clone().unwrap_or(Value::Null))
    }

    fn mismatch_named(&mut self, c: &mut Cursor<'_>, path: &Path<'_>, wanted: &str) -> Read<()> {
        let found = match syntax(c.peek())? {
            b'{' => "object".to_owned(),
            b'[' => "array".to_owned(),
            b'"' => "string".to_owned(),
            b't' | b'f' => "bool".to_owned(),
            _ => "number".to_owned(),
        };
        let raw = syntax(c.raw())?;
        let integer =
            matches!(wanted, "int32" | "int64" | "int" | "float64") || wanted.ends_with("time.Duration");
        if found == "number" && integer {
            let text = String::from_utf8_lossy(raw);
            self.save(path, &format!("number {text}"), wanted);
        } else {
            self.save(path, &found, wanted);
        }
        Ok(())
    }

    fn go_type(&self, shape: Shape, place: &Place<'_>) -> String {
        let Some(named) = place.field.and_then(|f| f.extra().go_type.as_deref()) else {
            return self.table.go_shape(shape);
        };
        let mut name = named.trim_start_matches('*');
        for _ in 0..place.below {
            let inner = name
                .strip_prefix("[]")
                .or_else(|| name.strip_prefix("map[")?.split_once(']').map(|(_, v)| v));
            match inner {
                Some(inner) => name = inner.trim_start_matches('*'),
                // A named list or map: its elements have plain names.
                None => return self.table.go_shape(shape),
            }
        }
        name.to_owned()
    }

    pub fn root(&mut self, c: &mut Cursor<'_>, id: TypeId) -> Read<Value> {
        let place = Place { field: None, below: 0, prev: None };
        if c.peek() == Some(b'n') {
            syntax(c.word(b"null"))?;
            return Ok(self.table.zero(id));
        }
        self.value(c, Shape::Struct(id), place, &Path::Root, 0)
    }

    /// A value that is not null, or null for shapes that read it themselves.
    fn value(
        &mut self,
        c: &mut Cursor<'_>,
        shape: Shape,
        place: Place<'_>,
        path: &Path<'_>,
        depth: usize,
    ) -> Read<Value> {
        let first = syntax(c.peek())?;
        match shape {
            Shape::Struct(id) if self.table.get(id).choice.is_some() => self.choice(c, id, path, depth),
            Shape::Struct(id) if first == b'{' => self.structure(c, id, place.prev, path, depth),
            Shape::List(e) | Shape::Wrapped(e) if first == b'[' => {
                let e = self.table.elem(e);
                self.list(c, e, place, path, depth)
            }
            Shape::Map(e) if first == b'{' => {
                let e = self.table.elem(e);
                self.map(c, e, place, path, depth)
            }
            Shape::String if first == b'"' => Ok(Value::Str(key_str(syntax(c.string())?))),
            Shape::Bool if first == b't' => syntax(c.word(b"true")).map(|()| Value::Bool(true)),
            Shape::Bool if first == b'f' => syntax(c.word(b"false")).map(|()| Value::Bool(false)),
            Shape::Int32 | Shape::Int64 | Shape::Double if first == b'-' || first.is_ascii_digit() => {
                self.number(c, shape, &place, path)
            }
            Shape::Bytes if first == b'"' => self.bytes(c),
            Shape::Bytes if first == b'[' => self.byte_array(c, path),
            Shape::Time | Shape::MicroTime | Shape::Duration => self.text(c, shape, path),
            Shape::Quantity => self.quantity(c),
            Shape::IntOrString => self.int_or_string(c, path),
            Shape::Raw => Ok(match syntax(c.raw())? {
                b"null" => Value::Null,
                raw => Value::Raw(raw.into()),
            }),
            Shape::Any => self.any(c, path, depth),
            _ => self.mismatch(c, path, shape, &place),
        }
    }

    /// A field's or element's value; null leaves what was there, or clears a pointer, list or map.
    pub(super) fn slot(
        &mut self,
        c: &mut Cursor<'_>,
        shape: Shape,
        place: Place<'_>,
        path: &Path<'_>,
        depth: usize,
    ) -> Read<Value> {
        if syntax(c.peek())? != b'n' {
            return self.value(c, shape, place, path, depth);
        }
        let pointer = place.below == 0 && place.field.is_some_and(|f| f.flags.pointer);
        match shape {
            // These read null themselves, unless a pointer swallows it.
            Shape::Duration | Shape::Struct(_) | Shape::IntOrString if !pointer => match shape {
                Shape::Struct(id) if self.table.get(id).choice.is_none() => {
                    syntax(c.word(b"null"))?;
                    Ok(place.prev.unwrap_or_else(|| self.table.zero(id)))
                }
                _ => self.value(c, shape, place, path, depth),
            },
            _ => {
                syntax(c.word(b"null"))?;
                match shape {
                    Shape::String | Shape::Bool | Shape::Int32 | Shape::Int64 | Shape::Double if !pointer => {
                        Ok(place.prev.unwrap_or_else(|| self.table.zero_of(shape)))
                    }
                    _ if pointer => Ok(Value::Null),
                    // RawExtension ignores null, so a repeated one keeps the first content.
                    Shape::Raw => Ok(place.prev.unwrap_or(Value::Null)),
                    shape => Ok(self.table.zero_of(shape)),
                }
            }
        }
    }

    fn structure(
        &mut self,
        c: &mut Cursor<'_>,
        id: TypeId,
        prev: Option<Value>,
        path: &Path<'_>,
        depth: usize,
    ) -> Read<Value> {
        let depth = depth + 1;
        if depth > MAX_DEPTH {
            return Err(Abort::Depth);
        }
        let table = self.table;
        let flat = table.flat_ids(id);
        let mut met = Met::new();
        if let Some(Value::Map(m)) = prev {
            for (k, v) in m {
                if let Some(at) = table.position(id, &k, usize::MAX) {
                    met.put(table.rank(id, at), v);
                }
            }
        }
        let mut seen = 0_u128;
        let mut guess = 0;
        let mut members = c.enter(b'}');
        while syntax(members.more(c))? {
            let key = syntax(c.string())?;
            syntax(c.expect(b':'))?;
            match table.position(id, &key, guess) {
                Some(at) => {
                    guess = at + 1;
                    let f = table.field_at(flat[at]);
                    if seen & 1 << at != 0 {
                        self.strict.duplicate(path, &f.name);
                    }
                    seen |= 1 << at;
                    let rank = table.rank(id, at);
                    let place = Place { field: Some(f), below: 0, prev: met.get_mut(rank).map(Value::take) };
                    let value = self.slot(c, f.shape, place, &Path::Field(path, &f.name, id), depth)?;
                    met.put(rank, value);
                }
                None => {
                    self.strict.unknown(path, &key);
                    syntax(c.raw())?;
                }
            }
        }
        Ok(table.canonical(id, &mut met))
    }

    fn list(
        &mut self,
        c: &mut Cursor<'_>,
        elem: Shape,
        place: Place<'_>,
        path: &Path<'_>,
        depth: usize,
    ) -> Read<Value> {
        let depth = depth + 1;
        if depth > MAX_DEPTH {
            return Err(Abort::Depth);
        }
        let mut prev = match place.prev {
            Some(Value::List(l)) => l.into_vec(),
            _ => Vec::new(),
        };
        let mut out = Vec::new();
        let mut items = c.enter(b']');
        while syntax(items.more(c))? {
            let path = Path::Index(path, out.len());
            // Go reads over the elements of a list that the field had before.
            let old = prev.get_mut(out.len()).map(Value::take);
            let place = Place { field: place.field, below: place.below + 1, prev: old };
            out.push(self.slot(c, elem, place, &path, depth)?);
        }
        Ok(Value::List(List::from(out)))
    }

    fn map(
        &mut self,
        c: &mut Cursor<'_>,
        elem: Shape,
        place: Place<'_>,
        path: &Path<'_>,
        depth: usize,
    ) -> Read<Value> {
        let depth = depth + 1;
        if depth > MAX_DEPTH {
            return Err(Abort::Depth);
        }
        let mut out = MapBuilder::default();
        if let Some(Value::Map(m)) = place.prev {
            for (k, v) in m {
                out.push(k, v);
            }
        }
        let mut keys = Keys::new(out.len());
        let mut items = c.enter(b'}');
        while syntax(items.more(c))? {
            let key: Str = key_str(syntax(c.string())?);
            syntax(c.expect(b':'))?;
            if self.strict.on() && !keys.is_new(&out, &key) {
                self.strict.duplicate(path, &key);
            }
            let place = Place { field: place.field, below: place.below + 1, prev: None };
            let v = self.slot(c, elem, place, &Path::Key(path, &key), depth)?;
            out.push(key, v);
        }
        Ok(Value::Map(out.build()))
    }

    fn number(
        &mut self,
        c: &mut Cursor<'_>,
        shape: Shape,
        place: &Place<'_>,
        path: &Path<'_>,
    ) -> Read<Value> {
        let text = syntax(c.number())?;
        let value = match shape {
            Shape::Int32 => text.parse::<i32>().ok().map(Value::from),
            Shape::Int64 => text.parse::<i64>().ok().map(Value::from),
            _ => text.parse::<f64>().ok().filter(|f| f.is_finite()).map(Value::Float),
        };
        Ok(value.unwrap_or_else(|| {
            let wanted = self.go_type(shape, place);
            self.save(path, &format!("number {text}"), &wanted);
            place.prev.clone().unwrap_or(Value::Int(0))
        }))
    }

    fn bytes(&mut self, c: &mut Cursor<'_>) -> Read<Value> {
        let text = syntax(c.string())?;
        match golang::decode_base64(text.as_bytes()) {
            // Base64 has one spelling here, so that equal bytes are equal trees.
            Ok(bytes) => Ok(golang::encode_base64(&bytes).into()),
            Err(e) => {
                self.saved.get_or_insert(e);
                Ok(Value::Null)
            }
        }
    }

    /// Go also takes an array of numbers for a byte string.
    fn byte_array(&mut self, c: &mut Cursor<'_>, path: &Path<'_>) -> Read<Value> {
        let mut bytes = Vec::new();
        let mut items = c.enter(b']');
        while syntax(items.more(c))? {
            match syntax(c.peek())? {
                b'n' => {
                    syntax(c.word(b"null"))?;
                    bytes.push(0);
                }
                b'-' | b'0'..=b'9' => {
                    let text = syntax(c.number())?;
                    bytes.push(text.parse().unwrap_or_else(|_| {
                        self.save(path, &format!("number {text}"), "uint8");
                        0
                    }));
                }
                _ => {
                    self.mismatch_named(c, path, "uint8")?;
                    bytes.push(0);
                }
            }
        }
        Ok(golang::encode_base64(&bytes).into())
    }

    /// Times and durations: a JSON string that Go's own readers parse.
    fn text(&mut self, c: &mut Cursor<'_>, shape: Shape, path: &Path<'_>) -> Read<Value> {
        let fail = |e: String| Err(Abort::Failed(e));
        let text = match syntax(c.peek())? {
            b'"' => syntax(c.string())?,
            b'n' => {
                syntax(c.word(b"null"))?;
                "".into()
            }
            first => {
                let found = match first {
                    b'{' => "object",
                    b'[' => "array",
                    b't' | b'f' => "bool",
                    _ => "number",
                };
                syntax(c.raw())?;
                return fail(type_error(self.table, path, found, "string"));
            }
        };
        if shape == Shape::Time
            && let Some(t) = time::parse_written(&text)
        {
            return Ok(if t.is_zero() { Value::Null } else { Value::Str(key_str(text)) });
        }
        let parsed = match shape {
            Shape::Duration => {
                return match time::parse_duration(&text) {
                    Ok(n) => Ok(time::format_duration(n).into()),
                    Err(e) => fail(e.to_string()),
                };
            }
            Shape::MicroTime => time::parse_micro(&text),
            _ => time::parse_rfc3339(&text),
        };
        match parsed {
            Ok(t) if t.is_zero() => Ok(Value::Null),
            Ok(t) if shape == Shape::MicroTime => Ok(time::format_micro(t).into()),
            Ok(t) => Ok(time::format_rfc3339(t.seconds).into()),
            Err(e) => fail(e.to_string()),
        }
    }

    /// Upstream strips the quotes from the raw text and parses what is left, escapes unresolved.
    fn quantity(&mut self, c: &mut Cursor<'_>) -> Read<Value> {
        let raw = syntax(c.raw())?;
        let text = match raw {
            [b'"', inner @ .., b'"'] => inner,
            other => other,
        };
        let text = String::from_utf8_lossy(text);
        if Quantity::is_settled(&text) {
            return Ok(Value::Str(key_str(text)));
        }
        match Quantity::parse(text.trim()) {
            Ok(q) => Ok(Value::Str(compact_str::ToCompactString::to_compact_string(&q))),
            Err(e) => Err(Abort::Failed(e.to_string())),
        }
    }

    fn int_or_string(&mut self, c: &mut Cursor<'_>, path: &Path<'_>) -> Read<Value> {
        match syntax(c.peek())? {
            b'"' => Ok(Value::Str(key_str(syntax(c.string())?))),
            b'n' => syntax(c.word(b"null")).map(|()| Value::Int(0)),
            b'-' | b'0'..=b'9' => {
                let text = syntax(c.number())?;
                text.parse::<i32>().map(Value::from).map_err(|_| {
                    Abort::Failed(type_error(self.table, path, &format!("number {text}"), "int32"))
                })
            }
            first => {
                let found = match first {
                    b'{' => "object",
                    b'[' => "array",
                    _ => "bool",
                };
                syntax(c.raw())?;
                Err(Abort::Failed(type_error(self.table, path, found, "int32")))
            }
        }
    }

    fn any(&mut self, c: &mut Cursor<'_>, path: &Path<'_>, depth: usize) -> Read<Value> {
        let mut any = AnyReader { strict: &self.strict, overflow: None };
        let value = any.value(c, path, depth)?;
        if let Some(text) = any.overflow {
            self.save(path, &format!("number {text}"), "float64");
        }
        Ok(value)
    }

    /// apiextensions' schema-or-something types. What is below them is read leniently, as upstream does.
    fn choice(&mut self, c: &mut Cursor<'_>, id: TypeId, path: &Path<'_>, depth: usize) -> Read<Value> {
        let (kind, schema) = (self.table.get(id).choice, write::choice_schema(self.table, id));
        let (Some(kind), Some(schema)) = (kind, schema) else { return Err(Abort::Syntax) };
        let first = syntax(c.peek())?;
        let mut inner = Reader { table: self.table, strict: Strict::new(false), saved: None };
        let value = match (kind, first) {
            (_, b'{') => inner.structure(c, schema, None, path, depth)?,
            (Choice::Array, b'[') => {
                let place = Place { field: None, below: 0, prev: None };
                inner.list(c, Shape::Struct(schema), place, path, depth)?
            }
            (Choice::StringArray, b'[') => {
                let place = Place { field: None, below: 0, prev: None };
                inner.list(c, Shape::String, place, path, depth)?
            }
            (Choice::Bool, b't') => syntax(c.word(b"true")).map(|()| Value::Bool(true))?,
            (Choice::Bool, b'f') => syntax(c.word(b"false")).map(|()| Value::Bool(false))?,
            (Choice::Bool, _) => {
                syntax(c.raw())?;
                return Err(Abort::Failed("boolean or JSON schema expected".to_owned()));
            }
            // Anything else leaves the choice empty, which is not the same as absent.
            _ => {
                syntax(c.raw())?;
                Value::List(List::new())
            }
        };
        if let Some(e) = inner.saved {
            return Err(Abort::Failed(e));
        }
        Ok(value)
    }
}

impl TypeTable {
    /// The canonical form of a struct nobody filled in.
    pub fn zero(&self, id: TypeId) -> Value {
        if self.get(id).choice.is_some() {
            return if self.get(id).choice == Some(Choice::Bool) { Value::Bool(false) } else { Value::Null };
        }
        self.zeros.get_or_init(|| self.compute_zeros())[id.0 as usize].0.clone()
    }

    /// Puts a struct into canonical form: zero values where Go writes them, nothing where it does not.
    pub(crate) fn canonical(&self, id: TypeId, met: &mut Met) -> Value {
        let zeros = self.zeros.get_or_init(|| self.compute_zeros())[id.0 as usize].1;
        let (flat, sorted) = (self.flat_ids(id), self.sorted_ids(id));
        let mut out = MapBuilder::with_capacity((met.set() | zeros).count_ones() as usize);
        // In order of name, so that nothing has to be sorted.
        for rank in ascending(met.set() | zeros) {
            let f = self.field_at(flat[usize::from(sorted[rank])]);
            match met.get_mut(rank).map(Value::take) {
                Some(v) if write::is_kept(f, &v) => out.push_sorted(f.name.clone(), v),
                Some(_) => {}
                None => out.push_sorted(f.name.clone(), self.zero_field(f)),
            }
        }
        Value::Map(out.build())
    }

    /// Every struct's zero value, and the ranks of the fields that are in it.
    fn compute_zeros(&self) -> Vec<(Value, u128)> {
        let mut out: Vec<Option<Value>> = vec![None; self.types.len()];
        for id in self.types() {
            self.compute_zero(id, &mut out, 0);
        }
        let values = out.into_iter().map(Option::unwrap_or_default);
        let with_ranks = |(value, id)| {
            let ranks = self.zero_ranks(id, &value);
            (value, ranks)
        };
        values.zip(self.types()).map(with_ranks).collect()
    }

    fn zero_ranks(&self, id: TypeId, zero: &Value) -> u128 {
        let is_there =
            |at: &u16| zero.get(&self.field_at(self.flat_ids(id)[usize::from(*at)]).name).is_some();
        let ranks = self.sorted_ids(id).iter().enumerate().filter(|(_, at)| is_there(at));
        ranks.fold(0, |set, (rank, _)| set | 1 << rank)
    }

    fn compute_zero(&self, id: TypeId, out: &mut Vec<Option<Value>>, depth: usize) -> Value {
        if let Some(v) = &out[id.0 as usize] {
            return v.clone();
        }
        let mut m = Map::new();
        for f in self.fields(id) {
            let v = match f.shape {
                // Go has no struct that contains itself by value; the limit guards against a damaged table.
                Shape::Struct(inner)
                    if !f.flags.pointer && self.get(inner).choice.is_none() && depth < 32 =>
                {
                    self.compute_zero(inner, out, depth + 1)
                }
                Shape::Struct(inner) if !f.flags.pointer => self.zero_choice(inner),
                _ => self.zero_field_scalar(f),
            };
            if !write::is_omitted(f, &v) {
                m.insert(f.name.clone(), v);
            }
        }
        let v = Value::Map(m);
        out[id.0 as usize] = Some(v.clone());
        v
    }

    fn zero_choice(&self, id: TypeId) -> Value {
        if self.get(id).choice == Some(Choice::Bool) { Value::Bool(false) } else { Value::Null }
    }

    fn zero_field_scalar(&self, f: &Field) -> Value {
        if f.flags.pointer { Value::Null } else { zero_scalar(f.shape) }
    }

    /// The zero value of a field.
    pub fn zero_field(&self, f: &Field) -> Value {
        if f.flags.pointer { Value::Null } else { self.zero_of(f.shape) }
    }

    /// The zero value of a shape.
    pub fn zero_of(&self, shape: Shape) -> Value {
        match shape {
            Shape::Struct(id) => self.zero(id),
            other => zero_scalar(other),
        }
    }

    /// Whether Go writes the field even when it is zero and says omitempty: structs by value.
    pub(crate) fn always_written(&self, f: &Field) -> bool {
        !f.flags.pointer
            && matches!(
                f.shape,
                Shape::Struct(_)
                    | Shape::Time
                    | Shape::MicroTime
                    | Shape::Duration
                    | Shape::Quantity
                    | Shape::IntOrString
                    | Shape::Raw
            )
    }

    pub(crate) fn sorted_ids(&self, id: TypeId) -> &[u16] {
        let (from, to) = self.get(id).flat;
        &self.sorted[from as usize..to as usize]
    }
}

fn zero_scalar(shape: Shape) -> Value {
    match shape {
        Shape::String => Value::Str(Str::const_new("")),
        Shape::Bool => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => Value::Int(0),
        Shape::Duration => Value::Str(Str::const_new("0s")),
        Shape::Quantity => Value::Str(Str::const_new("0")),
        _ => Value::Null,
    }
}
