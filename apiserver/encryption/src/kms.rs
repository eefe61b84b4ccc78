//! Envelopes whose key is kept by a KMS plugin, version 2.
//!
//! A random seed, encrypted by the plugin, gives every object a key of its own. The plugin is asked for its state every
//! minute; another key id there means another seed. Without an answer, what was written stays readable as long as its
//! seed is remembered, and writing goes on for three minutes.
//! Upstream: `encryptionconfig/config.go` `kmsv2PluginProbe`, `encrypt/envelope/kmsv2/envelope.go`,
//! `encrypt/aes/aes_extended_nonce.go`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use component::app::Tasks;
use parking_lot::Mutex;
use prost::Message;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::ciphers::{Cipher, open, random, seal};
use crate::kms_client::{DecryptRequest, EncryptResponse, KmsClient, StatusResponse};

/// How long a seed may be used without the plugin confirming its key id.
const WRITE_FOR: Duration = Duration::from_secs(180);
/// Pauses between questions, after an answer and after none.
const PAUSE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(10);
/// How long an answer about health is good, a good one and a bad one.
const GOOD_FOR: Duration = Duration::from_secs(20);
const BAD_FOR: Duration = Duration::from_secs(3);
/// Seeds and keys that are remembered; upstream remembers all for a day. There is one per key id and start of a server.
const MAX_SEEDS: usize = 4096;
const MAX_KEY_ID: usize = 1 << 10;
const MAX_SOURCE: usize = 1 << 10;
const MAX_ANNOTATIONS: usize = 32 << 10;
const INFO: usize = 32;
const SEED: i32 = 1;

/// What is stored of an object. Upstream: `kmsv2/v2/api.proto` `EncryptedObject`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct EncryptedObject {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) data: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(crate) key_id: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) source: Vec<u8>,
    #[prost(btree_map = "string, bytes", tag = "4")]
    pub(crate) annotations: std::collections::BTreeMap<String, Vec<u8>>,
    #[prost(int32, tag = "5")]
    pub(crate) source_type: i32,
}

/// What objects are encrypted with.
enum Dek {
    /// A key per object is derived from it.
    Seed(Prk),
    /// The key itself, as older servers wrote.
    Key(Cipher),
}

/// What is written with.
struct State {
    dek: Arc<Dek>,
    /// Without data.
    envelope: EncryptedObject,
    until: Mutex<Instant>,
}

struct Health {
    result: Result<(), String>,
    until: Instant,
    version: String,
}

/// A plugin.
pub(crate) struct Plugin {
    name: String,
    client: KmsClient,
    state: ArcSwapOption<State>,
    known: Mutex<HashMap<[u8; 32], Arc<Dek>>>,
    health: tokio::sync::Mutex<Health>,
}

/// The length of derived keys.
struct KeyLength;

impl KeyType for KeyLength {
    fn len(&self) -> usize {
        32
    }
}

impl Dek {
    fn seed(seed: &[u8]) -> Self {
        Self::Seed(Prk::new_less_safe(HKDF_SHA256, seed))
    }

    fn of(bytes: &[u8], source_type: i32) -> Result<Self, String> {
        match source_type {
            SEED if bytes.len() < 32 => {
                Err(format!("invalid seed length {} used for key generation", bytes.len()))
            }
            SEED => Ok(Self::seed(bytes)),
            _ => match bytes.len() {
                16 | 24 | 32 => Cipher::gcm(bytes).map(Self::Key),
                other => Err(format!("crypto/aes: invalid key size {other}")),
            },
        }
    }

    fn derive(prk: &Prk, info: &[u8]) -> Result<LessSafeKey, String> {
        let failed = |_| "failed to derive a key from KDF".to_owned();
        let mut key = [0; 32];
        prk.expand(&[info], KeyLength).and_then(|okm| okm.fill(&mut key)).map_err(failed)?;
        UnboundKey::new(&AES_256_GCM, &key).map(LessSafeKey::new).map_err(failed)
    }

