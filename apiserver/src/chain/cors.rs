//! Cross-origin requests of browsers: `--cors-allowed-origins`.
//! Upstream: `k8s.io/apiserver/pkg/server/filters/cors.go`.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ORIGIN,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use regex::Regex;

use crate::web::{Response, body};

const METHODS: HeaderValue = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE, PATCH");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization, X-Requested-With, If-Modified-Since",
);

/// The allowed origins; empty for no CORS at all.
#[derive(Debug, Clone, Default)]
pub struct Cors(Vec<Regex>);

impl Cors {
    /// Compiles the patterns of the flag.
    ///
    /// # Errors
    /// Upstream's texts (`validateCorsAllowedOriginList`), joined as its aggregate: patterns must compile, and pin host
    /// and port at both ends, or a foreign host could match as a part.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        let (mut compiled, mut problems) = (Vec::new(), Vec::new());
        for pattern in patterns {
            let pinned = |marks: [&str; 2]| marks.iter().any(|mark| pattern.contains(mark));
            match Regex::new(pattern) {
                Ok(_) if pattern.is_empty() => problems.push("empty value in --cors-allowed-origins".to_owned()),
                Err(error) => problems.push(format!(
                    "--cors-allowed-origins has an invalid regular expression: {error}"
                )),
                Ok(_) if !pinned(["^", "//"]) || !pinned(["$", ":"]) => problems.push(
                    "--cors-allowed-origins has an invalid regular expression: regular expression does not pin to \
                     start/end of host in the origin header"
                        .to_owned(),
                ),
                Ok(regex) => compiled.push(regex),
            }
        }
        match problems.as_slice() {
            [] => Ok(Self(compiled)),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }

    /// The origin to name in the answer, when the request has an allowed one.
    pub(crate) fn origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN).filter(|_| !self.0.is_empty())?;
        let text = origin.to_str().ok()?;
        self.0.iter().any(|regex| regex.is_match(text)).then(|| origin.clone())
    }
}

/// The answer to a preflight request, which asks before it sends credentials; `None` for other requests.
pub(crate) fn preflight(method: &Method) -> Option<Response> {
    (method == Method::OPTIONS).then(|| {
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    })
}

/// Adds what the browser needs to show the answer to its page.
pub(crate) fn allow(response: &mut Response, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Date"));
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let cors = Cors::new(&["^https://a\\.example(:|$)".to_owned()]).unwrap();
        let origin = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ORIGIN, HeaderValue::from_static(text));
            headers
        };
        assert!(cors.origin(&origin("https://a.example:8443")).is_some());
        assert!(cors.origin(&origin("https://a.example.evil")).is_none());
        assert!(cors.origin(&HeaderMap::new()).is_none());
        assert!(Cors::default().origin(&origin("https://a.example")).is_none());
        assert!(Cors::new(&["a.example".to_owned()]).unwrap_err().contains("does not pin"));
        assert!(Cors::new(&["^(".to_owned()]).is_err());
    }
}
