//! YAML to trees by way of parser events, as `sigs.k8s.io/yaml` turns YAML into JSON.
//!
//! Aliases share memory, and the work of expanding them is counted and limited as in yaml.v2, so a document that
//! explodes is refused before it does.

use super::Error;
use super::resolve::{Scalar, tagged};
use crate::value::{List, MAX_DEPTH, MapBuilder, Str, Value};
use granit_parser::{Event, Parser, ScalarStyle};
use std::collections::{HashMap, HashSet};

/// A node and the number of decode steps that yaml.v2 would take for it.
#[derive(Clone)]
struct Node {
    value: Value,
    key: Option<Scalar>,
    steps: usize,
    depth: usize,
    /// Where a map or list begins; 0 for scalars.
    line: usize,
}

/// A map or list being read.
struct Frame {
    content: Content,
    anchor: usize,
    steps: usize,
    depth: usize,
    line: usize,
}

enum Content {
    List(Vec<Value>),
    Map(Box<MapFrame>),
}

#[derive(Default)]
struct MapFrame {
    entries: MapBuilder,
    seen: HashSet<Str>,
    /// The key whose value is due.
    key: Option<Key>,
    key_line: usize,
    merged: Vec<Value>,
}

enum Key {
    Merge,
    Name(Scalar, Str),
}

struct Reader {
    strict: bool,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    open_anchors: HashSet<usize>,
    steps: usize,
    alias_steps: usize,
    problems: Vec<String>,
}

/// yaml.v2's `allowedAliasRatio`.
fn allowed_alias_ratio(steps: usize) -> f64 {
    const LOW: usize = 400_000;
    const HIGH: usize = 4_000_000;
    match steps {
        0..=LOW => 0.99,
        HIGH.. => 0.10,
        n => 0.99 - 0.89 * ((n - LOW) as f64 / (HIGH - LOW) as f64),
    }
}

pub(super) fn read(text: &str, strict: bool) -> Result<Value, Error> {
    let mut r = Reader {
        strict,
        stack: Vec::new(),
        anchors: HashMap::new(),
        open_anchors: HashSet::new(),
        steps: 0,
        alias_steps: 0,
        problems: Vec::new(),
    };
    let mut parser = Parser::new_from_str(text);
    let mut root = Value::Null;
    while let Some(event) = parser.next_event() {
        let (event, span) =
            event.map_err(|e| Error::Syntax { line: e.marker().line(), what: e.info().to_owned() })?;
        match event {
            // Like yaml.Unmarshal: one document, what follows is not looked at.
            Event::DocumentEnd | Event::StreamEnd => break,
            event => {
                if let Some(node) = r.event(event, span.start.line())? {
                    root = node.value;
                }
            }
        }
    }
    match r.problems.is_empty() {
        true => Ok(root),
        false => Err(Error::Unmarshal(r.problems)),
    }
}

