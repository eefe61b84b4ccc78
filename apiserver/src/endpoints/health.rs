//! `/healthz`, `/livez`, `/readyz`: named checks.
//!
//! Post-start hooks register a check that fails until the hook has finished.
//! Upstream: `k8s.io/apiserver/pkg/server/healthz/healthz.go`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use component::metrics::slis;
use futures::future::BoxFuture;
use http::StatusCode;
use machinery::golang::quote;
use parking_lot::RwLock;

use crate::web::query::Query;
use crate::web::{Response, respond};

/// How the names of post-start hooks' checks begin.
const HOOK: &str = "poststarthook/";

/// One of the three pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// `/healthz`
    Healthz,
    /// `/livez`
    Livez,
    /// `/readyz`
    Readyz,
}

impl Page {
    fn name(self) -> &'static str {
        match self {
            Page::Healthz => "healthz",
            Page::Livez => "livez",
            Page::Readyz => "readyz",
        }
    }

    /// The page and the single check a path addresses.
    pub(crate) fn of(path: &str) -> Option<(Page, &str)> {
        [Page::Healthz, Page::Livez, Page::Readyz].into_iter().find_map(|page| {
            let rest = path.strip_prefix('/')?.strip_prefix(page.name())?;
            match rest.strip_prefix('/') {
                Some(check) => (!check.is_empty()).then_some((page, check)),
                None => rest.is_empty().then_some((page, "")),
            }
        })
    }
}

type Probe = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

struct Check {
    name: String,
    pages: Vec<Page>,
    probe: Probe,
}

/// All checks, in the order they were added. Clones share them.
#[derive(Clone)]
pub struct Health {
    checks: Arc<RwLock<Vec<Arc<Check>>>>,
    /// For some time from the start, `/livez` does not ask whether post-start hooks have finished.
    lenient: (Instant, Duration),
}

impl Default for Health {
    fn default() -> Self {
        Self::lenient(Duration::ZERO)
    }
}

/// Marks a post-start hook as finished.
#[derive(Debug, Clone, Default)]
pub struct Hook(Arc<AtomicBool>);

