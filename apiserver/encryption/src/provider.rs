//! From bytes of an object to what is stored, and back: the first provider of a resource writes, all of them can read.
//! Upstream: `pkg/storage/value/transformer.go` `prefixTransformers`, `encrypt/identity`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::ciphers::Cipher;
use crate::kms::Plugin;
use crate::resources::GroupResource;

/// What every encrypted value starts with.
const ENCRYPTED: &[u8] = b"k8s:enc:";

/// One way to store.
#[derive(Clone)]
pub(crate) struct Provider(Arc<Kind>);

enum Kind {
    /// As it is; refuses to take what is encrypted for an object.
    Identity,
    Keys(Keys),
    Plugin(Vec<u8>, Arc<Plugin>),
}

/// A cipher with several keys, named in what is stored.
pub(crate) struct Keys {
    pub(crate) prefix: &'static [u8],
    /// Name with a colon, and key.
    pub(crate) keys: Vec<(Vec<u8>, Cipher)>,
    /// What is said when no name matches.
    pub(crate) missing: &'static str,
}

/// Bytes of an object, and whether they are to be stored anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plain {
    /// The object.
    pub bytes: Bytes,
    /// Not written by the first provider and its first key.
    pub stale: bool,
}

impl Plain {
    fn fresh(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), stale: false }
    }
}

impl Provider {
    pub(crate) fn identity() -> Self {
        Self(Arc::new(Kind::Identity))
    }

    pub(crate) fn keys(keys: Keys) -> Self {
        Self(Arc::new(Kind::Keys(keys)))
    }

    pub(crate) fn plugin(prefix: Vec<u8>, plugin: Arc<Plugin>) -> Self {
        Self(Arc::new(Kind::Plugin(prefix, plugin)))
    }

    fn prefix(&self) -> &[u8] {
        match &*self.0 {
            Kind::Identity => b"",
            Kind::Keys(keys) => keys.prefix,
            Kind::Plugin(prefix, _) => prefix,
        }
    }

    /// Reads what follows the prefix.
    async fn read(&self, data: Bytes, place: &[u8]) -> Result<Plain, String> {
        match &*self.0 {
            Kind::Identity if data.starts_with(ENCRYPTED) => {
                Err("identity transformer tried to read encrypted data".to_owned())
            }
            Kind::Identity => Ok(Plain::fresh(data)),
            Kind::Keys(keys) => keys.read(&data, place),
            Kind::Plugin(_, plugin) => {
                let (bytes, stale) = plugin.decrypt(&data, place).await?;
                Ok(Plain { bytes: bytes.into(), stale })
            }
        }
    }

    fn write(&self, plain: Bytes, place: &[u8]) -> Result<Bytes, String> {
        let join = |parts: &[&[u8]]| Ok(Bytes::from(parts.concat()));
        match &*self.0 {
            Kind::Identity => Ok(plain),
            Kind::Keys(keys) => {
                let (name, cipher) = keys.keys.first().ok_or(keys.missing)?;
                join(&[keys.prefix, name, &cipher.encrypt(&plain, place)?])
            }
            Kind::Plugin(prefix, plugin) => join(&[prefix, &plugin.encrypt(&plain, place)?]),
        }
    }
}

impl Keys {
    fn read(&self, data: &[u8], place: &[u8]) -> Result<Plain, String> {
        let mut errors = Vec::new();
        for (index, (name, cipher)) in self.keys.iter().enumerate() {
            let Some(rest) = data.strip_prefix(&name[..]) else { continue };
            match cipher.decrypt(rest, place) {
                Ok(bytes) => return Ok(Plain { bytes: bytes.into(), stale: index != 0 }),
                Err(why) => errors.push(why),
            }
        }
        Err(aggregate(errors).unwrap_or_else(|| self.missing.to_owned()))
    }
}

