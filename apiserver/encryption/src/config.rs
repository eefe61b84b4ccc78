//! The configuration file. Upstream: `encryptionconfig/config.go` `loadConfig`,
//! `k8s.io/apiserver/pkg/apis/apiserver/v1/{types_encryption,defaults}.go`.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use component::app::Tasks;
use component::duration::GoDuration;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::ciphers::Cipher;
use crate::kms::Plugin;
use crate::provider::{Keys, Provider, Transformers};
use crate::resources::GroupResource;
use crate::validation;

const KIND: (&str, &str) = ("apiserver.config.k8s.io/v1", "EncryptionConfiguration");

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct File {
    pub(crate) resources: Option<Vec<Rule>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Rule {
    pub(crate) resources: Option<Vec<String>>,
    pub(crate) providers: Option<Vec<ProviderFile>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ProviderFile {
    pub(crate) aesgcm: Option<KeysFile>,
    pub(crate) aescbc: Option<KeysFile>,
    pub(crate) secretbox: Option<KeysFile>,
    pub(crate) identity: Option<Identity>,
    pub(crate) kms: Option<KmsFile>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Identity {}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct KeysFile {
    pub(crate) keys: Option<Vec<Key>>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) secret: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.name)
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct KmsFile {
    #[serde(rename = "apiVersion")]
    pub(crate) api_version: Option<String>,
    pub(crate) name: String,
    pub(crate) cachesize: Option<i32>,
    pub(crate) endpoint: String,
    pub(crate) timeout: Option<GoDuration>,
}

impl KmsFile {
    pub(crate) fn version(&self) -> &str {
        self.api_version.as_deref().filter(|v| !v.is_empty()).unwrap_or("v1")
    }

    /// Of one call; nothing for what is not positive.
    pub(crate) fn time_limit(&self) -> Duration {
        self.timeout.map_or(Duration::from_secs(3), GoDuration::to_std)
    }
}

/// Reads the file and prepares its keys. KMS plugins are asked in the background until `stop`.
///
/// # Errors
/// Upstream's texts.
pub async fn load(
    path: &Path,
    reload: bool,
    tasks: &Tasks,
    stop: &CancellationToken,
) -> Result<Transformers, String> {
    let shown = path.display().to_string();
    let loading = |why: String| format!("error while parsing file: {why}");
    let data = std::fs::read(path).map_err(|e| {
        let what = format!("error reading encryption provider configuration file {shown:?}");
        loading(format!("error while loading file: {what}: {e}"))
    })?;
    if data.is_empty() {
        let why = format!("encryption provider configuration file {shown:?} is empty");
        return Err(loading(format!("error while loading file: {why}")));
    }
    let file = parse(&shown, &data, reload).map_err(loading)?;
    let built = build(&file, reload, tasks, stop).await;
    built.map_err(|why| format!("error while building transformers: {why}"))
}

/// Decodes and validates.
pub(crate) fn parse(shown: &str, data: &[u8], reload: bool) -> Result<File, String> {
    let decoded = component::config::decode::<File>(shown, data, &[KIND]).and_then(|d| d.strict());
    let file = decoded
        .map_err(|e| format!("error decoding encryption provider configuration file {shown:?}: {e}"))?;
    validation::check(&file, reload)?;
    Ok(file)
}

async fn build(
    file: &File,
    reload: bool,
    tasks: &Tasks,
    stop: &CancellationToken,
) -> Result<Transformers, String> {
    let mut all = Transformers::new(reload);
    for rule in file.resources.iter().flatten() {
        let mut providers = Vec::new();
        for written in rule.providers.iter().flatten() {
            providers.push(provider(written, tasks, stop).await?);
        }
        for resource in rule.resources.iter().flatten() {
            all.add(GroupResource::parse(resource), &providers)?;
        }
    }
    Ok(all)
}

async fn provider(
    written: &ProviderFile,
    tasks: &Tasks,
    stop: &CancellationToken,
) -> Result<Provider, String> {
    type Make = fn(&[u8]) -> Result<Cipher, String>;
    let keys = |file: &KeysFile, prefix: &'static str, make: Make, missing: &'static str| {
        let mut keys = Vec::new();
        for key in file.keys.iter().flatten() {
            let failed =
                |why: String| format!("error while creating cipher for named key {}: {why}", key.name);
            let secret = base64::engine::general_purpose::STANDARD.decode(&key.secret);
            let secret = secret.map_err(|e| failed(e.to_string()))?;
            keys.push((format!("{}:", key.name).into_bytes(), make(&secret).map_err(failed)?));
        }
        Ok(Provider::keys(Keys { prefix: prefix.as_bytes(), keys, missing }))
    };
    const AES: &str = "no matching key was found for the provided AES transformer";
    const BOX: &str = "no matching key was found for the provided Secretbox transformer";
    match written {
        ProviderFile { aesgcm: Some(file), .. } => keys(file, "k8s:enc:aesgcm:v1:", Cipher::gcm, AES),
        ProviderFile { aescbc: Some(file), .. } => keys(file, "k8s:enc:aescbc:v1:", Cipher::cbc, AES),
        ProviderFile { secretbox: Some(file), .. } => {
            keys(file, "k8s:enc:secretbox:v1:", Cipher::secretbox, BOX)
        }
        ProviderFile { kms: Some(kms), .. } => plugin(kms, tasks, stop).await,
        _ => Ok(Provider::identity()),
    }
}

async fn plugin(kms: &KmsFile, tasks: &Tasks, stop: &CancellationToken) -> Result<Provider, String> {
    if kms.version() != "v2" {
        return Err(
            "KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead.  Set \
             --feature-gates=KMSv1=true to use the deprecated KMSv1 feature."
                .to_owned(),
        );
    }
    let limit = kms.time_limit();
    let started = Plugin::start(&kms.name, &kms.endpoint, limit, tasks, stop).await;
    let plugin = started
        .map_err(|why| format!("could not configure KMSv2-Plugin's probe {:?}, error: {why}", kms.name))?;
    Ok(Provider::plugin(format!("k8s:enc:kms:v2:{}:", kms.name).into_bytes(), plugin))
}
