//! Keeps the links of proxied pages within the proxy: an absolute path on a page of `.../pods/p/proxy/` leads back there.
//!
//! Pages are rewritten as they stream by; compressed ones arrive uncompressed. Links in scripts and style sheets are not
//! found. Start reading at [`page`]. Upstream: `apimachinery/pkg/util/proxy/transport.go`.

use std::io::Write;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use flate2::write::{DeflateDecoder, MultiGzDecoder};
use futures::StreamExt;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyDataStream;
use lol_html::html_content::Element;
use lol_html::send::{HtmlRewriter, Settings};
use lol_html::{HandlerResult, MemorySettings, element};
use parking_lot::Mutex;

use crate::web::body::{Body, BodyError, stream};

/// What a page's links are judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Links {
    /// The path that stands for the target's root.
    pub(super) prefix: String,
    /// The target's own host and port.
    pub(super) own: String,
    /// The host the client asked for.
    pub(super) asked: String,
}

impl Links {
    /// The link as it must be, if that is not how it is. Upstream: `rewriteURL`.
    pub(super) fn rewrite(&self, link: &str) -> Option<String> {
        let (host, path) = split(link);
        let foreign = !host.is_empty() && host != self.own && host != self.asked;
        if foreign || !path.starts_with('/') {
            return None;
        }
        let head = if host.is_empty() || host == self.asked { &link[..link.len() - path.len()] } else { "" };
        if path.starts_with(&self.prefix) {
            return (head.len() + path.len() != link.len()).then(|| path.to_owned());
        }
        Some(format!("{head}{}{path}", self.prefix.trim_end_matches('/')))
    }
}

/// The host of a link, and everything behind it. A relative link has no host.
fn split(link: &str) -> (&str, &str) {
    let after_scheme = link.split_once("://").filter(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    });
    let Some(rest) = after_scheme.map(|(_, rest)| rest).or_else(|| link.strip_prefix("//")) else {
        return ("", link);
    };
    rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()))
}

/// The attributes of an element that hold links. Upstream: `atomsToAttrs`.
fn attributes(tag: &str) -> &'static [&'static str] {
    match tag {
        "a" | "area" | "base" | "link" => &["href"],
        "applet" => &["codebase"],
        "audio" | "embed" | "script" | "source" => &["src"],
        "blockquote" | "del" | "ins" | "q" => &["cite"],
        "body" => &["background"],
        "button" => &["formaction"],
        "command" => &["icon"],
        "form" => &["action"],
        "frame" | "iframe" => &["longdesc", "src"],
        "head" => &["profile"],
        "html" => &["manifest"],
        "img" => &["longdesc", "src", "usemap"],
        "input" => &["src", "usemap", "formaction"],
        "object" => &["classid", "codebase", "data", "usemap"],
        "video" => &["poster", "src"],
        _ => &[],
    }
}

fn rewrite_element(
    links: &Links,
    element: &mut Element<'_, '_, lol_html::send::SendHandlerTypes>,
) -> HandlerResult {
    for name in attributes(&element.tag_name()) {
        if let Some(new) = element.get_attribute(name).and_then(|old| links.rewrite(old.trim())) {
            element.set_attribute(name, &new)?;
        }
    }
    Ok(())
}

/// A page on its way: compressed bytes in, rewritten ones out.
enum Decoder {
    Plain,
    Gzip(MultiGzDecoder<Vec<u8>>),
    Deflate(DeflateDecoder<Vec<u8>>),
}

impl Decoder {
    /// For a content encoding; nothing for one that is not known.
    fn new(encoding: &str) -> Option<Self> {
        match encoding {
            "" => Some(Decoder::Plain),
            "gzip" => Some(Decoder::Gzip(MultiGzDecoder::new(Vec::new()))),
            "deflate" => Some(Decoder::Deflate(DeflateDecoder::new(Vec::new()))),
            _ => None,
        }
    }

    fn decode(&mut self, chunk: &Bytes) -> std::io::Result<Bytes> {
        let out = match self {
            Decoder::Plain => return Ok(chunk.clone()),
            Decoder::Gzip(decoder) => {
                decoder.write_all(chunk)?;
                decoder.flush()?;
                decoder.get_mut()
            }
            Decoder::Deflate(decoder) => {
                decoder.write_all(chunk)?;
                decoder.flush()?;
                decoder.get_mut()
            }
        };
        Ok(std::mem::take(out).into())
    }
}

/// How much of one tag is kept in memory; behind a longer one the page stays as it is.
const TAG_BYTES: usize = 1 << 20;

/// Where the rewriter writes to.
type Sink = Box<dyn FnMut(&[u8]) + Send>;

struct Page {
    body: BodyDataStream<Body>,
    decoder: Decoder,
    /// Ends before the body does when the page cannot be read.
    rewriter: Option<HtmlRewriter<'static, Sink>>,
    out: Arc<Mutex<BytesMut>>,
}

