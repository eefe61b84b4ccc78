//! Registry credentials from programs that the administrator installed, remembered as long as they say.
//!
//! Tokens of service accounts are not handed to them; a configuration that asks for that is refused.
//! Upstream: pkg/credentialprovider/plugin, v1.37.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use component::duration::GoDuration;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::credentials::{Keyring, Login, matches};
use super::reference::repository;

/// A program that takes longer is ended.
const PATIENCE: Duration = Duration::from_secs(60);
const VERSIONS: [&str; 3] = [
    "credentialprovider.kubelet.k8s.io/v1",
    "credentialprovider.kubelet.k8s.io/v1beta1",
    "credentialprovider.kubelet.k8s.io/v1alpha1",
];
/// Versions of the configuration file.
const CONFIG_VERSIONS: [&str; 3] =
    ["kubelet.config.k8s.io/v1", "kubelet.config.k8s.io/v1beta1", "kubelet.config.k8s.io/v1alpha1"];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Config {
    api_version: String,
    kind: String,
    #[serde(default)]
    providers: Vec<ProviderConfig>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct ProviderConfig {
    name: String,
    match_images: Vec<String>,
    default_cache_duration: Option<GoDuration>,
    api_version: String,
    args: Vec<String>,
    env: Vec<Variable>,
    token_attributes: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
struct Variable {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    api_version: &'a str,
    kind: &'static str,
    image: &'a str,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Response {
    api_version: String,
    cache_key_type: String,
    cache_duration: Option<GoDuration>,
    auth: BTreeMap<String, Answer>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    username: String,
    password: String,
}

struct Cached {
    until: Instant,
    auth: BTreeMap<String, Answer>,
}

struct Provider {
    config: ProviderConfig,
    program: PathBuf,
    /// Answers by image, registry, or for all.
    cache: Mutex<HashMap<String, Cached>>,
    /// One call at a time; who waited finds the answer in the cache.
    running: tokio::sync::Mutex<()>,
}

/// All providers.
#[derive(Default)]
pub struct Providers(Vec<Provider>);

impl Providers {
    /// Reads the configuration, a file or a folder of them; the programs are in `bin`.
    ///
    /// # Errors
    /// Every problem found.
    pub fn load(config: &Path, bin: &Path) -> Result<Self, Vec<String>> {
        let one = |e: String| vec![e];
        let mut all = Vec::new();
        for file in files(config).map_err(one)? {
            let text = std::fs::read_to_string(&file)
                .map_err(|e| one(format!("unable to read file {:?}: {e}", file.display().to_string())))?;
            let read: Config = serde_saphyr::from_str(&text)
                .map_err(|e| one(format!("error decoding config {:?}: {e}", file.display().to_string())))?;
            if read.kind != "CredentialProviderConfig"
                || !CONFIG_VERSIONS.contains(&read.api_version.as_str())
            {
                return Err(one(format!(
                    "failed to decode {:?} of {:?} (wrong Kind)",
                    read.kind, read.api_version
                )));
            }
            all.extend(read.providers);
        }
        let problems = problems(&all, bin);
        if !problems.is_empty() {
            return Err(problems);
        }
        let provider = |config: ProviderConfig| Provider {
            program: bin.join(&config.name),
            config,
            cache: Mutex::default(),
            running: tokio::sync::Mutex::default(),
        };
        Ok(Self(all.into_iter().map(provider).collect()))
    }

    /// Credentials by server for an image, from every provider that is there for it.
    pub async fn for_image(&self, image: &str) -> Keyring {
        let wanted = repository(image);
        let mut out = Keyring::default();
        for provider in &self.0 {
            if !provider.config.match_images.iter().any(|pattern| matches(pattern, &wanted)) {
                continue;
            }
            match provider.ask(&wanted).await {
                Ok(auth) => {
                    let login = |(server, answer): (String, Answer)| {
                        let Answer { username, password } = answer;
                        (server, Login { username, password, ..Login::default() })
                    };
                    out.add(None, auth.into_iter().map(login));
                }
                Err(error) => {
                    tracing::error!(
                        provider = provider.config.name,
                        image,
                        error,
                        "Failed getting credentials from a credential provider"
                    );
                }
            }
        }
        out
    }
}

fn files(config: &Path) -> Result<Vec<PathBuf>, String> {
    let shown = config.display().to_string();
    let found = std::fs::metadata(config).map_err(|e| format!("unable to access path {shown:?}: {e}"))?;
    if !found.is_dir() {
        return Ok(vec![config.to_owned()]);
    }
    let entries =
        std::fs::read_dir(config).map_err(|e| format!("unable to read directory {shown:?}: {e}"))?;
    let is_config = |path: &PathBuf| {
        path.is_file() && path.extension().is_some_and(|e| e == "json" || e == "yaml" || e == "yml")
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_config).collect();
    files.sort();
    if files.is_empty() {
        Err(format!("no configuration files found in directory {shown:?}"))
    } else {
        Ok(files)
    }
}

fn problems(providers: &[ProviderConfig], bin: &Path) -> Vec<String> {
    let mut out = Vec::new();
    if providers.is_empty() {
        out.push("providers: Required value: at least 1 item in plugins is required".to_owned());
    }
    for (index, provider) in providers.iter().enumerate() {
        let name = &provider.name;
        let mut refuse = |bad: bool, text: &str| {
            if bad {
                out.push(format!("providers: {name:?}: {text}"));
            }
        };
        refuse(name.contains('/') || name.contains(' '), "provider name cannot contain '/' or spaces");
        refuse(matches!(name.as_str(), "" | "." | ".."), "provider name must be that of a program");
        refuse(
            providers[..index].iter().any(|p| p.name == *name),
            "duplicate provider name found in configuration file(s)",
        );
        refuse(
            !VERSIONS.contains(&provider.api_version.as_str()),
            "apiVersion: Unsupported value; supported are the versions of credentialprovider.kubelet.k8s.io",
        );
        refuse(
            provider.match_images.is_empty(),
            "matchImages: Required value: at least 1 item in matchImages is required",
        );
        refuse(provider.default_cache_duration.is_none(), "defaultCacheDuration: Required value");
        refuse(
            provider.default_cache_duration.is_some_and(|d| d.0 < 0),
            "defaultCacheDuration: must be greater than or equal to 0",
        );
        refuse(
            provider.token_attributes.is_some(),
            "tokenAttributes: tokens of service accounts for credential providers are not supported by this kubelet yet",
        );
        refuse(
            !name.is_empty() && !bin.join(name).is_file(),
            "there is no such program in --image-credential-provider-bin-dir",
        );
    }
    out
}

impl Provider {
    async fn ask(&self, repository: &str) -> Result<BTreeMap<String, Answer>, String> {
        if let Some(known) = self.cached(repository, Instant::now()) {
            return Ok(known);
        }
        let _running = self.running.lock().await;
        if let Some(known) = self.cached(repository, Instant::now()) {
            return Ok(known);
        }
        let response = self.call(repository).await?;
        let span = response.cache_duration.or(self.config.default_cache_duration).unwrap_or_default();
        let key = match response.cache_key_type.as_str() {
            "Image" => repository,
            "Registry" => registry(repository),
            "Global" => "",
            other => {
                return Err(format!(
                    "credential provider plugin did not return a valid cacheKeyType: {other:?}"
                ));
            }
        };
        if span.0 > 0 {
            let until = Instant::now() + span.to_std();
            let mut cache = self.cache.lock();
            cache.retain(|_, entry| entry.until > Instant::now());
            cache.insert(key.to_owned(), Cached { until, auth: response.auth.clone() });
        }
        Ok(response.auth)
    }

    fn cached(&self, repository: &str, now: Instant) -> Option<BTreeMap<String, Answer>> {
        let cache = self.cache.lock();
        let keys = [repository, registry(repository), ""];
        keys.iter()
            .find_map(|key| cache.get(*key).filter(|entry| entry.until > now))
            .map(|entry| entry.auth.clone())
    }

    async fn call(&self, repository: &str) -> Result<Response, String> {
        let config = &self.config;
        let request = Request {
            api_version: &config.api_version,
            kind: "CredentialProviderRequest",
            image: repository,
        };
        let input =
            serde_json::to_vec(&request).map_err(|e| format!("failed to encode auth request: {e}"))?;
        let failed = |e: String| {
            format!("error execing credential provider plugin {} for image {repository}: {e}", config.name)
        };
        let mut child = Command::new(&self.program)
            .args(&config.args)
            .envs(config.env.iter().map(|v| (&v.name, &v.value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| failed(e.to_string()))?;
        let stdin = child.stdin.take();
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // A program that does not read its input may still answer.
                let _ = stdin.write_all(&input).await;
            }
        };
        let work = async { tokio::join!(feed, child.wait_with_output()).1 };
        let output = match tokio::time::timeout(PATIENCE, work).await {
            Ok(output) => output.map_err(|e| failed(e.to_string()))?,
            Err(_) => return Err(failed("context deadline exceeded".to_owned())),
        };
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(failed(format!("{}: {text}", output.status)));
        }
        // The text of an error might show credentials.
        let response: Response = serde_json::from_slice(&output.stdout)
            .map_err(|_| "error decoding credential provider plugin response from stdout".to_owned())?;
        if response.api_version != config.api_version {
            return Err(format!(
                "apiVersion from credential plugin response did not match expected apiVersion:{}, actual apiVersion:{}",
                config.api_version, response.api_version
            ));
        }
        Ok(response)
    }
}

fn registry(repository: &str) -> &str {
    repository.split('/').next().unwrap_or(repository)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A provider that is the shell with a script. (A script in a file just written might still be busy.)
    fn config(dir: &Path, script: &str, more: &str) -> Result<Providers, Vec<String>> {
        let program = dir.join("prov");
        if !script.is_empty() && !program.exists() {
            std::os::unix::fs::symlink("/bin/sh", program).unwrap();
        }
        let file = dir.join("c.yaml");
        let args = serde_json::json!(["-c", script]);
        let text = format!(
            "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n- name: prov\n  \
             apiVersion: credentialprovider.kubelet.k8s.io/v1\n  matchImages: [\"*.reg.io/team\"]\n  \
             defaultCacheDuration: 1h\n  args: {args}\n{more}"
        );
        std::fs::write(&file, text).unwrap();
        Providers::load(&file, dir)
    }

    #[tokio::test]
    async fn asks_once_per_registry() {
        let dir = tempfile::tempdir().unwrap();
        let count = dir.path().join("count");
        let answer = r#"{"apiVersion": "credentialprovider.kubelet.k8s.io/v1", "cacheKeyType": "Registry", "auth": {"a.reg.io": {"username": "u", "password": "%s"}}}"#;
        let script = format!("cat > /dev/null; echo x >> {}; printf '{answer}' $WORD", count.display());
        let providers = config(dir.path(), &script, "  env: [{name: WORD, value: secret}]\n").unwrap();
        for image in ["a.reg.io/team/app:1", "a.reg.io/team/other"] {
            let found = providers.for_image(image).await.lookup(&repository(image));
            assert_eq!(found[0].login.password, "secret");
        }
        assert_eq!(std::fs::read_to_string(count).unwrap(), "x\n");
        for image in ["busybox", "a.reg.io/elsewhere"] {
            assert!(providers.for_image(image).await.lookup(&repository(image)).is_empty());
        }
    }

    #[tokio::test]
    async fn failures_give_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for script in ["exit 3", "echo nonsense", r#"echo '{"apiVersion": "x"}'"#] {
            let found = config(dir.path(), script, "").unwrap().for_image("a.reg.io/team/x").await;
            assert!(found.lookup("a.reg.io/team/x").is_empty());
        }
    }

    #[test]
    fn refuses_bad_configurations() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(config(dir.path(), "", "").err().map(|p| p.len()), Some(1));
        let twice = "- name: prov\n  apiVersion: v7\n  tokenAttributes: {serviceAccountTokenAudience: a}\n";
        assert_eq!(config(dir.path(), "true", twice).err().map(|p| p.len()), Some(5));
        assert!(config(dir.path(), "true", "  bogus: 1\n").is_err());
    }
}
