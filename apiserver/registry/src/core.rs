//! The registry's state: the store, the resources, and what hooks and admission need. Start at [`Core`].

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use ::api::resources::{ResourceRow, resources};
use auth::authorizer::Authorizer;
use bytes::Bytes;
use hashbrown::HashMap;
use jiff::Timestamp;
use machinery::Value;
use storage::Store;
use storage::store::KeyValue;

use crate::admission::Chain;
use crate::admission::policy::{Policies, mutating, validating};
use crate::admission::webhook::Webhooks;
use crate::api;
use crate::codec;
use crate::customresources;
use crate::errors::ApiError;
use crate::gates::Gates;
use crate::managed_fields::Managers;
use crate::meta;
use crate::store::cache::{Builder, Source, Trusted};
use crate::store_errors;
use crate::strategies;
use crate::strategy::Strategy;
use crate::subresources::Tokens;

/// One served resource: its row, and its behaviour.
pub struct Resource {
    /// The table row.
    pub row: &'static ResourceRow,
    /// The row in the form the server publishes.
    pub published: Arc<api::ResourceRow>,
    /// Behaviour.
    pub strategy: Arc<dyn Strategy>,
    /// Field managers.
    pub(crate) managers: Managers,
    /// Where it is read from; `None` for what is not stored.
    pub(crate) source: Option<Source>,
    /// The version of a custom resource; `None` for built-in kinds.
    pub custom: Option<Arc<customresources::Version>>,
}

impl Resource {
    /// Decodes, checks and defaults a request body of the resource's kind, in the hub version.
    ///
    /// # Errors
    /// 400 for a body that is not such an object.
    pub(crate) fn decode_body(
        &self,
        request: &api::RequestContext,
        body: &api::Body,
    ) -> Result<Value, ApiError> {
        match &self.custom {
            Some(custom) => custom.schemas.decode_body(request, self.row.kind, body),
            None => codec::decode_body(request, self.row.kind, body),
        }
    }

    /// As [`Resource::decode_body`], for the object that the client sent; the audit event shows it.
    ///
    /// # Errors
    /// 400 for a body that is not such an object.
    pub(crate) fn decode_sent(
        &self,
        request: &api::RequestContext,
        body: &api::Body,
    ) -> Result<Value, ApiError> {
        let object = self.decode_body(request, body)?;
        request.audit.request(&object, self.row.kind);
        Ok(object)
    }

    /// Decodes stored bytes into the hub version. `complete` says that they are known to hold today's defaults.
    ///
    /// # Errors
    /// 500 when they cannot be decoded.
    pub(crate) fn decode_stored(&self, bytes: &Bytes, complete: bool) -> Result<Value, ApiError> {
        match (&self.custom, complete) {
            (Some(custom), _) => {
                custom.schemas.decode_stored(self.row.kind, bytes).map_err(ApiError::internal)
            }
            (None, true) => codec::decode_complete(self.row, bytes),
            (None, false) => codec::decode_stored(self.row, bytes),
        }
    }

    /// Encodes a hub object as it is stored.
    ///
    /// # Errors
    /// 500 when it does not fit its type.
    pub(crate) fn encode_stored(&self, object: &Value) -> Result<Bytes, ApiError> {
        match &self.custom {
            Some(custom) => custom.schemas.encode_stored(self.row, object),
            None => codec::encode_stored(self.row, object),
        }
    }

    /// Where the resource is read from.
    ///
    /// # Errors
    /// 405 for resources that are not stored.
    pub(crate) fn source(&self) -> Result<&Source, ApiError> {
        let row = self.row;
        self.source
            .as_ref()
            .ok_or_else(|| ApiError::method_not_supported(row.kind.group, row.resource, "storage"))
    }
}

/// Tells the time. Tests pass their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What the registry is built from.
pub struct Config {
    /// Where objects are kept.
    pub store: Arc<dyn Store>,
    /// First path segment of every key, `/registry` by default.
    pub prefix: String,
    /// Which group-versions and resources are served: group, version, resource.
    pub served: Box<dyn Fn(&ResourceRow) -> bool + Send + Sync>,
    /// Admission plugins in order.
    pub admission: Chain,
    /// Service addresses, ports and event life.
    pub settings: Settings,
    /// The clock.
    pub clock: Clock,
}

