//! Reads JSON without a type, as upstream reads unstructured objects.

use super::errors::{Abort, Keys, Path, Strict};
use super::lex::{Cursor, key_str, untyped_number};
use crate::value::{List, MAX_DEPTH, MapBuilder, Str, Value};

pub(super) struct AnyReader<'s> {
    pub strict: &'s Strict,
    /// The first number that overflows, Go's error.
    pub overflow: Option<String>,
}

impl AnyReader<'_> {
    pub fn value(&mut self, c: &mut Cursor<'_>, path: &Path<'_>, depth: usize) -> Result<Value, Abort> {
        match c.peek().ok_or(Abort::Syntax)? {
            b'{' => self.object(c, path, depth),
            b'[' => self.array(c, path, depth),
            b'"' => Ok(Value::Str(key_str(c.string().ok_or(Abort::Syntax)?))),
            b't' => c.word(b"true").map(|()| Value::Bool(true)).ok_or(Abort::Syntax),
            b'f' => c.word(b"false").map(|()| Value::Bool(false)).ok_or(Abort::Syntax),
            b'n' => c.word(b"null").map(|()| Value::Null).ok_or(Abort::Syntax),
            _ => {
                let text = c.number().ok_or(Abort::Syntax)?;
                Ok(untyped_number(text).map_or_else(
                    || {
                        self.overflow.get_or_insert_with(|| text.to_owned());
                        Value::Null
                    },
                    Value::from,
                ))
            }
        }
    }

    fn object(&mut self, c: &mut Cursor<'_>, path: &Path<'_>, depth: usize) -> Result<Value, Abort> {
        let depth = depth + 1;
        if depth > MAX_DEPTH {
            return Err(Abort::Depth);
        }
        let mut out = MapBuilder::default();
        let mut keys = Keys::new(0);
        let mut items = c.enter(b'}');
        while items.more(c).ok_or(Abort::Syntax)? {
            let key = c.string().ok_or(Abort::Syntax)?;
            c.expect(b':').ok_or(Abort::Syntax)?;
            let key: Str = key_str(key);
            if self.strict.on() && !keys.is_new(&out, &key) {
                self.strict.duplicate(path, &key);
            }
            let value = self.value(c, &Path::Key(path, &key), depth)?;
            out.push(key, value);
        }
        Ok(Value::Map(out.build()))
    }

    fn array(&mut self, c: &mut Cursor<'_>, path: &Path<'_>, depth: usize) -> Result<Value, Abort> {
        let depth = depth + 1;
        if depth > MAX_DEPTH {
            return Err(Abort::Depth);
        }
        let mut out = Vec::new();
        let mut items = c.enter(b']');
        while items.more(c).ok_or(Abort::Syntax)? {
            let value = self.value(c, &Path::Index(path, out.len()), depth)?;
            out.push(value);
        }
        Ok(Value::List(List::from(out)))
    }
}
