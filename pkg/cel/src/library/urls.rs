//! URLs (upstream's pkg/cel/library/urls.go).

use super::url::Url;
use super::{object, text};
use crate::decls::short::*;
use crate::eval::{EvalError, Res};
use crate::val::{MapBuilder, Object, Val};
use std::any::Any;

const NAME: &str = "kubernetes.URL";

#[derive(Debug)]
struct UrlVal(Url);

impl Object for UrlVal {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn type_name(&self) -> &str {
        NAME
    }

    fn native_text(&self) -> Option<std::string::String> {
        Some(self.0.to_string())
    }

    fn equals(&self, other: &dyn Object) -> Option<bool> {
        Some(self.0.to_string() == other.as_any().downcast_ref::<Self>()?.0.to_string())
    }
}

fn url<'v>(args: &'v [Val<'_>]) -> Result<&'v Url, EvalError> {
    object::<UrlVal>(args, 0).map(|u| &u.0)
}

fn parse<'a>(args: &[Val<'a>]) -> Res<'a> {
    let s = text(args, 0)?;
    let parsed = Url::parse_request(s).and_then(|_| Url::parse(s));
    let fail = |e| EvalError::new(format!("URL parse error during conversion from string: {e}"));
    parsed.map(|u| Val::object(UrlVal(u))).map_err(fail)
}

fn query<'a>(args: &[Val<'a>]) -> Res<'a> {
    let mut out = MapBuilder::default();
    for (key, values) in url(args)?.values() {
        out.set(Val::str(key), Val::strings(values));
    }
    Ok(out.build())
}

pub(crate) fn functions() -> Vec<Function> {
    let u = || Type::object(NAME);
    vec![
        func("url").global("string_to_url", vec![String], u()).code(parse),
        func("getScheme")
            .member("url_get_scheme", vec![u()], String)
            .code(|args| Ok(Val::str(url(args)?.scheme.as_str()))),
        func("getHost")
            .member("url_get_host", vec![u()], String)
            .code(|args| Ok(Val::str(url(args)?.host()))),
        func("getHostname")
            .member("url_get_hostname", vec![u()], String)
            .code(|args| Ok(Val::str(url(args)?.hostname()))),
        func("getPort")
            .member("url_get_port", vec![u()], String)
            .code(|args| Ok(Val::str(url(args)?.port()))),
        func("getEscapedPath")
            .member("url_get_escaped_path", vec![u()], String)
            .code(|args| Ok(Val::str(url(args)?.escaped_path()))),
        func("getQuery").member("url_get_query", vec![u()], map(String, list(String))).code(query),
        func("isURL")
            .global("is_url_string", vec![String], Bool)
            .code(|args| Ok(Val::Bool(Url::parse_request(text(args, 0)?).is_ok()))),
    ]
}