/// Tunables that flags set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--service-cluster-ip-range`, primary first.
    pub service_cidrs: Vec<ipnet::IpNet>,
    /// `--service-node-port-range`.
    pub node_ports: std::ops::RangeInclusive<u16>,
    /// `--event-ttl`.
    pub event_ttl: Duration,
    /// `--delete-collection-workers`.
    pub delete_collection_workers: usize,
    /// `--default-not-ready-toleration-seconds` and `--default-unreachable-toleration-seconds`.
    pub default_tolerations: (i64, i64),
    /// `--feature-gates`.
    pub gates: Gates,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            service_cidrs: vec!["10.0.0.0/24".parse().expect("a constant network")],
            node_ports: 30000..=32767,
            event_ttl: Duration::from_secs(3600),
            delete_collection_workers: 1,
            default_tolerations: (300, 300),
            gates: Gates::default(),
        }
    }
}

/// The registry's state, shared by every request.
pub struct Core {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) prefix: String,
    resources: Vec<Arc<Resource>>,
    index: HashMap<(&'static str, &'static str, &'static str), usize>,
    /// The first version of each resource that is served.
    any_version: HashMap<(&'static str, &'static str), usize>,
    pub(crate) admission: Chain,
    pub(crate) settings: Settings,
    clock: Clock,
    trusted: Arc<Trusted>,
    authorizer: OnceLock<Arc<dyn Authorizer>>,
    tokens: OnceLock<Arc<dyn Tokens>>,
    rbac: OnceLock<auth::rbac::Rbac>,
    /// Admission webhooks.
    pub webhooks: Webhooks,
    custom: customresources::Table,
    /// Mutating admission policies.
    pub mutating_policies: Policies<mutating::Definition>,
    /// Validating admission policies.
    pub validating_policies: Policies<validating::Definition>,
    this: Weak<Core>,
}

impl Core {
    /// Builds the state; nothing is read from the store yet.
    pub fn new(config: Config) -> Arc<Self> {
        Arc::new_cyclic(|this| Self::build(config, this))
    }

    fn build(config: Config, this: &Weak<Core>) -> Self {
        let trusted = Arc::<Trusted>::default();
        let mut caches = Builder::new(Arc::clone(&config.store), &config.prefix, Arc::clone(&trusted));
        let rows: Vec<Arc<Resource>> = resources()
            .iter()
            .zip(0..)
            .filter(|(row, _)| (config.served)(row))
            .map(|(row, slot)| {
                Arc::new(Resource {
                    source: caches.source(row, slot),
                    row,
                    published: Arc::new(published(row)),
                    strategy: strategies::of(row),
                    managers: Managers::default(),
                    custom: None,
                })
            })
            .collect();
        caches.finish();
        let index = rows
            .iter()
            .enumerate()
            .map(|(i, r)| ((r.row.kind.group, r.row.kind.version, r.row.resource), i))
            .collect();
        let mut any_version = HashMap::new();
        for (i, r) in rows.iter().enumerate() {
            any_version.entry((r.row.kind.group, r.row.resource)).or_insert(i);
        }
        Core {
            any_version,
            custom: customresources::Table::new(Arc::clone(&config.store), &config.prefix),
            store: config.store,
            prefix: config.prefix,
            resources: rows,
            index,
            admission: config.admission,
            settings: config.settings,
            clock: config.clock,
            trusted,
            authorizer: OnceLock::new(),
            tokens: OnceLock::new(),
            rbac: OnceLock::new(),
            webhooks: Webhooks::default(),
            mutating_policies: Policies::default(),
            validating_policies: Policies::default(),
            this: this.clone(),
        }
    }

    /// Hands over the authorizer, which itself reads roles through the registry. Only the first call counts.
    pub fn set_authorizer(&self, authorizer: Arc<dyn Authorizer>) {
        // A second authorizer would be a programming error that changes nothing.
        let _ = self.authorizer.set(authorizer);
    }

    /// The authorizer.
    ///
    /// # Errors
    /// 500 before it was set.
    pub fn authorizer(&self) -> Result<&Arc<dyn Authorizer>, ApiError> {
        self.authorizer.get().ok_or_else(|| {
            ApiError::internal("no authorizer provided, unable to authorize a create on update")
        })
    }

    /// Hands over the RBAC state that escalation checks and rules reviews read. Only the first call counts.
    pub fn set_rbac(&self, rbac: auth::rbac::Rbac) {
        let _ = self.rbac.set(rbac);
    }

    /// The RBAC state, if that authorizer is in use.
    pub(crate) fn rbac(&self) -> Option<&auth::rbac::Rbac> {
        self.rbac.get()
    }