    fn encrypt(&self, plain: &[u8], place: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Key(cipher) => cipher.encrypt(plain, place),
            Self::Seed(prk) => {
                let info = random::<INFO>()?;
                Ok([&info[..], &seal(&Self::derive(prk, &info)?, plain, place)?].concat())
            }
        }
    }

    fn decrypt(&self, data: &[u8], place: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Key(cipher) => cipher.decrypt(data, place),
            Self::Seed(prk) => {
                let short = "the stored data was shorter than the required size";
                let (info, data) = data.split_first_chunk::<INFO>().ok_or(short)?;
                open(&Self::derive(prk, info)?, data, place)
            }
        }
    }
}

impl EncryptedObject {
    /// Upstream: `ValidateEncryptedObject`.
    pub(crate) fn check(&self, with_data: bool) -> Result<(), String> {
        if !matches!(self.source_type, 0 | SEED) {
            return Err(format!("unknown encryptedDEKSourceType: {}", self.source_type));
        }
        if with_data && self.data.is_empty() {
            return Err("encrypted data is empty".to_owned());
        }
        match self.source.len() {
            0 => {
                return Err(
                    "failed to validate encrypted DEK source: encrypted DEK source is empty".to_owned()
                );
            }
            n if n > MAX_SOURCE => {
                return Err(format!(
                    "failed to validate encrypted DEK source: encrypted DEK source is {n} bytes, which exceeds the max \
                     size of {MAX_SOURCE}"
                ));
            }
            _ => {}
        }
        check_key_id(&self.key_id).map_err(|why| format!("failed to validate key id: {why}"))?;
        let total: usize = self.annotations.iter().map(|(k, v)| k.len() + v.len()).sum();
        if total > MAX_ANNOTATIONS {
            return Err(format!(
                "failed to validate annotations: total size of annotations is {total}, which exceeds the max size of \
                 {MAX_ANNOTATIONS}"
            ));
        }
        let named =
            |name: &String| api::validation::content::dns_subdomain(name).is_empty() && name.contains('.');
        match self.annotations.keys().find(|name| !named(name)) {
            None => Ok(()),
            Some(name) => Err(format!(
                "failed to validate annotations: annotations: Invalid value: {name:?}: should be a domain with at \
                 least two segments separated by dots"
            )),
        }
    }

    /// What its seed is remembered under.
    fn remembered_as(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.source_type.to_be_bytes());
        let mut part = |bytes: &[u8]| {
            digest.update((bytes.len() as u64).to_be_bytes());
            digest.update(bytes);
        };
        part(&self.source);
        part(self.key_id.as_bytes());
        for (key, value) in &self.annotations {
            part(key.as_bytes());
            part(value);
        }
        digest.finalize().into()
    }
}

fn check_key_id(id: &str) -> Result<(), String> {
    match id.len() {
        0 => Err("keyID is empty".to_owned()),
        n if n > MAX_KEY_ID => Err(format!("keyID is {n} bytes, which exceeds the max size of {MAX_KEY_ID}")),
        _ => Ok(()),
    }
}

