//! `/version`.

use http::StatusCode;

use crate::web::{Response, respond};

/// Fields and their order as `apimachinery/pkg/version.Info` prints them, indented as upstream does.
pub(crate) fn document() -> Response {
    respond::typed(StatusCode::OK, "application/json", text())
}

fn text() -> String {
    let info = component::version::info();
    let fields = [
        ("major", "1"),
        ("minor", "37"),
        ("emulationMajor", "1"),
        ("emulationMinor", "37"),
        ("minCompatibilityMajor", "1"),
        ("minCompatibilityMinor", "36"),
        ("gitVersion", info.git_version.as_str()),
        ("gitCommit", ""),
        ("gitTreeState", ""),
        ("buildDate", "1970-01-01T00:00:00Z"),
        ("goVersion", ""),
        ("compiler", "rustc"),
        ("platform", info.platform.as_str()),
    ];
    let lines: Vec<String> = fields.iter().map(|(k, v)| format!("  {k:?}: {v:?}")).collect();
    format!("{{\n{}\n}}", lines.join(",\n"))
}