    /// Hands over the issuer and reviewer of tokens. Only the first call counts.
    pub fn set_tokens(&self, tokens: Arc<dyn Tokens>) {
        let _ = self.tokens.set(tokens);
    }

    /// The issuer and reviewer of tokens.
    ///
    /// # Errors
    /// 501 where none was configured.
    pub fn tokens(&self) -> Result<&Arc<dyn Tokens>, ApiError> {
        self.tokens
            .get()
            .ok_or_else(|| ApiError::new(501, "", "this server is not configured to issue or review tokens"))
    }

    /// The life of a stored object; only events end by themselves.
    pub(crate) fn ttl(&self, row: &ResourceRow) -> Option<Duration> {
        (row.resource == "events").then_some(self.settings.event_ttl)
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The store, for parts that read keys themselves.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// All served built-in resources in discovery order.
    pub fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// Starts the watch caches of the built-in resources. Without it a cache would begin at the first watch, and could
    /// not show what happened since the answer whose version the watch names: 410 for a client that did nothing wrong.
    /// Must be called on a runtime. Upstream fills its caches at its start too.
    pub fn start_caches(&self) {
        for source in self.resources.iter().filter_map(|resource| resource.source.as_ref()) {
            source.cacher.start();
        }
    }

    /// The custom resource definitions in force.
    pub fn custom(&self) -> &customresources::Table {
        &self.custom
    }

    /// A served resource.
    pub fn resource(&self, group: &str, version: &str, resource: &str) -> Option<Arc<Resource>> {
        match self.index.get(&(group, version, resource)) {
            Some(i) => self.resources.get(*i).cloned(),
            None => self.custom.resource(group, version, resource),
        }
    }

    /// A served and stored resource by the kind of its objects.
    pub fn of_kind(&self, group: &str, version: &str, kind: &str) -> Option<Arc<Resource>> {
        let is = |r: &&Arc<Resource>| {
            let own = r.row.kind;
            own.group == group && own.version == version && own.kind == kind && r.row.stored.is_some()
        };
        let own = self.resources.iter().find(is).cloned();
        own.or_else(|| self.custom.of_kind(group, version, kind))
    }

    /// A resource by group and name in whichever version is served first.
    ///
    /// # Errors
    /// 500 when it is not served: hooks and admission rely on it.
    pub fn any_version(&self, group: &str, resource: &str) -> Result<&Arc<Resource>, ApiError> {
        let at = self.any_version.get(&(group, resource));
        at.and_then(|at| self.resources.get(*at)).ok_or_else(|| {
            ApiError::internal(format!("resource {resource} of group {group:?} is not served"))
        })
    }

    /// The key of everything of a resource, in a namespace if one is given. Ends in `/`.
    pub fn key_root(&self, row: &ResourceRow, namespace: &str) -> Result<String, ApiError> {
        let stored = row
            .stored
            .as_ref()
            .ok_or_else(|| ApiError::method_not_supported(row.kind.group, row.resource, "storage"))?;
        Ok(match namespace {
            "" => format!("{}/{}/", self.prefix, stored.key),
            ns => format!("{}/{}/{ns}/", self.prefix, stored.key),
        })
    }

    /// The key of one object (`NamespaceKeyFunc`, `NoNamespaceKeyFunc`).
    pub fn key(&self, row: &ResourceRow, namespace: &str, name: &str) -> Result<String, ApiError> {
        if row.namespaced && namespace.is_empty() {
            return Err(ApiError::bad_request("Namespace parameter required."));
        }
        if name.is_empty() {
            return Err(ApiError::bad_request("Name parameter required."));
        }
        let refusals = ::api::validation::content::path_segment(name, false);
        if !refusals.is_empty() {
            let text = format!("Name parameter invalid: {name:?}: {}", refusals.join(";"));
            return Err(ApiError::bad_request(text));
        }
        let mut key = self.key_root(row, if row.namespaced { namespace } else { "" })?;
        key.push_str(name);
        Ok(key)
    }

    /// A key outside the resources (`ranges/servicenodeports`).
    pub(crate) fn special_key(&self, key: &str) -> String {
        format!("{}/{key}", self.prefix)
    }

    /// This state as a shared one, for work that outlives a call.
    pub(crate) fn shared(&self) -> Option<Arc<Core>> {
        self.this.upgrade()
    }

    /// Decodes a stored version into the hub version, with its resourceVersion.
    pub(crate) fn decode(&self, resource: &Resource, kv: &KeyValue) -> Result<Value, ApiError> {
        let mut object = resource.decode_stored(&kv.value, self.trusted.knows(&kv.value))?;
        meta::set(&mut object, "resourceVersion", kv.mod_revision.to_string());
        resource.strategy.decorate(&mut object);
        Ok(object)
    }

    /// Encodes a complete hub object as it is stored.
    pub(crate) fn encode_stored(&self, resource: &Resource, object: &Value) -> Result<Bytes, ApiError> {
        let bytes = resource.encode_stored(object)?;
        debug_assert_eq!(
            resource.decode_stored(&bytes, false).and_then(|tree| resource.encode_stored(&tree)).as_ref(),
            Ok(&bytes),
            "what is written is what a reader's decoding would make of it"
        );
        self.trusted.add(&bytes);
        Ok(bytes)
    }

    /// Reads one object for a hook or an admission plugin; `None` when it does not exist.
    pub async fn find(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, ApiError> {
        self.find_in(self.any_version(group, resource)?, namespace, name).await
    }

    /// As [`Core::find`], in one version.
    pub async fn find_in(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, ApiError> {
        let key = self.key(resource.row, namespace, name)?;
        let got = self.store.get(&key, 0).await.map_err(|e| store_errors::get(e, resource.row, name))?;
        got.kv.map(|kv| self.decode_again(resource, &kv)).transpose()
    }

    /// Reads all objects of a resource (in a namespace, if one is given) for a hook or an admission plugin.
    pub async fn find_all(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
    ) -> Result<Vec<Value>, ApiError> {
        self.find_all_in(self.any_version(group, resource)?, namespace).await
    }

    /// As [`Core::find_all`], in one version.
    pub async fn find_all_in(&self, resource: &Resource, namespace: &str) -> Result<Vec<Value>, ApiError> {
        let options = storage::ListOptions::prefix(self.key_root(resource.row, namespace)?);
        let page = self.store.list(options).await.map_err(|e| store_errors::list(e, resource.row))?;
        page.kvs.iter().map(|kv| self.decode_again(resource, kv)).collect()
    }

    /// As [`Core::decode`], for what admission reads with every request: namespaces, quotas, classes. The cached object
    /// of the same version remembers its tree, unless it is large.
    fn decode_again(&self, resource: &Resource, kv: &KeyValue) -> Result<Value, ApiError> {
        const LARGE: usize = 4 << 10;
        let cached = resource.source()?.cacher.peek(&kv.key);
        let cached = cached.filter(|o| o.revision == kv.mod_revision && kv.value.len() < LARGE);
        let Some(cached) = cached else { return self.decode(resource, kv) };
        // Versions of a kind share the cache, and their trees differ.
        let known = cached.memo.get().and_then(|memo| memo.downcast_ref::<(u32, Value)>());
        let slot = resource.source()?.slot;
        if let Some((_, tree)) = known.filter(|(of, _)| *of == slot) {
            return Ok(tree.clone());
        }
        let tree = self.decode(resource, kv)?;
        // Another request may have been first; its tree is the same.
        let _ = cached.memo.set(Arc::new((slot, tree.clone())));
        Ok(tree)
    }
}

/// The server's form of a row.
pub(crate) fn published(row: &ResourceRow) -> api::ResourceRow {
    let owned = |texts: &[&str]| texts.iter().map(|s| (*s).to_owned()).collect();
    let gvk = |k: ::api::resources::RowKind| api::Gvk {
        group: k.group.into(),
        version: k.version.into(),
        kind: k.kind.into(),
    };
    let mut subresources: Vec<_> = row
        .subresources
        .iter()
        .map(|s| api::SubresourceRow { name: s.name.into(), kind: gvk(s.kind), verbs: owned(&s.verbs) })
        .collect();
    subresources.sort_by(|a, b| a.name.cmp(&b.name));
    api::ResourceRow {
        gvk: gvk(row.kind),
        resource: row.resource.into(),
        singular: row.singular.into(),
        namespaced: row.namespaced,
        verbs: owned(&row.verbs),
        short_names: owned(&row.short_names),
        categories: owned(&row.categories),
        storage_version_hash: row.stored.as_ref().map(storage_version_hash).unwrap_or_default(),
        subresources,
        custom: None,
    }
}

/// Upstream's `discovery.StorageVersionHash`.
fn storage_version_hash(stored: &::api::resources::StoredRow) -> String {
    use base64::Engine as _;
    use sha2::Digest as _;
    let k = stored.kind;
    let text = format!("{}/{}/{}", k.group, k.version, k.kind);
    let sum = sha2::Sha256::digest(text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&sum[..8])
}
