//! Semantic versions (upstream's pkg/cel/library/semverlib.go over blang/semver).

use super::{object, text};
use crate::decls::short::*;
use crate::eval::{EvalError, Res};
use crate::val::ops::no_overload;
use crate::val::{Object, Val};
use std::any::Any;
use std::cmp::Ordering;
use std::fmt;

/// The type's name.
pub(crate) const NAME: &str = "kubernetes.Semver";

/// A semantic version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    pub numbers: [u64; 3],
    pre: Vec<Part>,
    build: Vec<std::string::String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Text(std::string::String),
}

impl fmt::Display for Semver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        for (i, part) in self.pre.iter().enumerate() {
            f.write_str(if i == 0 { "-" } else { "." })?;
            match part {
                Part::Number(n) => n.fmt(f)?,
                Part::Text(t) => f.write_str(t)?,
            }
        }
        for (i, part) in self.build.iter().enumerate() {
            write!(f, "{}{part}", if i == 0 { "+" } else { "." })?;
        }
        Ok(())
    }
}

fn digits(s: &str) -> bool {
    s.bytes().all(|b| b.is_ascii_digit())
}

fn identifier(s: &str) -> bool {
    s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn leading_zero(s: &str) -> bool {
    s.len() > 1 && s.starts_with('0')
}

fn number(what: &str, s: &str) -> Result<u64, std::string::String> {
    if !digits(s) {
        let what = what.to_ascii_lowercase();
        return Err(format!("Invalid character(s) found in {what} number {}", machinery::golang::quote(s)));
    }
    if leading_zero(s) {
        return Err(format!("{what} number must not contain leading zeroes {}", machinery::golang::quote(s)));
    }
    parse_uint(s)
}

fn parse_uint(s: &str) -> Result<u64, std::string::String> {
    s.parse().map_err(|e: std::num::ParseIntError| {
        let why = match e.kind() {
            std::num::IntErrorKind::PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseUint: parsing {}: {why}", machinery::golang::quote(s))
    })
}

fn prerelease(s: &str) -> Result<Part, std::string::String> {
    let quoted = || machinery::golang::quote(s);
    if s.is_empty() {
        return Err("Prerelease is empty".into());
    }
    if digits(s) {
        if leading_zero(s) {
            return Err(format!("Numeric PreRelease version must not contain leading zeroes {}", quoted()));
        }
        return parse_uint(s).map(Part::Number);
    }
    if !identifier(s) {
        return Err(format!("Invalid character(s) found in prerelease {}", quoted()));
    }
    Ok(Part::Text(s.to_owned()))
}

impl Semver {
    /// Reads a version; the error is upstream's text.
    pub fn parse(s: &str) -> Result<Semver, std::string::String> {
        if s.is_empty() {
            return Err("Version string empty".into());
        }
        let parts: Vec<&str> = s.splitn(3, '.').collect();
        let [major, minor, rest] = parts.as_slice() else {
            return Err("No Major.Minor.Patch elements found".into());
        };
        let (major, minor) = (number("Major", major)?, number("Minor", minor)?);
        let (rest, build) = match rest.split_once('+') {
            Some((rest, build)) => (rest, Some(build)),
            None => (*rest, None),
        };
        let (patch, pre) = match rest.split_once('-') {
            Some((patch, pre)) => (patch, Some(pre)),
            None => (rest, None),
        };
        let numbers = [major, minor, number("Patch", patch)?];
        let pre = pre.map(|p| p.split('.').map(prerelease).collect()).transpose()?.unwrap_or_default();
        let mut builds = Vec::new();
        for part in build.into_iter().flat_map(|b| b.split('.')) {
            if part.is_empty() {
                return Err("Build meta data is empty".into());
            }
            if !identifier(part) {
                let quoted = machinery::golang::quote(part);
                return Err(format!("Invalid character(s) found in build meta data {quoted}"));
            }
            builds.push(part.to_owned());
        }
        Ok(Semver { numbers, pre, build: builds })
    }

    /// Reads a version that may start with `v`, be short, or have leading zeroes.
    fn parse_loosely(s: &str) -> Result<Semver, std::string::String> {
        let s = s.strip_prefix('v').unwrap_or(s);
        let mut parts: Vec<std::string::String> = s.splitn(3, '.').map(str::to_owned).collect();
        for part in &mut parts {
            if part.len() > 1 {
                let stripped = part.trim_start_matches('0');
                let kept = stripped.starts_with(|c: char| c.is_ascii_digit());
                *part = if kept { stripped.to_owned() } else { format!("0{stripped}") };
            }
        }
        if parts.len() < 3 {
            if parts.last().is_some_and(|last| last.contains(['+', '-'])) {
                return Err("short version cannot contain PreRelease/Build meta data".into());
            }
            parts.resize(3, "0".to_owned());
        }
        Semver::parse(&parts.join("."))
    }

    /// Order by precedence; build metadata does not count.
    pub fn precedence(&self, other: &Semver) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => self.pre.cmp(&other.pre),
        })
    }
}

impl Object for Semver {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn type_name(&self) -> &str {
        NAME
    }

    fn native_text(&self) -> Option<std::string::String> {
        Some(self.to_string())
    }

    fn equals(&self, other: &dyn Object) -> Option<bool> {
        Some(self.precedence(other.as_any().downcast_ref()?).is_eq())
    }
}

fn parse(args: &[Val<'_>]) -> Result<Result<Semver, std::string::String>, EvalError> {
    let s = text(args, 0)?;
    match args.get(1) {
        None | Some(Val::Bool(false)) => Ok(Semver::parse(s)),
        Some(Val::Bool(true)) => Ok(Semver::parse_loosely(s)),
        Some(_) => Err(no_overload()),
    }
}

fn version<'a>(args: &[Val<'a>]) -> Res<'a> {
    parse(args)?.map(Val::object).map_err(EvalError::new)
}

fn is_version<'a>(args: &[Val<'a>]) -> Res<'a> {
    Ok(Val::Bool(parse(args)?.is_ok()))
}

fn order(args: &[Val<'_>]) -> Result<Ordering, EvalError> {
    Ok(object::<Semver>(args, 0)?.precedence(object(args, 1)?))
}

fn part<'a>(args: &[Val<'a>], i: usize) -> Res<'a> {
    Ok(Val::Int(object::<Semver>(args, 0)?.numbers[i] as i64))
}

pub(crate) fn functions() -> Vec<Function> {
    let v = || Type::object(NAME);
    vec![
        func("semver")
            .global("string_to_semver", vec![String], v())
            .code(version)
            .global("string_bool_to_semver", vec![String, Bool], v())
            .code(version),
        func("isSemver")
            .global("is_semver_string", vec![String], Bool)
            .code(is_version)
            .global("is_semver_string_bool", vec![String, Bool], Bool)
            .code(is_version),
        func("isGreaterThan")
            .member("semver_is_greater_than", vec![v(), v()], Bool)
            .code(|args| Ok(Val::Bool(order(args)?.is_gt()))),
        func("isLessThan")
            .member("semver_is_less_than", vec![v(), v()], Bool)
            .code(|args| Ok(Val::Bool(order(args)?.is_lt()))),
        func("compareTo")
            .member("semver_compare_to", vec![v(), v()], Int)
            .code(|args| Ok(Val::Int(order(args)? as i64))),
        func("major").member("semver_major", vec![v()], Int).code(|args| part(args, 0)),
        func("minor").member("semver_minor", vec![v()], Int).code(|args| part(args, 1)),
        func("patch").member("semver_patch", vec![v()], Int).code(|args| part(args, 2)),
    ]
}