/// Several errors as one text, equal ones once.
fn aggregate(mut errors: Vec<String>) -> Option<String> {
    errors.dedup();
    match errors.len() {
        0 => None,
        1 => errors.pop(),
        _ => Some(format!("[{}]", errors.join(", "))),
    }
}

/// The providers of every resource.
pub struct Transformers {
    by_resource: HashMap<GroupResource, Vec<Provider>>,
    plugins: Vec<Arc<Plugin>>,
    /// Whether the file is followed, which gives a health check even without plugins.
    reload: bool,
}

impl Transformers {
    pub(crate) fn new(reload: bool) -> Self {
        Self { by_resource: HashMap::new(), plugins: Vec::new(), reload }
    }

    /// Adds the providers of a rule for a resource; those of earlier rules come first.
    pub(crate) fn add(&mut self, resource: GroupResource, providers: &[Provider]) -> Result<(), String> {
        let masks = [GroupResource::new(&resource.group, "*"), GroupResource::new("*", "*")];
        if let Some(mask) = masks.iter().find(|m| self.by_resource.contains_key(m)) {
            return Err(format!(
                "resource {:?} is masked by earlier rule {:?}",
                resource.to_string(),
                mask.to_string()
            ));
        }
        for provider in providers {
            if let Kind::Plugin(_, plugin) = &*provider.0
                && !self.plugins.iter().any(|p| Arc::ptr_eq(p, plugin))
            {
                self.plugins.push(plugin.clone());
            }
        }
        self.by_resource.entry(resource).or_default().extend(providers.iter().cloned());
        Ok(())
    }

    fn of(&self, resource: &GroupResource) -> Option<&[Provider]> {
        let wider = || [GroupResource::new(&resource.group, "*"), GroupResource::new("*", "*")];
        let found = self.by_resource.get(resource);
        found.or_else(|| wider().iter().find_map(|w| self.by_resource.get(w))).map(Vec::as_slice)
    }

    /// The object in stored bytes. `place` is its key.
    ///
    /// # Errors
    /// No provider can read it.
    pub(crate) async fn read(
        &self,
        resource: &GroupResource,
        data: Bytes,
        place: &[u8],
    ) -> Result<Plain, String> {
        let identity = [Provider::identity()];
        let Some(providers) = self.of(resource) else { return identity[0].read(data, place).await };
        let mut errors = Vec::new();
        for (index, provider) in providers.iter().enumerate() {
            let prefix = provider.prefix();
            if !data.starts_with(prefix) {
                continue;
            }
            match provider.read(data.slice(prefix.len()..), place).await {
                Ok(plain) => return Ok(Plain { stale: plain.stale || index != 0, ..plain }),
                // What is encrypted is for a later provider to read.
                Err(_) if prefix.is_empty() => {}
                Err(why) => errors.push(why),
            }
        }
        Err(aggregate(errors).unwrap_or_else(|| "no matching prefix found".to_owned()))
    }

    /// What is to be stored of an object.
    ///
    /// # Errors
    /// The key is not to be had.
    pub(crate) fn write(
        &self,
        resource: &GroupResource,
        plain: Bytes,
        place: &[u8],
    ) -> Result<Bytes, String> {
        match self.of(resource).and_then(<[Provider]>::first) {
            Some(provider) => provider.write(plain, place),
            None => Ok(plain),
        }
    }

    /// Whether there is something to be said about health.
    pub fn has_health(&self) -> bool {
        self.reload || !self.plugins.is_empty()
    }

    /// Whether all plugins answer and agree about their keys.
    ///
    /// # Errors
    /// Of every plugin that does not.
    pub async fn health(&self) -> Result<(), String> {
        let mut errors = Vec::new();
        for (index, plugin) in self.plugins.iter().enumerate() {
            if let Err(why) = plugin.check().await {
                errors.push(format!("kms-provider-{index}: {why}"));
            }
        }
        aggregate(errors).map_or(Ok(()), Err)
    }
}
