//! Asking a container once.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::net::TcpStream;

use super::grpc;
use crate::container::expansion::expand;
use crate::http_get::{Answer, Error as GetError, Get, io_text, resolve_port};

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The container answered as it should.
    Success,
    /// It did, but there is something to tell.
    Warning(String),
    /// It did not.
    Failure(String),
    /// The question could not be put; that says nothing about the container.
    Unasked(String),
}

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 10;

/// Asks the container.
pub async fn check(cri: &cri::Client, probe: &Probe, container: &Container, id: &str, pod_ip: &str) -> Found {
    let limit = Duration::from_secs(probe.timeout_seconds.unwrap_or(1).max(1).unsigned_abs().into());
    if let Some(exec) = &probe.exec {
        let lookup = |name: &str| {
            container
                .env
                .iter()
                .flatten()
                .find(|e| e.name == name)
                .map(|e| e.value.clone().unwrap_or_default())
        };
        let command = exec.command.iter().flatten().map(|word| expand(word, lookup)).collect();
        return by_exec(cri, id, command, limit).await;
    }
    if let Some(action) = &probe.http_get {
        return match Get::new(action, container, pod_ip, "probe") {
            Ok(get) => by_http(get, limit).await,
            Err(error) => Found::Unasked(error.to_string()),
        };
    }
    if let Some(action) = &probe.tcp_socket {
        let host = action.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| pod_ip.to_owned());
        return match resolve_port(&action.port, container) {
            Ok(port) => by_tcp(&host, port, limit).await,
            Err(error) => Found::Unasked(error.to_string()),
        };
    }
    if let Some(action) = &probe.grpc {
        let Ok(port) = u16::try_from(action.port) else {
            return Found::Unasked(format!("invalid port number: {}", action.port));
        };
        let question = grpc::health(pod_ip, port, action.service.as_deref().unwrap_or_default());
        return match tokio::time::timeout(limit, question).await {
            Ok(Ok(())) => Found::Success,
            Ok(Err(text)) => Found::Failure(text),
            Err(_) => {
                Found::Failure(format!("timeout: health rpc did not complete within {}s", limit.as_secs()))
            }
        };
    }
    Found::Unasked(format!("missing probe handler for {}", container.name))
}

async fn by_exec(cri: &cri::Client, id: &str, command: Vec<String>, limit: Duration) -> Found {
    let shown = command.join(" ");
    match cri.exec_sync(id, command.clone(), limit).await {
        Ok(answer) if answer.exit_code == 0 => Found::Success,
        Ok(answer) => {
            let mut output = answer.stdout;
            output.extend_from_slice(&answer.stderr);
            output.truncate(10 << 10);
            Found::Failure(String::from_utf8_lossy(&output).into_owned())
        }
        Err(error) if error.is_timeout() || error.message().contains("timeout") => {
            Found::Failure(format!("command timed out: {shown:?} timed out after {}s", limit.as_secs()))
        }
        Err(error) => Found::Unasked(error.to_string()),
    }
}

async fn by_tcp(host: &str, port: u16, limit: Duration) -> Found {
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    match tokio::time::timeout(limit, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Found::Success,
        Ok(Err(error)) => Found::Failure(format!("dial tcp {address}: connect: {}", io_text(&error))),
        Err(_) => Found::Failure(format!("dial tcp {address}: i/o timeout")),
    }
}

async fn by_http(mut get: Get, limit: Duration) -> Found {
    let original = get.host.clone();
    let whole = async {
        for _ in 0..=MAX_REDIRECTS {
            let answer = match get.send(limit).await {
                Ok(answer) => answer,
                Err(error) => return Found::Failure(failure_text(&get, &error)),
            };
            if !(300..400).contains(&answer.status) {
                return judge(&answer);
            }
            match redirect(&get, &answer) {
                Some(next) if next.host == original => get = next,
                // Elsewhere is not this container's business.
                Some(_) => {
                    return Found::Warning(format!(
                        "Probe terminated redirects, Response body: {}",
                        answer.body
                    ));
                }
                None => return judge(&answer),
            }
        }
        Found::Failure(format!("Get {:?}: stopped after {MAX_REDIRECTS} redirects", get.url()))
    };
    match tokio::time::timeout(limit, whole).await {
        Ok(found) => found,
        Err(_) => Found::Failure(
            "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".into(),
        ),
    }
}

fn failure_text(get: &Get, error: &GetError) -> String {
    match error {
        GetError::PlainAnswer { url } => format!("Get {url:?}: {error}"),
        GetError::Timeout { .. } => format!(
            "Get {:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            get.url()
        ),
        other => other.to_string(),
    }
}

fn judge(answer: &Answer) -> Found {
    match answer.status {
        200..=299 => Found::Success,
        300..=399 => Found::Warning(format!("Probe terminated redirects, Response body: {}", answer.body)),
        status => Found::Failure(format!("HTTP probe failed with statuscode: {status}")),
    }
}

/// Where an answer leads; `None` if it does not say or not in a way that is understood.
fn redirect(from: &Get, answer: &Answer) -> Option<Get> {
    let location = answer.location.as_deref()?;
    let mut next = from.clone();
    if let Some((scheme, rest)) = location.split_once("://") {
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let default = if scheme == "https" { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (authority, default),
        };
        next.scheme = scheme.to_owned();
        next.host = host.trim_matches(['[', ']']).to_owned();
        next.port = port;
        next.path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    } else if location.starts_with('/') {
        next.path = location.to_owned();
    } else {
        let base = from.path.rsplit_once('/').map_or("", |(base, _)| base);
        next.path = format!("{base}/{location}");
    }
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Get {
        Get { scheme: "http".into(), host: "10.0.0.1".into(), port: 80, path: path.into(), headers: vec![] }
    }

    #[test]
    fn redirects() {
        let to = |location: &str| {
            let answer = Answer { status: 302, body: String::new(), location: Some(location.into()) };
            redirect(&get("/a/b"), &answer).map(|g| g.url())
        };
        assert_eq!(to("/x").as_deref(), Some("http://10.0.0.1:80/x"));
        assert_eq!(to("x").as_deref(), Some("http://10.0.0.1:80/a/x"));
        assert_eq!(to("https://e.org/x?y").as_deref(), Some("https://e.org:443/x?y"));
        assert_eq!(to("http://[::1]:81/").as_deref(), Some("http://[::1]:81/"));
    }

    #[test]
    fn verdicts() {
        let answer = |status| Answer { status, body: "b".into(), location: None };
        assert_eq!(judge(&answer(204)), Found::Success);
        assert_eq!(judge(&answer(500)), Found::Failure("HTTP probe failed with statuscode: 500".into()));
    }
}
