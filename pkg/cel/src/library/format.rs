//! Named formats (upstream's pkg/cel/library/format.go).

use super::url::Url;
use super::{object, text};
use crate::decls::short::*;
use crate::eval::Res;
use crate::val::{Object, Timestamp as Time, Val};
use machinery::content;
use std::any::Any;

const NAME: &str = "kubernetes.NamedFormat";

type Validate = fn(&str) -> Vec<std::string::String>;

#[derive(Debug)]
pub(crate) struct NamedFormat(&'static Format);

#[derive(Debug)]
struct Format {
    /// The function `format.<name>` and the name `format.named` knows.
    function: &'static str,
    name: &'static str,
    validate: Validate,
    /// The length of its longest pattern, which its cost follows.
    pattern_size: u64,
}

impl NamedFormat {
    pub fn pattern_size(&self) -> u64 {
        self.0.pattern_size
    }
}

impl Object for NamedFormat {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn type_name(&self) -> &str {
        NAME
    }

    fn native_text(&self) -> Option<std::string::String> {
        None
    }

    fn equals(&self, other: &dyn Object) -> Option<bool> {
        Some(self.0.name == other.as_any().downcast_ref::<Self>()?.0.name)
    }
}

fn only_if(bad: bool, message: &str) -> Vec<std::string::String> {
    if bad { vec![message.to_owned()] } else { Vec::new() }
}

/// Groups of hexadecimal digits, each dash between them optional.
fn is_uuid(s: &str) -> bool {
    let mut rest = s;
    for (i, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if i > 0 {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        match rest.split_at_checked(length) {
            Some((group, after)) if group.bytes().all(|b| b.is_ascii_hexdigit()) => rest = after,
            _ => return false,
        }
    }
    rest.is_empty()
}

fn is_date(s: &str) -> bool {
    s.len() == 10 && Time::parse(&format!("{s}T00:00:00Z")).is_some()
}

/// The layouts upstream's strfmt takes for a date-time, of which RFC 3339 is the main one.
fn is_datetime(s: &str) -> bool {
    let upper = s.to_ascii_uppercase();
    Time::parse(&upper).is_some()
        || Time::parse(&format!("{upper}Z")).is_some()
        || (is_date(s) && s.len() == 10)
}

static FORMATS: [Format; 13] = [
    Format {
        function: "format.dns1123Label",
        name: "DNS1123Label",
        validate: content::dns_label,
        pattern_size: 30,
    },
    Format {
        function: "format.dns1123Subdomain",
        name: "DNS1123Subdomain",
        validate: content::dns_subdomain,
        pattern_size: 60,
    },
    Format {
        function: "format.dns1035Label",
        name: "DNS1035Label",
        validate: content::dns1035_label,
        pattern_size: 30,
    },
    Format {
        function: "format.qualifiedName",
        name: "QualifiedName",
        validate: content::qualified_name,
        pattern_size: 60,
    },
    Format {
        function: "format.dns1123LabelPrefix",
        name: "DNS1123LabelPrefix",
        validate: |s| content::dns_label(&content::mask_trailing_dash(s)),
        pattern_size: 30,
    },
    Format {
        function: "format.dns1123SubdomainPrefix",
        name: "DNS1123SubdomainPrefix",
        validate: |s| content::dns_subdomain(&content::mask_trailing_dash(s)),
        pattern_size: 60,
    },
    Format {
        function: "format.dns1035LabelPrefix",
        name: "DNS1035LabelPrefix",
        validate: |s| content::dns1035_label(&content::mask_trailing_dash(s)),
        pattern_size: 30,
    },
    Format {
        function: "format.labelValue",
        name: "LabelValue",
        validate: content::label_value,
        pattern_size: 40,
    },
    Format {
        function: "format.uri",
        name: "URI",
        validate: |s| Url::parse_request(s).err().into_iter().collect(),
        pattern_size: 1103,
    },
    Format {
        function: "format.uuid",
        name: "uuid",
        validate: |s| only_if(!is_uuid(s), "does not match the UUID format"),
        pattern_size: 70,
    },
    Format {
        function: "format.byte",
        name: "byte",
        validate: |s| only_if(machinery::golang::decode_base64(s.as_bytes()).is_err(), "invalid base64"),
        pattern_size: 84,
    },
    Format {
        function: "format.date",
        name: "date",
        validate: |s| only_if(!is_date(s), "invalid date"),
        pattern_size: 71,
    },
    Format {
        function: "format.datetime",
        name: "datetime",
        validate: |s| only_if(!is_datetime(s), "invalid datetime"),
        pattern_size: 71,
    },
];

fn named<'a>(args: &[Val<'a>]) -> Res<'a> {
    let name = text(args, 0)?;
    let found = FORMATS.iter().find(|f| f.function.strip_prefix("format.") == Some(name));
    Ok(found.map_or(Val::Optional(None), |f| Val::some(Val::object(NamedFormat(f)))))
}

fn validate<'a>(args: &[Val<'a>]) -> Res<'a> {
    let problems = (object::<NamedFormat>(args, 0)?.0.validate)(text(args, 1)?);
    Ok(if problems.is_empty() { Val::Optional(None) } else { Val::some(Val::strings(problems)) })
}

macro_rules! constants {
    ($($i:literal)*) => {
        [$(func(FORMATS[$i].function)
            .global(FORMATS[$i].function, vec![], Type::object(NAME))
            .variadic(|_| Ok(Val::object(NamedFormat(&FORMATS[$i]))))),*]
    };
}

pub(crate) fn functions() -> Vec<Function> {
    let f = || Type::object(NAME);
    let mut all = vec![
        func("validate")
            .member("format-validate", vec![f(), String], Type::optional(list(String)))
            .code(validate),
        func("format.named").global("format-named", vec![String], Type::optional(f())).code(named),
    ];
    all.extend(constants!(0 1 2 3 4 5 6 7 8 9 10 11 12));
    all
}
