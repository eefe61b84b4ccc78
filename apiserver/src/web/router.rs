//! The media types of a route, as upstream's router compares them, before any handler looks at the request.
//! Upstream: `emicklei/go-restful`, `matchesContentType` and `matchesAccept` of `route.go`, `detectRoute` of `jsr311.go`.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use registry::errors::ApiError;

use super::negotiate::{JSON, PROTOBUF, YAML};

/// What the serializers read and write.
pub(crate) const ALL: &[&str] = &[JSON, YAML, PROTOBUF];

/// What a route takes and gives. One that takes nothing in particular takes everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Media {
    pub(crate) consumes: &'static [&'static str],
    pub(crate) produces: &'static [&'static str],
}

impl Media {
    /// Refuses what the route does not take or give.
    pub(crate) fn check(self, headers: &HeaderMap) -> Result<(), ApiError> {
        let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        // Nothing said is nothing sent: these routes are of methods without a body.
        let sent = text(CONTENT_TYPE);
        if !self.consumes.is_empty() && !sent.is_empty() && !names_one_of(sent, self.consumes) {
            return Err(unsupported());
        }
        check_accept(text(ACCEPT), self.produces)
    }
}

/// 415 in the router's words.
pub(crate) fn unsupported() -> ApiError {
    ApiError::of_route(415, "UnsupportedMediaType", "415: Unsupported Media Type")
}

/// Refuses what the router takes for unacceptable: it knows no ranges but `*/*` and looks at no parameters.
pub(crate) fn check_accept(header: &str, produces: &[&str]) -> Result<(), ApiError> {
    if header.is_empty() || names_one_of(header, &["*/*"]) || names_one_of(header, produces) {
        return Ok(());
    }
    let text = format!("406: Not Acceptable\n\nAvailable representations: {}", produces.join(", "));
    Err(ApiError::of_route(406, "NotAcceptable", text))
}

fn names_one_of(header: &str, names: &[&str]) -> bool {
    let media = |clause: &str| clause.split(';').next().unwrap_or_default().trim_matches(' ').to_owned();
    header.split(',').any(|clause| names.contains(&media(clause).as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types() {
        let page = Media { consumes: &[JSON], produces: &[JSON] };
        let free = Media { consumes: &[], produces: ALL };
        for (media, sent, accept, want) in [
            (page, "", "", 200),
            (page, "application/json;q", "*/*", 200),
            (page, "x, application/json", "x, application/json;q=0.1", 200),
            (page, "x", "text/html", 415),
            (page, "application/yaml", "", 415),
            (page, "", "application/yaml", 406),
            (page, "", "application/*", 406),
            (free, "x", "application/yaml", 200),
            (free, "x", ";;;", 406),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, sent.parse().unwrap());
            headers.insert(ACCEPT, accept.parse().unwrap());
            let got = media.check(&headers).map_or_else(|e| e.code, |()| 200);
            assert_eq!(got, want, "{sent:?} {accept:?}");
        }
    }
}