impl Page {
    fn new(links: Links, decoder: Decoder, body: Body) -> Self {
        let out = Arc::<Mutex<BytesMut>>::default();
        let sink = Arc::clone(&out);
        let handler = element!("*", move |element| rewrite_element(&links, element));
        let memory = MemorySettings::new()
            .with_max_allowed_memory_usage(TAG_BYTES)
            .with_graceful_bail_out_on_memory_limit_exceeded(true);
        let settings = Settings::new_send()
            .append_element_content_handler(handler)
            .with_memory_settings(memory)
            .with_strict(false);
        let write: Sink = Box::new(move |bytes| sink.lock().extend_from_slice(bytes));
        let rewriter = Some(HtmlRewriter::new(settings, write));
        Self { body: BodyDataStream::new(body), decoder, rewriter, out }
    }

    async fn next(mut self) -> Option<(Result<Bytes, BodyError>, Self)> {
        loop {
            let done = match (self.body.next().await, &mut self.rewriter) {
                (Some(Ok(chunk)), Some(rewriter)) => self
                    .decoder
                    .decode(&Bytes::from(chunk))
                    .map_err(BodyError::from)
                    .and_then(|page| rewriter.write(&page).map_err(Into::into)),
                (Some(Err(error)), _) => Err(error),
                (None, _) => self.rewriter.take()?.end().map_err(Into::into),
                (_, None) => return None,
            };
            let out = self.out.lock().split().freeze();
            match done {
                Err(error) => {
                    self.rewriter = None;
                    return Some((Err(error), self));
                }
                Ok(()) if out.is_empty() => {}
                Ok(()) => return Some((Ok(out), self)),
            }
        }
    }
}

/// The body of a response with its links rewritten, if it is a page; headers about its length and encoding go.
pub(super) fn page(links: Links, headers: &mut HeaderMap, body: Body) -> Body {
    let text = |name| headers.get(name).and_then(|v: &http::HeaderValue| v.to_str().ok()).unwrap_or_default();
    let is_page = text(CONTENT_TYPE).split(';').next().is_some_and(|t| t.trim() == "text/html");
    let decoder = Decoder::new(text(CONTENT_ENCODING)).filter(|_| is_page);
    let Some(decoder) = decoder else { return body };
    headers.remove(CONTENT_LENGTH);
    headers.remove(CONTENT_ENCODING);
    stream(futures::stream::unfold(Page::new(links, decoder, body), Page::next))
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use http_body_util::BodyExt;

    use super::*;

    fn links() -> Links {
        Links { prefix: "/p/proxy".into(), own: "10.0.0.1:80".into(), asked: "api:6443".into() }
    }

    #[test]
    fn which_links_move() {
        for (link, moved) in [
            ("/a/b?c=/d", Some("/p/proxy/a/b?c=/d")),
            ("a", None),
            ("#x", None),
            ("mailto:a@b", None),
            ("http://10.0.0.1:80/a", Some("/p/proxy/a")),
            ("//10.0.0.1:80/a", Some("/p/proxy/a")),
            ("http://10.0.0.1:80/p/proxy/a", Some("/p/proxy/a")),
            ("https://api:6443/a", Some("https://api:6443/p/proxy/a")),
            ("/p/proxy/a", None),
            ("http://other/a", None),
        ] {
            assert_eq!(links().rewrite(link).as_deref(), moved, "{link}");
        }
    }

    const PAGE: &str = r#"<!doctype html><a href="/x?a=1&amp;b">t</a><img src='/i.png' alt="/no"><p>/y</p>"#;
    const WANTED: &str =
        r#"<!doctype html><a href="/p/proxy/x?a=1&amp;b">t</a><img src="/p/proxy/i.png" alt="/no"><p>/y</p>"#;

    fn rewritten(encoding: &str, bytes: Vec<u8>) -> (String, HeaderMap) {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "text/html; charset=utf-8".parse().unwrap());
        if !encoding.is_empty() {
            headers.insert(CONTENT_ENCODING, encoding.parse().unwrap());
        }
        // Byte by byte: nothing may depend on where a chunk ends.
        let chunks: Vec<Result<Bytes, BodyError>> =
            bytes.into_iter().map(|b| Ok(Bytes::copy_from_slice(&[b]))).collect();
        let body = page(links(), &mut headers, stream(futures::stream::iter(chunks)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bytes = runtime.block_on(body.collect()).unwrap().to_bytes();
        (String::from_utf8_lossy(&bytes).into_owned(), headers)
    }

    #[test]
    fn pages_keep_their_links_within_the_proxy() {
        assert_eq!(rewritten("", PAGE.into()).0, WANTED);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(PAGE.as_bytes()).unwrap();
        let (text, headers) = rewritten("gzip", gzip.finish().unwrap());
        assert_eq!((text.as_str(), headers.contains_key(CONTENT_ENCODING)), (WANTED, false));
        // What is not understood stays as it is.
        assert_eq!(rewritten("br", PAGE.into()).0, PAGE);
    }
}