impl Plugin {
    /// Connects, and keeps asking until `stop`. A plugin that does not answer yet is no error.
    pub(crate) async fn start(
        name: &str,
        endpoint: &str,
        limit: Duration,
        tasks: &Tasks,
        stop: &CancellationToken,
    ) -> Result<Arc<Self>, String> {
        let health = Health { result: Ok(()), until: Instant::now(), version: String::new() };
        let plugin = Arc::new(Self {
            name: name.to_owned(),
            client: KmsClient::new(endpoint, limit)?,
            state: ArcSwapOption::empty(),
            known: Mutex::default(),
            health: tokio::sync::Mutex::new(health),
        });
        let mut good = plugin.logged_check().await;
        let (asking, stop) = (plugin.clone(), stop.clone());
        tasks.spawn("kms-plugin-probe", async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(if good { PAUSE } else { RETRY }) => {}
                }
                good = asking.logged_check().await;
            }
        });
        Ok(plugin)
    }

    async fn logged_check(&self) -> bool {
        let result = self.check().await;
        if let Err(why) = &result {
            tracing::warn!(name = self.name, err = why, "kms plugin failed health check probe");
        }
        result.is_ok()
    }

    /// Asks the plugin, unless it was asked just now; takes a new seed when its key has changed.
    pub(crate) async fn check(&self) -> Result<(), String> {
        let mut health = self.health.lock().await;
        if Instant::now() < health.until {
            return health.result.clone();
        }
        let result = match self.client.status().await {
            Ok(status) => self.take(&status, &mut health.version).await,
            Err(why) => Err(format!(
                "failed to perform status section of the healthz check for KMS Provider {}, error: {why}",
                self.name
            )),
        };
        health.until = Instant::now() + if result.is_ok() { GOOD_FOR } else { BAD_FOR };
        health.result.clone_from(&result);
        result
    }

    /// Upstream: `isKMSv2ProviderHealthyAndMaybeRotateDEK`.
    async fn take(&self, status: &StatusResponse, version: &mut String) -> Result<(), String> {
        let mut errors = Vec::new();
        if status.healthz != "ok" {
            errors.push(format!("got unexpected healthz status: {}", status.healthz));
        }
        if !matches!(status.version.as_str(), "v2" | "v2beta1") {
            errors.push(format!("expected KMSv2 API version v2, got {}", status.version));
        } else if version.is_empty() {
            version.clone_from(&status.version);
        } else if *version != status.version {
            errors.push(format!(
                "KMSv2 API version should not change after the initial status response version {version}, got {}",
                status.version
            ));
        }
        match check_key_id(&status.key_id) {
            Err(why) => {
                errors.push(format!("got invalid KMSv2 KeyID hash {:?}: {why}", hash(&status.key_id)))
            }
            Ok(()) => errors.extend(self.rotate(&status.key_id).await.err()),
        }
        let joined = match errors.len() {
            0 => return Ok(()),
            1 => errors.remove(0),
            _ => format!("[{}]", errors.join(", ")),
        };
        Err(format!("kmsv2 Provider {} is not healthy, error: {joined}", self.name))
    }

    /// Goes on with the seed, if the key is still the same, or makes another.
    async fn rotate(&self, key_id: &str) -> Result<(), String> {
        let until = Instant::now() + WRITE_FOR;
        if let Some(state) = self.state.load().as_ref().filter(|s| s.envelope.key_id == key_id) {
            *state.until.lock() = until;
            return Ok(());
        }
        let uid = uuid::Uuid::new_v4().to_string();
        let failed = |why: &str| format!("failed to rotate DEK uid={uid:?}, useSeed=true, errGen={why}");
        let seed = random::<32>().map_err(|why| failed(&why))?;
        let encrypted = self.client.encrypt(seed.to_vec(), uid.clone()).await;
        let EncryptResponse { ciphertext, key_id: used, annotations } =
            encrypted.map_err(|why| failed(&format!("failed to encrypt DEK, error: {why}")))?;
        let envelope = EncryptedObject {
            data: Vec::new(),
            key_id: used,
            source: ciphertext,
            annotations: annotations.into_iter().collect(),
            source_type: SEED,
        };
        envelope.check(false).map_err(|why| failed(&why))?;
        if envelope.key_id != key_id {
            let (status, used) = (hash(key_id), hash(&envelope.key_id));
            return Err(failed(&format!("<nil>, statusKeyIDHash={status:?}, encryptKeyIDHash={used:?}")));
        }
        let dek = Arc::new(Dek::seed(&seed));
        self.remember(envelope.remembered_as(), dek.clone());
        self.state.store(Some(Arc::new(State { dek, envelope, until: Mutex::new(until) })));
        Ok(())
    }

    fn remember(&self, name: [u8; 32], dek: Arc<Dek>) {
        let mut known = self.known.lock();
        if known.len() >= MAX_SEEDS {
            known.clear();
        }
        known.insert(name, dek);
    }

    fn state(&self) -> Result<Arc<State>, String> {
        self.state.load_full().ok_or_else(|| "got unexpected nil transformer".to_owned())
    }

    /// What is stored of an object, after the prefix.
    pub(crate) fn encrypt(&self, plain: &[u8], place: &[u8]) -> Result<Vec<u8>, String> {
        let state = self.state()?;
        if Instant::now() > *state.until.lock() {
            let key = hash(&state.envelope.key_id);
            return Err(format!("encryptedDEKSource with keyID hash {key:?} expired"));
        }
        let data = state.dek.encrypt(plain, place)?;
        Ok(EncryptedObject { data, ..state.envelope.clone() }.encode_to_vec())
    }

    /// The object in what is stored after the prefix, and whether it is to be stored anew.
    pub(crate) async fn decrypt(&self, stored: &[u8], place: &[u8]) -> Result<(Vec<u8>, bool), String> {
        let object = EncryptedObject::decode(stored).map_err(|e| e.to_string())?;
        object.check(true)?;
        let state = self.state()?;
        let name = object.remembered_as();
        let known = self.known.lock().get(&name).cloned();
        let dek = match known {
            Some(dek) => dek,
            None => {
                let request = DecryptRequest {
                    ciphertext: object.source.clone(),
                    uid: uuid::Uuid::new_v4().to_string(),
                    key_id: object.key_id.clone(),
                    annotations: object.annotations.clone().into_iter().collect(),
                };
                let asked = self.client.decrypt(request).await;
                let bytes = asked.map_err(|why| format!("failed to decrypt DEK, error: {why}"))?;
                let dek = Arc::new(Dek::of(&bytes, object.source_type)?);
                self.remember(name, dek.clone());
                dek
            }
        };
        let plain = dek.decrypt(&object.data, place)?;
        let stale =
            object.key_id != state.envelope.key_id || object.source_type != state.envelope.source_type;
        Ok((plain, stale))
    }
}

