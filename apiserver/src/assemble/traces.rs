//! Traces, as `--tracing-config-file` asks for them: a `TracingConfiguration` of apiserver.config.k8s.io.
//! Upstream: apiserver/pkg/server/options/tracing.go.

use std::path::Path;

use component::config::{self, Problem};
use machinery::golang::quote;
use traces::{Configuration, Target, Traces};

use crate::hooks;
use crate::options::Config;
use crate::reviewers::io_text;

const KIND: &str = "TracingConfiguration";
const VERSIONS: [&str; 3] =
    ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];

/// Starts the exporter, if a file asks for it.
///
/// # Errors
/// The file cannot be used.
pub(crate) fn start(config: &Config) -> Result<Option<Traces>, component::app::Error> {
    let Some(file) = &config.tracing else { return Ok(None) };
    let instance = hooks::identity(config).unwrap_or_default();
    let resource = [("service.name", "apiserver"), ("service.instance.id", instance.as_str())];
    Ok(Some(Traces::start(&read(file)?, &resource)?))
}

/// Reads the file and checks what it says.
///
/// # Errors
/// In upstream's words; also where the endpoint leads nowhere, which upstream finds out when it sends.
fn read(file: &Path) -> Result<Configuration, String> {
    let failed = |why: String| format!("failed to read tracing config: {why}");
    let data = std::fs::read(file).map_err(|e| {
        let (name, why) = (file.display(), io_text(&e));
        failed(format!(
            "unable to read tracing configuration from {}: open {name}: {why}",
            quote(&name.to_string())
        ))
    })?;
    decode(&data)
        .map_err(|why| failed(format!("unable to decode tracing configuration data: {why}")))
        .and_then(check)
}

/// A file that does not say what it is, is taken as what it is used for.
fn decode(data: &[u8]) -> Result<Configuration, String> {
    let texts =
        |problems: &[Problem]| problems.iter().map(|p| p.text.as_str()).collect::<Vec<_>>().join(", ");
    if data.trim_ascii().is_empty() {
        return Ok(Configuration::default());
    }
    let decoded = config::decode::<Configuration>("", data, &[]).map_err(|e| texts(&e.0))?;
    let (version, kind) = (decoded.meta.api_version.as_str(), decoded.meta.kind.as_str());
    let known = VERSIONS.contains(&version) && kind == KIND;
    let unsaid = version.is_empty() && kind.is_empty();
    if !(known || unsaid) {
        return Err(format!(
            "no kind {} is registered for version {}; write apiVersion: {} and kind: {KIND}",
            quote(kind),
            quote(version),
            VERSIONS[0]
        ));
    }
    match decoded.strict_problems.as_slice() {
        [] => Ok(decoded.value),
        problems => Err(format!("strict decoding error: {}", texts(problems))),
    }
}

fn check(config: Configuration) -> Result<Configuration, String> {
    let failed = |why: String| Err(format!("failed to validate tracing configuration: {why}"));
    let problems: Vec<String> = config.problems("").iter().map(ToString::to_string).collect();
    match problems.as_slice() {
        [] => {}
        [one] => return failed(one.clone()),
        many => return failed(format!("[{}]", many.join(", "))),
    }
    if let Some(Err(why)) = config.endpoint.as_deref().map(Target::parse) {
        return failed(why);
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\n";

    fn of(text: &str) -> Result<Configuration, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tracing.yaml");
        std::fs::write(&file, text).unwrap();
        read(&file)
    }

    #[test]
    fn files_that_are_accepted() {
        let want = |endpoint: Option<&str>, rate| Configuration {
            endpoint: endpoint.map(str::to_owned),
            sampling_rate_per_million: rate,
        };
        for (text, config) in [
            (
                format!("{HEAD}endpoint: localhost:4317\nsamplingRatePerMillion: 100\n"),
                want(Some("localhost:4317"), Some(100)),
            ),
            (HEAD.to_owned(), want(None, None)),
            (HEAD.replace("/v1", "/v1beta1"), want(None, None)),
            (HEAD.replace("/v1", "/v1alpha1"), want(None, None)),
            ("endpoint: x\n".to_owned(), want(Some("x"), None)),
            (String::new(), want(None, None)),
        ] {
            assert_eq!(of(&text), Ok(config), "{text}");
        }
    }

    /// Texts of upstream's server, but for what a Go type is called.
    #[test]
    fn files_that_are_refused() {
        let reading = "failed to read tracing config: ";
        let decode = format!("{reading}unable to decode tracing configuration data: ");
        let check = "failed to validate tracing configuration: ";
        for (text, want) in [
            (
                format!("{HEAD}endpoint: http://x\nsamplingRatePerMillion: -1\n"),
                format!(
                    "{check}[samplingRatePerMillion: Invalid value: -1: sampling rate must be positive, endpoint: Invalid value: \"http://x\": unsupported scheme: http.  Options are none, dns, unix, or unix-abstract.  See https://github.com/grpc/grpc/blob/master/doc/naming.md]"
                ),
            ),
            (
                format!("{HEAD}endpoint: x\nfoo: 1\n"),
                format!("{decode}strict decoding error: unknown field \"foo\""),
            ),
            (
                HEAD.replace("apiserver.config.k8s.io/", ""),
                format!("{decode}no kind \"TracingConfiguration\" is registered for version \"v1\""),
            ),
            (
                HEAD.replace("/v1", "/v1alpha2"),
                format!(
                    "{decode}no kind \"TracingConfiguration\" is registered for version \"apiserver.config.k8s.io/v1alpha2\""
                ),
            ),
            (
                format!("{HEAD}endpoint: dns://google.com:4317\n"),
                format!("{check}endpoint \"dns://google.com:4317\": "),
            ),
            (format!("{HEAD}samplingRatePerMillion: abc\n"), decode.clone()),
        ] {
            let why = of(&text).unwrap_err();
            assert!(why.starts_with(&want), "{why}");
        }
        let why = read(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(
            why,
            format!(
                "{reading}unable to read tracing configuration from \"/nonexistent\": open /nonexistent: no such file or directory"
            )
        );
    }
}
