//! The versions this product reports: upstream's for compatibility, its own beside it.
//! Upstream: k8s.io/component-base/version, version/verflag.

use std::sync::OnceLock;

use serde::Serialize;

use machinery::golang::quote;

/// The Kubernetes version whose behaviour is implemented.
pub const KUBERNETES: &str = "v1.37.2";
/// Its minor number.
pub const MINOR: u32 = 37;
/// This product's name.
pub const PRODUCT: &str = "Corten";
/// This product's version.
pub const PRODUCT_VERSION: &str = env!("CARGO_PKG_VERSION");

static DYNAMIC: OnceLock<String> = OnceLock::new();

/// The `/version` document; every key upstream has, in its order.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are upstream's JSON keys")]
pub struct Info {
    pub major: String,
    pub minor: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub emulation_major: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub emulation_minor: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub min_compatibility_major: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub min_compatibility_minor: String,
    pub git_version: String,
    pub git_commit: String,
    pub git_tree_state: String,
    pub build_date: String,
    pub go_version: String,
    pub compiler: String,
    pub platform: String,
}

/// The reported version text, e.g. `v1.37.2`.
pub fn reported() -> &'static str {
    DYNAMIC.get().map_or(KUBERNETES, String::as_str)
}

/// What this binary reports. The compiler's name stands where Go's would.
pub fn info() -> Info {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Info {
        major: "1".into(),
        minor: MINOR.to_string(),
        emulation_major: String::new(),
        emulation_minor: String::new(),
        min_compatibility_major: String::new(),
        min_compatibility_minor: String::new(),
        git_version: reported().into(),
        git_commit: option_env!("CORTEN_GIT_COMMIT").unwrap_or("unknown").into(),
        git_tree_state: option_env!("CORTEN_GIT_TREE_STATE").unwrap_or("").into(),
        build_date: option_env!("CORTEN_BUILD_DATE").unwrap_or("1970-01-01T00:00:00Z").into(),
        go_version: format!("{PRODUCT}/{PRODUCT_VERSION}"),
        compiler: "rustc".into(),
        platform: format!("linux/{arch}"),
    }
}

/// The line of `--version=raw`: upstream's form with the product's name and version appended.
pub fn raw() -> String {
    let i = info();
    let field = |name: &str, value: &str| format!("{name}:{}", quote(value));
    let fields = [
        field("Major", &i.major),
        field("Minor", &i.minor),
        field("EmulationMajor", &i.emulation_major),
        field("EmulationMinor", &i.emulation_minor),
        field("MinCompatibilityMajor", &i.min_compatibility_major),
        field("MinCompatibilityMinor", &i.min_compatibility_minor),
        field("GitVersion", &i.git_version),
        field("GitCommit", &i.git_commit),
        field("GitTreeState", &i.git_tree_state),
        field("BuildDate", &i.build_date),
        field("GoVersion", &i.go_version),
        field("Compiler", &i.compiler),
        field("Platform", &i.platform),
        field("Product", PRODUCT),
        field("ProductVersion", PRODUCT_VERSION),
    ];
    format!("version.Info{{{}}}", fields.join(", "))
}

/// Whether `--version=vX` may set the reported version: same major.minor.patch, any suffix.
///
/// # Errors
/// Upstream's texts (version.ValidateDynamicVersion).
pub fn check_dynamic(text: &str) -> Result<(), String> {
    let parts = |v: &str| -> Option<(u64, u64, u64)> {
        let core = v.strip_prefix('v')?;
        let core = core.split(['-', '+']).next()?;
        let mut numbers = core.split('.').map(|n| n.parse().ok());
        let triple = (numbers.next()??, numbers.next()??, numbers.next()??);
        numbers.next().is_none().then_some(triple)
    };
    match parts(text) {
        None => Err(format!("illegal version string {}", quote(text))),
        Some(v) if Some(v) != parts(KUBERNETES) => Err(format!(
            "version {} must match major/minor/patch of default version {}",
            quote(text),
            quote(KUBERNETES)
        )),
        Some(_) => Ok(()),
    }
}

/// Sets the reported version once, after [`check_dynamic`] accepted it.
pub(crate) fn set_dynamic(text: &str) {
    let _ = DYNAMIC.set(text.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dynamic_versions() {
        assert_eq!(check_dynamic("v1.37.2-corten.1"), Ok(()));
        assert_eq!(check_dynamic("v1.2.3.4"), Err(r#"illegal version string "v1.2.3.4""#.into()));
        assert_eq!(
            check_dynamic("v1.2.3"),
            Err(r#"version "v1.2.3" must match major/minor/patch of default version "v1.37.2""#.into())
        );
    }

    #[test]
    fn raw_names_the_product() {
        let raw = raw();
        assert!(raw.starts_with(r#"version.Info{Major:"1", Minor:"37", "#), "{raw}");
        assert!(raw.contains(r#"Product:"Corten", ProductVersion:"#), "{raw}");
    }
}