impl Reader {
    /// Handles one event; answers the root when it is complete.
    fn event(&mut self, event: Event<'_>, mut line: usize) -> Result<Option<Node>, Error> {
        let node = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.map(|t| format!("{}{}", t.handle(), t.suffix())).unwrap_or_default();
                let scalar = tagged(&tag, &text, style == ScalarStyle::Plain).map_err(Error::Other)?;
                self.count(1, false)?;
                let merge = text == "<<" && style == ScalarStyle::Plain;
                if merge && self.expects_key() {
                    self.set_key(Key::Merge);
                    return Ok(None);
                }
                if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
                    // A block scalar is where its indicator stands: beside the key.
                    line = self.key_line().unwrap_or(line);
                }
                let node = Node { value: Value::Null, key: Some(scalar), steps: 1, depth: 0, line: 0 };
                self.keep(anchor, &node);
                node
            }
            Event::Alias(id) => self.alias(id)?,
            Event::SequenceStart(_, anchor, _) => {
                self.open(Content::List(Vec::new()), anchor, line)?;
                return Ok(None);
            }
            Event::MappingStart(_, anchor, _) => {
                self.open(Content::Map(Box::default()), anchor, line)?;
                return Ok(None);
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            _ => return Ok(None),
        };
        self.place(node, line)
    }

    fn count(&mut self, steps: usize, alias: bool) -> Result<(), Error> {
        self.steps = self.steps.saturating_add(steps);
        if alias {
            self.alias_steps = self.alias_steps.saturating_add(steps);
        }
        let ratio = self.alias_steps as f64 / self.steps as f64;
        if self.alias_steps > 100 && self.steps > 1000 && ratio > allowed_alias_ratio(self.steps) {
            return Err(Error::Other("yaml: document contains excessive aliasing".to_owned()));
        }
        Ok(())
    }

    fn alias(&mut self, id: usize) -> Result<Node, Error> {
        if self.open_anchors.contains(&id) {
            return Err(Error::Other("yaml: anchor value contains itself".to_owned()));
        }
        let unknown = || Error::Other("yaml: unknown anchor referenced".to_owned());
        let node = self.anchors.get(&id).cloned().ok_or_else(unknown)?;
        self.count(node.steps.saturating_add(1), true)?;
        Ok(Node { line: 0, ..node })
    }

    fn keep(&mut self, anchor: usize, node: &Node) {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
    }

    fn open(&mut self, content: Content, anchor: usize, line: usize) -> Result<(), Error> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(Error::Other(format!("yaml: exceeded max depth of {MAX_DEPTH}")));
        }
        self.count(1, false)?;
        if anchor > 0 {
            self.open_anchors.insert(anchor);
        }
        self.stack.push(Frame { content, anchor, steps: 1, depth: 0, line });
        Ok(())
    }

    fn close(&mut self) -> Result<Node, Error> {
        let unbalanced = || Error::Other("yaml: unbalanced document".to_owned());
        let Frame { content, anchor, steps, depth, line } = self.stack.pop().ok_or_else(unbalanced)?;
        let value = match content {
            Content::List(items) => Value::List(List::from(items)),
            Content::Map(map) => map.finish(),
        };
        let node = Node { value, key: None, steps, depth: depth + 1, line };
        if node.depth > MAX_DEPTH {
            return Err(Error::Other(format!("yaml: exceeded max depth of {MAX_DEPTH}")));
        }
        self.open_anchors.remove(&anchor);
        self.keep(anchor, &node);
        Ok(node)
    }

    fn key_line(&self) -> Option<usize> {
        match &self.stack.last()?.content {
            Content::Map(map) if map.key.is_some() => Some(map.key_line),
            _ => None,
        }
    }

    fn expects_key(&self) -> bool {
        matches!(self.stack.last().map(|f| &f.content), Some(Content::Map(map)) if map.key.is_none())
    }

    fn set_key(&mut self, key: Key) {
        if let Some(Frame { content: Content::Map(map), steps, .. }) = self.stack.last_mut() {
            map.key = Some(key);
            *steps += 1;
        }
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Node, line: usize) -> Result<Option<Node>, Error> {
        if self.expects_key() {
            let Some(scalar) = node.key else {
                return Err(Error::Other("yaml: invalid map key".to_owned()));
            };
            let name = scalar.clone().into_key().map_err(Error::Other)?;
            self.set_key(Key::Name(scalar, name.into()));
            if let Some(Content::Map(map)) = self.stack.last_mut().map(|f| &mut f.content) {
                map.key_line = line;
            }
            return Ok(None);
        }
        let value = match node.key.clone() {
            Some(scalar) => scalar.into_value().map_err(Error::Other)?,
            None => node.value.clone(),
        };
        let line = if node.line > 0 { node.line } else { line };
        let Some(frame) = self.stack.last_mut() else { return Ok(Some(Node { value, ..node })) };
        frame.steps = frame.steps.saturating_add(node.steps);
        frame.depth = frame.depth.max(node.depth);
        match &mut frame.content {
            Content::List(items) => items.push(value),
            Content::Map(map) => match map.key.take() {
                Some(Key::Merge) => map.merge(value)?,
                Some(Key::Name(scalar, name)) => {
                    // A repeated key: an error if strict, else the later value counts.
                    if !map.seen.insert(name.clone()) && self.strict {
                        let key = scalar.go_syntax();
                        self.problems.push(format!("line {line}: key {key} already set in map"));
                    } else {
                        map.entries.push(name, value);
                    }
                }
                None => {}
            },
        }
        Ok(None)
    }
}

impl MapFrame {
    /// `<<`: the entries of one map, or of several of which earlier ones win.
    fn merge(&mut self, value: Value) -> Result<(), Error> {
        let wanted =
            || Error::Other("yaml: map merge requires map or sequence of maps as the value".to_owned());
        match value {
            Value::Map(_) => self.merged.push(value),
            Value::List(l) => {
                for v in l.into_vec().into_iter().rev() {
                    if !matches!(v, Value::Map(_)) {
                        return Err(wanted());
                    }
                    self.merged.push(v);
                }
            }
            _ => return Err(wanted()),
        }
        Ok(())
    }

    fn finish(self) -> Value {
        if self.merged.is_empty() {
            return Value::Map(self.entries.build());
        }
        let mut out = MapBuilder::default();
        for v in self.merged {
            if let Value::Map(m) = v {
                m.into_iter().for_each(|(k, v)| out.push(k, v));
            }
        }
        for (k, v) in self.entries.build() {
            out.push(k, v);
        }
        Value::Map(out.build())
    }
}
