//! `/`: the paths this server answers. Upstream: `k8s.io/apiserver/pkg/server/routes/index.go`.

use http::StatusCode;

use crate::endpoints::health::Health;
use crate::server::{Call, Server};
use crate::web::{Response, respond};

/// `{"paths": [...]}`, indented.
pub(crate) fn paths_document(paths: &[String]) -> String {
    if paths.is_empty() {
        return "{\n  \"paths\": []\n}".to_owned();
    }
    let lines: Vec<String> = paths.iter().map(|p| format!("    {p:?}")).collect();
    format!("{{\n  \"paths\": [\n{}\n  ]\n}}", lines.join(",\n"))
}

/// The paths outside the API and the health pages.
const OWN: [&str; 6] = [
    "/.well-known/openid-configuration",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/openid/v1/jwks",
    "/version",
];

/// Paths that are known when the server starts, for `/statusz`.
pub(crate) fn at_start(health: &Health) -> Vec<String> {
    OWN.map(str::to_owned).into_iter().chain(health.paths()).collect()
}

/// The index.
pub(crate) fn document(server: &Server, _: &Call) -> Response {
    let mut paths = at_start(&server.health);
    paths.extend(server.pages.paths());
    paths.extend(["/api".to_owned(), "/apis".to_owned()]);
    for row in server.registry.resources() {
        let gv = row.gvk.api_version();
        let path = if row.gvk.group.is_empty() { format!("/api/{gv}") } else { format!("/apis/{gv}") };
        if !row.gvk.group.is_empty() {
            paths.push(format!("/apis/{}", row.gvk.group));
        }
        paths.push(path);
    }
    paths.sort();
    paths.dedup();
    respond::typed(StatusCode::OK, "application/json", paths_document(&paths))
}