impl Hook {
    /// The hook has done its work.
    pub fn finish(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Health {
    /// Checks that give post-start hooks some time before `/livez` fails for them: `--livez-grace-period`.
    pub fn lenient(grace: Duration) -> Self {
        Self { checks: Arc::default(), lenient: (Instant::now(), grace) }
    }

    /// Whether a check passes without being asked. Upstream: `delayedHealthCheck` of apiserver/pkg/server/healthz.go.
    fn passes_for_now(&self, page: Page, check: &Check) -> bool {
        let (start, grace) = self.lenient;
        page == Page::Livez && check.name.starts_with(HOOK) && start.elapsed() < grace
    }

    /// Adds a check to some pages.
    pub fn add<F>(&self, name: &str, pages: &[Page], probe: F)
    where
        F: Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
    {
        let check = Check { name: name.to_owned(), pages: pages.to_vec(), probe: Arc::new(probe) };
        self.checks.write().push(Arc::new(check));
    }

    /// Adds a check that reads a flag: healthy when set.
    pub fn add_flag(&self, name: &str, pages: &[Page], why_not: &'static str) -> Hook {
        let hook = Hook::default();
        let state = hook.clone();
        self.add(name, pages, move || {
            let healthy = state.0.load(Ordering::Acquire);
            Box::pin(async move { if healthy { Ok(()) } else { Err(why_not.to_owned()) } })
        });
        hook
    }

    /// Registers `poststarthook/<name>` on all pages; it fails until the returned handle is finished.
    pub fn hook(&self, name: &str) -> Hook {
        let pages = [Page::Healthz, Page::Livez, Page::Readyz];
        self.add_flag(&format!("{HOOK}{name}"), &pages, "not finished")
    }

    /// Paths of the pages and their checks, for the index.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths: Vec<String> = ["/healthz", "/livez", "/readyz"].map(str::to_owned).into();
        for check in self.checks.read().iter() {
            paths.extend(check.pages.iter().map(|page| format!("/{}/{}", page.name(), check.name)));
        }
        paths
    }

    fn of(&self, page: Page) -> Vec<Arc<Check>> {
        self.checks.read().iter().filter(|c| c.pages.contains(&page)).cloned().collect()
    }

    /// Whether `/readyz` would pass; neither logged nor counted.
    pub(crate) async fn ready(&self) -> bool {
        for check in self.of(Page::Readyz) {
            if (check.probe)().await.is_err() {
                return false;
            }
        }
        true
    }

    /// Answers a page, or one check of it.
    pub(crate) async fn answer(&self, page: Page, single: &str, query: &Query) -> Response {
        let checks = self.of(page);
        if !single.is_empty() {
            let Some(check) = checks.iter().find(|c| c.name == single) else {
                return respond::plain(StatusCode::NOT_FOUND, "404 page not found");
            };
            if self.passes_for_now(page, check) {
                return respond::typed(StatusCode::OK, "text/plain; charset=utf-8", "ok");
            }
            return match (check.probe)().await {
                Ok(()) => respond::typed(StatusCode::OK, "text/plain; charset=utf-8", "ok"),
                Err(why) => {
                    let text = format!("internal server error: {why}");
                    respond::plain(StatusCode::INTERNAL_SERVER_ERROR, text)
                }
            };
        }
        self.run(page, &checks, query).await
    }

    async fn run(&self, page: Page, checks: &[Arc<Check>], query: &Query) -> Response {
        let mut excluded: BTreeSet<&str> = query.all("exclude").filter(|e| !e.is_empty()).collect();
        let (mut output, mut failed) = (String::new(), Vec::new());
        for check in checks {
            let name = &check.name;
            if excluded.remove(name.as_str()) {
                let _ = writeln!(output, "[+]{name} excluded: ok");
                continue;
            }
            let outcome = if self.passes_for_now(page, check) { Ok(()) } else { (check.probe)().await };
            slis::observe(name, page.name(), outcome.is_ok());
            match outcome {
                Ok(()) => {
                    let _ = writeln!(output, "[+]{name} ok");
                }
                Err(why) => {
                    let _ = writeln!(output, "[-]{name} failed: reason withheld");
                    failed.push(format!("{name}: {why}"));
                }
            }
        }
        if !excluded.is_empty() {
            let names: Vec<String> = excluded.iter().map(|n| quote(n)).collect();
            let _ = writeln!(
                output,
                "warn: some health checks cannot be excluded: no matches for {}",
                names.join(",")
            );
        }
        let name = page.name();
        if !failed.is_empty() {
            tracing::info!(page = name, failed = failed.join("; "), "check failed");
            return respond::plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{output}{name} check failed"));
        }
        let text = if query.get("verbose").is_some() {
            format!("{output}{name} check passed\n")
        } else {
            "ok".to_owned()
        };
        let mut response = respond::typed(StatusCode::OK, "text/plain; charset=utf-8", text);
        response.headers_mut().insert("x-content-type-options", http::HeaderValue::from_static("nosniff"));
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn ask(health: &Health, path: &str, query: &str) -> (u16, String) {
        let (page, check) = Page::of(path).unwrap();
        let response = health.answer(page, check, &Query::parse(query)).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn pages() {
        let health = Health::default();
        health.add("ping", &[Page::Healthz, Page::Readyz], || Box::pin(async { Ok(()) }));
        let hook = health.hook("x");
        let (code, text) = ask(&health, "/healthz", "").await;
        assert_eq!(code, 500);
        assert_eq!(text, "[+]ping ok\n[-]poststarthook/x failed: reason withheld\nhealthz check failed\n");
        assert_eq!(ask(&health, "/healthz", "exclude=poststarthook/x").await, (200, "ok".to_owned()));
        let (code, text) = ask(&health, "/livez/poststarthook/x", "").await;
        assert_eq!((code, text.as_str()), (500, "internal server error: not finished\n"));
        hook.finish();
        let want = "[+]ping ok\n[+]poststarthook/x ok\nreadyz check passed\n".to_owned();
        assert_eq!(ask(&health, "/readyz", "verbose").await, (200, want));
    }

    #[tokio::test]
    async fn livez_gives_hooks_time() {
        let health = Health::lenient(Duration::from_secs(3600));
        let _hook = health.hook("x");
        assert_eq!(ask(&health, "/livez", "").await, (200, "ok".to_owned()));
        assert_eq!(ask(&health, "/livez/poststarthook/x", "").await, (200, "ok".to_owned()));
        assert_eq!(ask(&health, "/readyz", "").await.0, 500);
    }
}
