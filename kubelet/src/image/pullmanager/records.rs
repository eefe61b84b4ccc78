//! Files about pulls, one per image, in upstream's format and places.
//!
//! `image_manager/pulling` has one per image that is being pulled, `image_manager/pulled` one per image that was. Files of
//! the older version v1alpha1 are rewritten when they are found; damaged ones are errors where they are asked for and
//! passed over in lists. Upstream: fs_pullrecords.go, v1.37.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::metrics::images;
use crate::paths::make_dir;

const VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const OLD_VERSION: &str = "kubelet.config.k8s.io/v1alpha1";
const INTENT: &str = "ImagePullIntent";
const RECORD: &str = "ImagePulledRecord";
const PREFIX: &str = "sha256-";
const UNFINISHED: &str = ".tmp";

/// How an image was pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Credentials {
    /// With these secrets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kubernetes_secrets: Vec<PullSecret>,
    /// With tokens of these service accounts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kubernetes_service_accounts: Vec<PullServiceAccount>,
    /// Without any, or with the node's own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub node_pods_accessible: bool,
}

/// A secret, and a hash of what in it is for the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PullSecret {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    /// SHA-256 in hexadecimal.
    pub credential_hash: String,
}

/// A service account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PullServiceAccount {
    pub uid: String,
    pub namespace: String,
    pub name: String,
}

impl Credentials {
    /// Everyone on the node.
    pub fn of_node() -> Self {
        Self { node_pods_accessible: true, ..Self::default() }
    }

    /// Whoever has this secret.
    pub fn of_secret(secret: PullSecret) -> Self {
        Self { kubernetes_secrets: vec![secret], ..Self::default() }
    }

    /// True if they name neither secret nor account.
    pub fn is_empty(&self) -> bool {
        self.kubernetes_secrets.is_empty() && self.kubernetes_service_accounts.is_empty()
    }
}

impl PullSecret {
    /// Which secret it is, without its content.
    pub fn place(&self) -> (&str, &str, &str) {
        (&self.namespace, &self.name, &self.uid)
    }

    pub(super) fn order(&self) -> (String, String, String) {
        (self.namespace.clone(), self.name.clone(), self.uid.clone())
    }
}

/// What is known of an image that was pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PulledRecord {
    /// When that changed last, in whole seconds.
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    pub last_updated_time: Option<Timestamp>,
    /// The runtime's id of the image.
    pub image_ref: String,
    /// How it was pulled, by the name in pods without tag and digest.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub credential_mapping: BTreeMap<String, Credentials>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Intent {
    image: String,
}

#[derive(Serialize, Deserialize)]
struct File<T> {
    #[serde(default)]
    kind: String,
    #[serde(default, rename = "apiVersion")]
    api_version: String,
    #[serde(flatten)]
    body: T,
}

fn write_time<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(&time.strftime("%Y-%m-%dT%H:%M:%SZ")),
        None => serializer.serialize_none(),
    }
}

fn read_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

/// The files below a kubelet's folder.
#[derive(Clone, Debug)]
pub struct Records {
    pulling: PathBuf,
    pulled: PathBuf,
}

impl Records {
    /// Makes the folders and brings old files up to date.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn open(root: &Path) -> io::Result<Self> {
        let dir = root.join("image_manager");
        let out = Self { pulling: dir.join("pulling"), pulled: dir.join("pulled") };
        for dir in [&out.pulling, &out.pulled] {
            make_dir(dir, 0o700)?;
        }
        for (intent, is_current) in list(&out.pulling, read_intent) {
            if !is_current && let Err(error) = out.write_intent(&intent.image) {
                tracing::error!(image = intent.image, %error, "Error migrating image pull intents");
            }
        }
        for (record, is_current) in list(&out.pulled, read_record) {
            if !is_current && let Err(error) = out.write_pulled(&record) {
                tracing::error!(image_ref = record.image_ref, %error, "Error migrating image pulled records");
            }
        }
        out.count();
        Ok(out)
    }

    /// Images that are being pulled.
    pub fn intents(&self) -> Vec<String> {
        list(&self.pulling, read_intent).into_iter().map(|(intent, _)| intent.image).collect()
    }

    /// Whether an image is being pulled.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn has_intent(&self, image: &str) -> io::Result<bool> {
        let found = read(&self.pulling.join(file_name(image)), read_intent)?;
        Ok(found.is_some_and(|(intent, _)| intent.image == image))
    }

    /// Notes that an image is being pulled.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write_intent(&self, image: &str) -> io::Result<()> {
        write(&self.pulling, image, INTENT, Intent { image: image.to_owned() })?;
        self.count();
        Ok(())
    }

    /// Notes that an image is not being pulled.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn delete_intent(&self, image: &str) -> io::Result<()> {
        delete(&self.pulling.join(file_name(image)))?;
        self.count();
        Ok(())
    }

    /// All images that were pulled.
    pub fn pulled(&self) -> Vec<PulledRecord> {
        list(&self.pulled, read_record).into_iter().map(|(record, _)| record).collect()
    }

    /// An image that was pulled.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read_pulled(&self, image_ref: &str) -> io::Result<Option<PulledRecord>> {
        let found = read(&self.pulled.join(file_name(image_ref)), read_record)?;
        Ok(found.map(|(record, _)| record).filter(|record| record.image_ref == image_ref))
    }

    /// Writes an image that was pulled.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write_pulled(&self, record: &PulledRecord) -> io::Result<()> {
        write(&self.pulled, &record.image_ref, RECORD, record)?;
        self.count();
        Ok(())
    }

    /// Forgets an image that was pulled.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn delete_pulled(&self, image_ref: &str) -> io::Result<()> {
        delete(&self.pulled.join(file_name(image_ref)))?;
        self.count();
        Ok(())
    }

    fn count(&self) {
        images::on_disk(files(&self.pulling).len(), files(&self.pulled).len());
    }
}

