//! One line of CSV, as pflag reads and prints string slices. Upstream: Go's encoding/csv with default settings.

/// Splits one CSV record. An empty text is no field at all, as in pflag's `readAsCSV`.
///
/// # Errors
/// Go's `csv.ParseError` text.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    // Go's reader skips blank lines and reads the first record only.
    let text = text.trim_start_matches(['\n', '\r']);
    if text.is_empty() {
        return Err("EOF".into());
    }
    let mut fields = Vec::new();
    let mut rest = text;
    let error = |at: &str, what: &str| {
        Err(format!("parse error on line 1, column {}: {what}", text.len() - at.len() + 1))
    };
    loop {
        if let Some(mut quoted) = rest.strip_prefix('"') {
            let mut field = String::new();
            loop {
                let Some(end) = quoted.find('"') else {
                    return error("", "extraneous or missing \" in quoted-field");
                };
                field.push_str(&quoted[..end]);
                quoted = &quoted[end + 1..];
                if let Some(after) = quoted.strip_prefix('"') {
                    field.push('"');
                    quoted = after;
                } else {
                    break;
                }
            }
            fields.push(field);
            match quoted.as_bytes().first() {
                Some(b',') => rest = &quoted[1..],
                None | Some(b'\n') => return Ok(fields),
                Some(b'\r') if quoted.len() == 1 || quoted.starts_with("\r\n") => return Ok(fields),
                Some(_) => {
                    return Err(format!(
                        "parse error on line 1, column {}: extraneous or missing \" in quoted-field",
                        text.len() - quoted.len()
                    ));
                }
            }
        } else {
            let line = rest.split('\n').next().unwrap_or(rest);
            let line = line.strip_suffix('\r').unwrap_or(line);
            let field = line.split(',').next().unwrap_or(line);
            if let Some(at) = field.find('"') {
                return error(&rest[at..], "bare \" in non-quoted-field");
            }
            fields.push(field.to_string());
            if field.len() == line.len() {
                return Ok(fields);
            }
            rest = &rest[field.len() + 1..];
        }
    }
}

/// Joins fields into one record, quoting where Go's writer does.
pub fn join<S: AsRef<str>>(fields: &[S]) -> String {
    let mut out = String::new();
    for (i, field) in fields.iter().enumerate() {
        let field = field.as_ref();
        if i > 0 {
            out.push(',');
        }
        let quote = field == r"\."
            || field.contains([',', '"', '\r', '\n'])
            || field.starts_with(|c: char| c.is_whitespace());
        if quote {
            out.push('"');
            out.push_str(&field.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(field);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{join, split};

    #[test]
    fn splits() {
        for (input, expected) in [
            ("", vec![]),
            ("a", vec!["a"]),
            ("a,b,,c", vec!["a", "b", "", "c"]),
            (",", vec!["", ""]),
            (r#""a,b",c"#, vec!["a,b", "c"]),
            (r#""a""b""#, vec![r#"a"b"#]),
        ] {
            let expected: Vec<String> = expected.into_iter().map(String::from).collect();
            assert_eq!(split(input), Ok(expected), "{input}");
        }
        for (input, expected) in [
            (r#"a"b"#, "parse error on line 1, column 2: bare \" in non-quoted-field"),
            (r#""a"b"#, "parse error on line 1, column 3: extraneous or missing \" in quoted-field"),
            (r#""ab"#, "parse error on line 1, column 4: extraneous or missing \" in quoted-field"),
        ] {
            assert_eq!(split(input), Err(expected.to_string()), "{input}");
        }
    }

    #[test]
    fn joins() {
        assert_eq!(join(&["a", "b,c", "d\"e", ""]), r#"a,"b,c","d""e","#);
    }
}
