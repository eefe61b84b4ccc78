//! The APIServices as requests need them: which group-versions another server serves, and how it is reached.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use base64::Engine as _;
use client::ClientCert;
use machinery::Value;
use parking_lot::Mutex;

use crate::local::Change;
use crate::outbound::pool::{Place, Pool};
use crate::outbound::resolve::Resolver;
use crate::outbound::tls::{self, Trust};

/// A server that serves group-versions for this one.
pub(crate) struct Remote {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) port: u16,
    /// Whether the condition `Available` is true.
    pub(crate) available: bool,
    trust: (bool, Vec<u8>),
    /// Connections, or why there can be none.
    pub(crate) pool: Result<Arc<Pool>, String>,
}

impl Remote {
    /// Names the server, for whatever is known of it as a whole.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}:{}", self.namespace, self.name, self.port)
    }
}

/// One APIService.
pub(crate) struct Service {
    pub(crate) object: Arc<Value>,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) group_priority: i64,
    pub(crate) version_priority: i64,
    /// `None` for what this server serves itself.
    pub(crate) remote: Option<Remote>,
}

type ByName = BTreeMap<String, Arc<Service>>;

/// All APIServices, by name.
pub(crate) struct Services {
    all: ArcSwap<ByName>,
    any_remote: AtomicBool,
    writing: Mutex<()>,
    resolver: Resolver,
    identity: Option<ClientCert>,
}

/// Whether a condition of an APIService is true.
pub(super) fn is_true(object: &Value, condition: &str) -> bool {
    let all = object.list_at(&["status", "conditions"]).into_iter().flat_map(|l| l.iter());
    let mut named = all.filter(|c| c.str_at(&["type"]) == Some(condition));
    named.next().is_some_and(|c| c.str_at(&["status"]) == Some("True"))
}

impl Services {
    pub(super) fn new(resolver: Resolver, identity: Option<ClientCert>) -> Self {
        Self {
            all: ArcSwap::default(),
            any_remote: AtomicBool::new(false),
            writing: Mutex::default(),
            resolver,
            identity,
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> Arc<ByName> {
        self.all.load_full()
    }

    /// Whether anything is served by other servers: asked with every request.
    pub(super) fn any_remote(&self) -> bool {
        self.any_remote.load(Ordering::Acquire)
    }

    /// Finds services.
    pub(super) fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// The APIService of a group-version, if another server serves it.
    pub(crate) fn remote(&self, group: &str, version: &str) -> Option<Arc<Service>> {
        let all = self.all.load();
        let service = all.get(&format!("{version}.{group}"))?;
        service.remote.is_some().then(|| service.clone())
    }

    /// The remote ones.
    pub(crate) fn remotes(&self) -> Vec<Arc<Service>> {
        self.all.load().values().filter(|s| s.remote.is_some()).cloned().collect()
    }

    pub(super) fn apply(&self, change: Change) {
        let _one = self.writing.lock();
        let old = self.all.load_full();
        let name = |o: &Value| o.str_at(&["metadata", "name"]).unwrap_or_default().to_owned();
        let read = |o: Arc<Value>| {
            let name = name(&o);
            let service = Arc::new(self.read(&o, old.get(&name)));
            (name, service)
        };
        let new: ByName = match change {
            Change::Replace(all) => all.into_iter().map(read).collect(),
            Change::Set(o) => {
                let mut all = (*old).clone();
                all.extend([read(o)]);
                all
            }
            Change::Remove(o) => {
                let mut all = (*old).clone();
                all.remove(&name(&o));
                all
            }
        };
        let any = new.values().any(|s| s.remote.is_some());
        self.all.store(Arc::new(new));
        self.any_remote.store(any, Ordering::Release);
    }

    fn read(&self, object: &Arc<Value>, before: Option<&Arc<Service>>) -> Service {
        let text = |path: &[&str]| object.str_at(path).unwrap_or_default().to_owned();
        let number = |field: &str| object.i64_at(&["spec", field]).unwrap_or(0);
        let has_service = object.map_at(&["spec", "service"]).is_some();
        Service {
            group: text(&["spec", "group"]),
            version: text(&["spec", "version"]),
            group_priority: number("groupPriorityMinimum"),
            version_priority: number("versionPriority"),
            remote: has_service.then(|| self.remote_of(object, before.and_then(|b| b.remote.as_ref()))),
            object: object.clone(),
        }
    }

    fn remote_of(&self, object: &Value, before: Option<&Remote>) -> Remote {
        let text = |field: &str| object.str_at(&["spec", "service", field]).unwrap_or_default().to_owned();
        let port = object.i64_at(&["spec", "service", "port"]).and_then(|p| u16::try_from(p).ok());
        let (namespace, name, port) = (text("namespace"), text("name"), port.unwrap_or(443));
        let insecure = object.bool_at(&["spec", "insecureSkipTLSVerify"]).unwrap_or(false);
        let ca = object.str_at(&["spec", "caBundle"]).unwrap_or_default();
        let ca = base64::engine::general_purpose::STANDARD.decode(ca).unwrap_or_default();
        let trust = (insecure, ca);
        let same =
            |r: &&Remote| (&r.namespace, &r.name, r.port, &r.trust) == (&namespace, &name, port, &trust);
        let pool = match before.filter(same) {
            Some(known) => known.pool.clone(),
            None => {
                let trusted = if insecure { Trust::Blindly } else { Trust::Bundle(&trust.1) };
                let place = Place::Service { namespace: namespace.clone(), name: name.clone(), port };
                tls::config(trusted, self.identity.as_ref())
                    .map(|config| Pool::new(place, self.resolver.clone(), config))
            }
        };
        let available = is_true(object, "Available");
        Remote { namespace, name, port, available, trust, pool }
    }
}
