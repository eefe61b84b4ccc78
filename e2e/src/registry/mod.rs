//! A registry that serves the images of a docker archive, so that pulls are real where no registry can be reached.
//!
//! Reading only: the part of the OCI distribution protocol that runtimes pull with. containerd is told to ask it for every
//! registry's images (`certs.d/_default`); what it does not have is 404, and containerd goes on to the registry itself.
//! Start reading at [`serve`].

mod archive;

use std::convert::Infallible;
use std::io::SeekFrom;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::TryStreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use archive::{Archive, Place};

/// Port of the registry in the first node's network.
pub const PORT: u16 = 5000;

type Body = BoxBody<Bytes, std::io::Error>;

/// Serves the images of `archive` at `address` until the process ends.
///
/// # Errors
/// When the archive cannot be read or the address cannot be listened on.
pub fn serve(archive: &Path, address: SocketAddr) -> Result<()> {
    let images = Arc::new(Archive::open(archive)?);
    let path: Arc<Path> = archive.into();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async move {
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .with_context(|| format!("listening on {address}"))?;
        loop {
            let (stream, _) = listener.accept().await?;
            let (images, path) = (images.clone(), path.clone());
            tokio::spawn(async move {
                let answer = service_fn(|request: Request<Incoming>| {
                    let (images, path) = (images.clone(), path.clone());
                    async move { Ok::<_, Infallible>(respond(&images, &path, request).await) }
                });
                let served = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
                if let Err(error) = served {
                    eprintln!("a connection to the registry broke off: {error}");
                }
            });
        }
    })
}

/// containerd's setting for "ask the registry at `url` first, whatever registry an image names".
pub fn mirror(url: &str) -> String {
    format!("[host.\"{url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n")
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked<'a> {
    Version,
    Manifest { repository: &'a str, reference: &'a str },
    Blob(&'a str),
    Unknown,
}

fn asked(path: &str) -> Asked<'_> {
    let Some(rest) = path.strip_prefix("/v2/") else { return Asked::Unknown };
    if rest.is_empty() {
        return Asked::Version;
    }
    if let Some((repository, reference)) = rest.rsplit_once("/manifests/") {
        return Asked::Manifest { repository, reference };
    }
    rest.rsplit_once("/blobs/").map_or(Asked::Unknown, |(_, digest)| Asked::Blob(digest))
}

/// The registry that the image's name begins with: containerd tells a mirror in the query.
fn registry(query: &str) -> &str {
    query.split('&').find_map(|part| part.strip_prefix("ns=")).unwrap_or("registry.k8s.io")
}

async fn respond(images: &Archive, path: &Path, request: Request<Incoming>) -> Response<Body> {
    let head = request.method() == Method::HEAD;
    if !head && request.method() != Method::GET {
        return status(StatusCode::METHOD_NOT_ALLOWED);
    }
    match asked(request.uri().path()) {
        Asked::Version => status(StatusCode::OK),
        Asked::Manifest { repository, reference } => {
            let name = format!("{}/{repository}", registry(request.uri().query().unwrap_or_default()));
            match images.manifest(&name, reference) {
                Some((digest, bytes)) => manifest(digest, bytes, head),
                None => status(StatusCode::NOT_FOUND),
            }
        }
        Asked::Blob(digest) => match images.blobs.get(digest) {
            Some(place) => blob(path.to_path_buf(), digest, *place, head).await,
            None => status(StatusCode::NOT_FOUND),
        },
        Asked::Unknown => status(StatusCode::NOT_FOUND),
    }
}

fn status(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = code;
    response
}

fn empty() -> Body {
    Full::new(Bytes::new()).map_err(|never| match never {}).boxed()
}

fn manifest(digest: &str, bytes: &[u8], head: bool) -> Response<Body> {
    let body =
        if head { empty() } else { Full::from(bytes.to_vec()).map_err(|never| match never {}).boxed() };
    answer(archive::MANIFEST, digest, bytes.len() as u64, body)
}

async fn blob(path: PathBuf, digest: &str, place: Place, head: bool) -> Response<Body> {
    let body = if head { Ok(empty()) } else { region(&path, place).await };
    match body {
        Ok(body) => answer("application/octet-stream", digest, place.size, body),
        Err(error) => {
            eprintln!("reading {digest} from {}: {error}", path.display());
            status(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

async fn region(path: &Path, place: Place) -> std::io::Result<Body> {
    let mut file = tokio::fs::File::open(path).await?;
    file.seek(SeekFrom::Start(place.offset)).await?;
    let chunks = ReaderStream::with_capacity(file.take(place.size), 256 << 10);
    Ok(BodyExt::boxed(StreamBody::new(chunks.map_ok(Frame::data))))
}

fn answer(kind: &str, digest: &str, size: u64, body: Body) -> Response<Body> {
    Response::builder()
        .header(CONTENT_TYPE, kind)
        .header(CONTENT_LENGTH, size)
        .header("Docker-Content-Digest", digest)
        .body(body)
        .unwrap_or_else(|_| status(StatusCode::INTERNAL_SERVER_ERROR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_paths() {
        for (path, expected) in [
            ("/v2/", Asked::Version),
            ("/v2/a/b/manifests/1.0", Asked::Manifest { repository: "a/b", reference: "1.0" }),
            (
                "/v2/manifests/manifests/sha256:1",
                Asked::Manifest { repository: "manifests", reference: "sha256:1" },
            ),
            ("/v2/a/b/blobs/sha256:1", Asked::Blob("sha256:1")),
            ("/v2/a/b/tags/list", Asked::Unknown),
            ("/", Asked::Unknown),
        ] {
            assert_eq!(asked(path), expected, "{path}");
        }
        assert_eq!(registry("ns=docker.io&x=1"), "docker.io");
    }
}