fn file_name(key: &str) -> String {
    let hash = digest(&SHA256, key.as_bytes());
    hash.as_ref().iter().fold(PREFIX.to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

/// JSON as Go writes it: what could be read as markup is escaped.
pub(in super::super) fn go_json<T: Serialize>(value: &T) -> io::Result<String> {
    let text = serde_json::to_string(value).map_err(io::Error::other)?;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // None of these stands outside of a string.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    Ok(out)
}

fn write<T: Serialize>(dir: &Path, key: &str, kind: &str, body: T) -> io::Result<()> {
    make_dir(dir, 0o700)?;
    let file = File { kind: kind.to_owned(), api_version: VERSION.to_owned(), body };
    let text = go_json(&file)? + "\n";
    let target = dir.join(file_name(key));
    let unfinished = dir.join(file_name(key) + UNFINISHED);
    let create = || {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&unfinished, &target)
    };
    create().inspect_err(|_| {
        // A part of a file helps nobody; the error is already there.
        let _ = fs::remove_file(&unfinished);
    })
}

fn delete(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Decodes; false if the file is of the older version.
type Read<T> = fn(&[u8]) -> Result<(T, bool), String>;

fn read<T>(path: &Path, decode: Read<T>) -> io::Result<Option<(T, bool)>> {
    match fs::read(path) {
        Ok(bytes) => decode(&bytes).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_intent(bytes: &[u8]) -> Result<(Intent, bool), String> {
    decode(bytes, INTENT, &["image"])
}

fn read_record(bytes: &[u8]) -> Result<(PulledRecord, bool), String> {
    decode(bytes, RECORD, &["lastUpdatedTime", "imageRef", "credentialMapping"])
}

/// Unknown fields are errors: a later version might mean something by them.
fn decode<T: for<'de> Deserialize<'de>>(
    bytes: &[u8],
    kind: &str,
    fields: &[&str],
) -> Result<(T, bool), String> {
    let known =
        |key: &String| matches!(key.as_str(), "kind" | "apiVersion") || fields.contains(&key.as_str());
    let all: BTreeMap<String, serde::de::IgnoredAny> =
        serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if let Some(unknown) = all.keys().find(|key| !known(key)) {
        return Err(format!("strict decoding error: unknown field {unknown:?}"));
    }
    let file: File<T> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let is_current = file.api_version == VERSION;
    if file.kind != kind || !(is_current || file.api_version == OLD_VERSION) {
        return Err(format!("no kind {:?} is registered for version {:?}", file.kind, file.api_version));
    }
    Ok((file.body, is_current))
}

/// Names of finished files, sorted.
fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let is_file = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| !kind.is_dir());
    let mut names: Vec<String> = (entries.filter(is_file))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(PREFIX) && !name.ends_with(UNFINISHED))
        .collect();
    names.sort_unstable();
    names
}

fn list<T>(dir: &Path, decode: Read<T>) -> Vec<(T, bool)> {
    let one = |name: String| match read(&dir.join(&name), decode) {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(file = name, %error, "Failed to read a record of an image pull");
            None
        }
    };
    files(dir).into_iter().filter_map(one).collect()
}
