//! Named health checks behind `/healthz`, `/livez` and `/readyz`.
//!
//! Checks must be quick and must not block: they read a state that something else keeps current.
//! Upstream: apiserver/pkg/server/healthz/healthz.go (texts, exclusion, verbosity).

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{HeaderValue, Request, Response, StatusCode, header};
use tokio_util::sync::CancellationToken;

use crate::metrics::slis;
use crate::serving::body::{self, Body};
use crate::serving::mux::{Mux, immediate, query_values};
use machinery::golang::quote;

/// What a check finds.
pub type CheckResult = Result<(), String>;

/// One named check. Cheap to clone.
#[derive(Clone)]
pub struct Check {
    name: Arc<str>,
    group: Option<Arc<str>>,
    function: Arc<dyn Fn() -> CheckResult + Send + Sync>,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Check").field(&self.name).finish()
    }
}

impl Check {
    /// A check by a function.
    pub fn new(name: &str, function: impl Fn() -> CheckResult + Send + Sync + 'static) -> Self {
        Check { name: name.into(), group: None, function: Arc::new(function) }
    }

    /// Also excluded by the name of a group.
    pub fn in_group(mut self, group: &str) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Always well.
    pub fn ping() -> Self {
        Check::new("ping", || Ok(()))
    }

    /// Logging works. Lines are written at once here, so there is no flush that could hang.
    pub fn log() -> Self {
        Check::new("log", || Ok(()))
    }

    /// Fails once the process drains.
    pub fn shutdown(token: CancellationToken) -> Self {
        Check::new("shutdown", move || {
            if token.is_cancelled() { Err("process is shutting down".into()) } else { Ok(()) }
        })
    }

    /// Name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Adds `path` (e.g. `/readyz`) and a path per check to a router. No check means "ping".
pub fn install(mux: &mut Mux, path: &str, checks: Vec<Check>) {
    let checks = if checks.is_empty() { vec![Check::ping()] } else { checks };
    for check in &checks {
        let check = check.clone();
        mux.handle(format!("{path}/{}", check.name), immediate(move |_| single(&check)));
    }
    let endpoint = path.trim_start_matches('/').split('/').next().unwrap_or("").to_string();
    mux.handle(path.to_string(), immediate(move |request| root(&endpoint, &checks, request)));
}

fn single(check: &Check) -> Response<Body> {
    match (check.function)() {
        Ok(()) => body::text(StatusCode::OK, "ok"),
        Err(why) => body::error(StatusCode::INTERNAL_SERVER_ERROR, &format!("internal server error: {why}")),
    }
}

fn root(endpoint: &str, checks: &[Check], request: &Request<Body>) -> Response<Body> {
    let excluded: BTreeSet<String> = query_values(request, "exclude").into_iter().collect();
    let mut unknown = excluded.clone();
    let (mut shown, mut failed, mut reasons) = (String::new(), Vec::new(), String::new());
    for check in checks {
        if excluded.contains(&*check.name) {
            unknown.remove(&*check.name);
            shown.push_str(&format!("[+]{} excluded: ok\n", check.name));
            continue;
        }
        if let Some(group) = check.group.as_ref().filter(|g| excluded.contains(&***g)) {
            unknown.remove(&**group);
            shown.push_str(&format!("[+]{} excluded with {group}: ok\n", check.name));
            continue;
        }
        let result = (check.function)();
        slis::observe(&check.name, endpoint, result.is_ok());
        match result {
            Ok(()) => shown.push_str(&format!("[+]{} ok\n", check.name)),
            Err(why) => {
                // The page is public; the reason goes to the log only.
                shown.push_str(&format!("[-]{} failed: reason withheld\n", check.name));
                reasons.push_str(&format!("[-]{} failed: {why}\n", check.name));
                failed.push(&*check.name);
            }
        }
    }
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.iter().map(|n| quote(n)).collect();
        shown.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {}\n",
            names.join(",")
        ));
    }
    if !failed.is_empty() {
        crate::v!(2, checks = failed.join(","), endpoint, reasons, "Health check failed");
        return body::error(StatusCode::INTERNAL_SERVER_ERROR, &format!("{shown}{endpoint} check failed"));
    }
    let verbose = !query_values(request, "verbose").is_empty();
    let text = if verbose { format!("{shown}{endpoint} check passed\n") } else { "ok".to_string() };
    let mut response = body::text(StatusCode::OK, text);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn get(mux: &Mux, path: &str) -> (u16, String) {
        let request = Request::get(path).body(body::empty()).unwrap();
        let response = mux.call(request).await;
        let status = response.status().as_u16();
        let data = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(data.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn texts_are_upstreams() {
        let mut mux = Mux::default();
        let bad = Check::new("etcd", || Err("down".into())).in_group("storage");
        install(&mut mux, "/readyz", vec![Check::ping(), bad]);
        install(&mut mux, "/livez", vec![]);
        for (path, status, text) in [
            ("/livez", 200, "ok"),
            ("/livez?verbose", 200, "[+]ping ok\nlivez check passed\n"),
            ("/livez?verbose&exclude=ping", 200, "[+]ping excluded: ok\nlivez check passed\n"),
            (
                "/livez?verbose=1&exclude=no&exclude=%22",
                200,
                "[+]ping ok\nwarn: some health checks cannot be excluded: no matches for \"\\\"\",\"no\"\nlivez check passed\n",
            ),
            ("/readyz", 500, "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\n"),
            (
                "/readyz?verbose&exclude=storage",
                200,
                "[+]ping ok\n[+]etcd excluded with storage: ok\nreadyz check passed\n",
            ),
            ("/readyz/etcd", 500, "internal server error: down\n"),
            ("/readyz/ping", 200, "ok"),
            ("/readyz/other", 404, "404 page not found\n"),
        ] {
            assert_eq!(get(&mux, path).await, (status, text.to_string()), "{path}");
        }
    }
}
