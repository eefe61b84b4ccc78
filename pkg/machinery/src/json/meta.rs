//! Reads and edits an object's metadata in its JSON bytes without decoding the rest.

use super::lex::Cursor;
use super::{Error, parse, write_str};
use crate::meta::Header;
use crate::value::{Map, Value};
use std::ops::Range;

fn broken(data: &[u8]) -> Error {
    Error::Invalid(super::check_syntax(data).err().unwrap_or_else(|| "expected an object".to_owned()))
}

/// Calls `each` with the name and value range of every entry of the object at `from`; answers where it ends.
fn entries(data: &[u8], from: usize, mut each: impl FnMut(&str, usize, Range<usize>)) -> Option<usize> {
    let mut c = Cursor::at(data, from);
    c.expect(b'{')?;
    if c.peek()? == b'}' {
        return Some(c.at + 1);
    }
    loop {
        c.peek()?;
        let start = c.at;
        let key = c.string()?;
        c.expect(b':')?;
        c.peek()?;
        let value = c.at;
        c.raw()?;
        each(&key, start, value..c.at);
        match c.peek()? {
            b',' => c.at += 1,
            b'}' => return Some(c.at + 1),
            _ => return None,
        }
    }
}

/// The range of `metadata` in an object.
fn metadata(data: &[u8]) -> Result<Option<Range<usize>>, Error> {
    let mut found = None;
    entries(data, 0, |key, _, value| {
        if key == "metadata" {
            found = Some(value);
        }
    })
    .ok_or_else(|| broken(data))?;
    Ok(found)
}

/// Reads an object's metadata; other fields are passed over.
pub fn header(data: &[u8]) -> Result<Header, Error> {
    let meta = match metadata(data)? {
        Some(at) => parse(&data[at])?,
        None => Value::Null,
    };
    Ok(Header::of(&Value::Map(Map::from_iter([("metadata", meta)]))))
}

/// Fields of ObjectMeta that Go writes before resourceVersion.
const BEFORE: [&str; 5] = ["name", "generateName", "namespace", "selfLink", "uid"];

/// An object with another resourceVersion. A new one is put where Go would write it: by declared order in typed
/// objects, by name where the keys of `metadata` are sorted (custom resources).
pub fn with_resource_version(data: &[u8], version: &str) -> Result<Vec<u8>, Error> {
    let Some(meta) = metadata(data)? else {
        return Err(Error::Invalid("the object has no metadata".to_owned()));
    };
    let mut keys: Vec<(String, usize, Range<usize>)> = Vec::new();
    let end = entries(data, meta.start, |key, start, value| keys.push((key.to_owned(), start, value)))
        .ok_or_else(|| Error::Invalid("metadata is not an object".to_owned()))?;
    let mut text = Vec::with_capacity(version.len() + 2);
    write_str(version, &mut text);
    let splice = |at: Range<usize>, with: &[&[u8]]| {
        let mut out = Vec::with_capacity(data.len() + version.len() + 24);
        out.extend_from_slice(&data[..at.start]);
        with.iter().for_each(|part| out.extend_from_slice(part));
        out.extend_from_slice(&data[at.end..]);
        Ok(out)
    };
    if let Some((_, _, value)) = keys.iter().find(|(k, ..)| k == "resourceVersion") {
        return splice(value.clone(), &[&text]);
    }
    let name = b"\"resourceVersion\":";
    let sorted = keys.windows(2).all(|w| w[0].0 <= w[1].0);
    let next = keys
        .iter()
        .find(|(k, ..)| if sorted { k.as_str() > "resourceVersion" } else { !BEFORE.contains(&k.as_str()) });
    match (next, keys.last()) {
        (Some((_, start, _)), _) => splice(*start..*start, &[name, &text, b","]),
        (None, Some((_, _, last))) => splice(last.end..last.end, &[b",", name, &text]),
        (None, None) => splice(end - 1..end - 1, &[name, &text]),
    }
}

/// The type and object of a watch event's JSON line.
pub fn watch_event(line: &[u8]) -> Result<(String, &[u8]), Error> {
    let (mut event, mut object) = (None, None);
    entries(line, 0, |key, _, value| match key {
        "type" => event = Some(value),
        "object" => object = Some(value),
        _ => {}
    })
    .ok_or_else(|| broken(line))?;
    let event = event.and_then(|at| Some(Cursor::new(&line[at]).string()?.into_owned()));
    match (event, object) {
        (Some(event), Some(object)) => Ok((event, &line[object])),
        _ => Err(Error::Invalid("a watch event needs type and object".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let h = header(
            br#"{"kind":"X","spec":{"metadata":{"name":"no"}},"metadata":{"name":"n","labels":{"b":"1","a":"2"},
                "creationTimestamp":"1970-01-01T00:00:05Z","ownerReferences":[{"uid":"u","controller":true}]}}"#,
        )
        .unwrap();
        assert_eq!((h.name.as_str(), h.creation_timestamp), ("n", Some(5)));
        assert_eq!(h.labels, [("a".into(), "2".into()), ("b".into(), "1".into())]);
        assert_eq!(h.controller().map(|o| o.uid.as_str()), Some("u"));
        assert_eq!(header(b"{}").unwrap(), Header::default());
        assert!(header(b"{\"metadata\":").is_err());
        assert!(header(b"[]").is_err());
    }

    #[test]
    fn resource_versions() {
        for (input, want) in [
            (r#"{"metadata":{"resourceVersion":"1"}}"#, r#"{"metadata":{"resourceVersion":"7"}}"#),
            (r#"{"metadata":{}}"#, r#"{"metadata":{"resourceVersion":"7"}}"#),
            (
                r#"{"metadata":{"name":"a"},"x":1}"#,
                r#"{"metadata":{"name":"a","resourceVersion":"7"},"x":1}"#,
            ),
            (
                r#"{"metadata":{"name":"a","uid":"u","creationTimestamp":"t"}}"#,
                r#"{"metadata":{"name":"a","uid":"u","resourceVersion":"7","creationTimestamp":"t"}}"#,
            ),
            (
                r#"{"metadata":{"creationTimestamp":"t","name":"a","uid":"u"}}"#,
                r#"{"metadata":{"creationTimestamp":"t","name":"a","resourceVersion":"7","uid":"u"}}"#,
            ),
        ] {
            let out = with_resource_version(input.as_bytes(), "7").unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
        assert!(with_resource_version(b"{}", "7").is_err());
        assert!(with_resource_version(br#"{"metadata":[]}"#, "7").is_err());
    }

    #[test]
    fn events() {
        let (event, object) = watch_event(br#" {"type":"ADDED","object":{"a": 1}} "#).unwrap();
        assert_eq!((event.as_str(), object), ("ADDED", &br#"{"a": 1}"#[..]));
        assert!(watch_event(b"{}").is_err());
    }
}