/// Key ids are not shown. Upstream: `GetHashIfNotEmpty`.
fn hash(id: &str) -> String {
    use std::fmt::Write;
    if id.is_empty() {
        return String::new();
    }
    let mut out = "sha256:".to_owned();
    for byte in Sha256::digest(id) {
        // Writing to a string does not fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds() {
        let dek = Dek::of(&[7; 32], SEED).unwrap();
        let sealed = dek.encrypt(b"x", b"/registry/a").unwrap();
        assert_eq!(sealed.len(), 32 + 12 + 1 + 16);
        assert_eq!(dek.decrypt(&sealed, b"/registry/a").unwrap(), b"x");
        assert!(dek.decrypt(&sealed, b"/registry/b").is_err());
        assert!(Dek::of(&[7; 31], SEED).is_err());
    }

    #[test]
    fn envelopes() {
        let good = EncryptedObject {
            data: vec![1],
            key_id: "k".into(),
            source: vec![1],
            annotations: [("a.b".to_owned(), vec![1])].into(),
            source_type: SEED,
        };
        assert_eq!(good.check(true), Ok(()));
        let check = |change: fn(&mut EncryptedObject), want: &str| {
            let mut bad = good.clone();
            change(&mut bad);
            assert_eq!(bad.check(true).unwrap_err(), want);
        };
        check(|o| o.data.clear(), "encrypted data is empty");
        check(|o| o.key_id.clear(), "failed to validate key id: keyID is empty");
        check(|o| o.source_type = 2, "unknown encryptedDEKSourceType: 2");
        assert_ne!(good.remembered_as(), EncryptedObject { source_type: 0, ..good.clone() }.remembered_as());
    }
}
