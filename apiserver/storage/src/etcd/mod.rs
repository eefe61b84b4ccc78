//! The store on etcd v3, byte for byte as upstream uses it: the same transactions on the same keys, so that ours and
//! upstream's API servers can share one etcd.
//!
//! Connections, endpoints and TLS are in [`connect`]; watches resume by themselves after a lost connection ([`watch`]);
//! compaction takes turns with other API servers through the key `compact_rev_key` ([`compact`]).
//! After upstream's `pkg/storage/etcd3`.

mod compact;
mod connect;
mod error;
mod spans;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd_client::proto::PbKeyValue;
use etcd_client::{
    Client, Compare, CompareOp, GetOptions, KvClient, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse,
};

pub use self::connect::EtcdOptions;

use self::error::{interpret, never_sent};
use crate::embedded::whole_seconds;
use crate::error::{Error, Result};
use crate::lease::{LeaseChoice, LeaseReuse};
use crate::store::{Get, KeyValue, ListOptions, Page, Revision, Store, Watch, WatchOptions, prefix_end};

/// Keys per request: upstream's maximum page.
const PAGE: i64 = 10_000;
/// Upstream's limit for the health check.
const HEALTH: Duration = Duration::from_secs(2);
/// Upstream asks every 100 ms while someone waits; asking sooner shortens the first wait.
const PROGRESS: Duration = Duration::from_millis(5);

/// How often a request that met no server is tried again, on whichever server is next.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(20);

/// What is known of the servers' answers to progress requests.
const UNKNOWN: u8 = 0;
const RELIABLE: u8 = 1;
const UNRELIABLE: u8 = 2;

/// The store on etcd.
pub struct Etcd {
    client: Client,
    kv: KvClient,
    health_key: String,
    leases: tokio::sync::Mutex<LeaseReuse>,
    started: Instant,
    progress: Arc<AtomicU8>,
    compacted: Arc<AtomicI64>,
    tasks: Vec<tokio::task::AbortHandle>,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

impl Etcd {
    /// Prepares the connections and starts compaction. Does not wait for etcd: calls fail until it answers.
    pub async fn connect(options: EtcdOptions) -> Result<Self> {
        let client = connect::connect(&options).await?;
        let kv =
            client.kv_client().max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX);
        let progress = Arc::new(AtomicU8::new(UNKNOWN));
        let compacted = Arc::new(AtomicI64::new(0));
        let mut tasks = vec![
            tokio::spawn(connect::check_progress(options.clone(), Arc::clone(&progress))).abort_handle(),
        ];
        if options.endpoints.len() > 1 {
            tasks.push(tokio::spawn(connect::balance(client.clone(), options.clone())).abort_handle());
        }
        if !options.compaction.is_zero() {
            let run = compact::run(kv.clone(), options.compaction, Arc::clone(&compacted));
            tasks.push(tokio::spawn(run).abort_handle());
        }
        Ok(Self {
            client,
            kv,
            health_key: format!("/{}/health", options.prefix.trim_matches('/')),
            leases: tokio::sync::Mutex::default(),
            started: Instant::now(),
            progress,
            compacted,
            tasks,
        })
    }

    /// The lease for a key with a TTL; 0 for none.
    async fn lease(&self, ttl: Option<Duration>) -> Result<i64> {
        let Some(ttl) = ttl else { return Ok(0) };
        let now = self.started.elapsed();
        // Held over the grant, as upstream does: those who come meanwhile use the same lease.
        let mut reuse = self.leases.lock().await;
        match reuse.choose(whole_seconds(ttl), now) {
            LeaseChoice::Use(id) => Ok(id),
            LeaseChoice::Grant(seconds) => {
                let granted = self.client.lease_client().grant(seconds, None).await.map_err(interpret)?;
                reuse.granted(granted.id(), seconds, now);
                Ok(granted.id())
            }
        }
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
        ttl: Option<Duration>,
    ) -> Result<TxnResponse> {
        let lease = self.lease(ttl).await?;
        let put = TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease)));
        self.compare_and(key, expected, put).await
    }

    /// One operation if the key is at `expected`, else a read of the key.
    async fn compare_and(&self, key: &str, expected: Revision, op: TxnOp) -> Result<TxnResponse> {
        let txn = Txn::new()
            .when([Compare::mod_revision(key, CompareOp::Equal, expected)])
            .and_then([op])
            .or_else([TxnOp::get(key, None)]);
        let mut attempts = ATTEMPTS;
        loop {
            match self.kv.clone().txn(txn.clone()).await {
                // Repeated only when it cannot have reached a server.
                Err(error) if attempts > 0 && never_sent(&error) => {
                    attempts -= 1;
                    tokio::time::sleep(PAUSE).await;
                }
                other => return other.map_err(interpret),
            }
        }
    }

    async fn range(
        &self,
        options: &ListOptions,
        start: &[u8],
        limit: i64,
        revision: Revision,
    ) -> Result<Page> {
        let end = prefix_end(options.prefix.as_bytes());
        let mut get =
            GetOptions::new().with_range(if end.is_empty() { vec![0] } else { end }).with_limit(limit);
        get = get.with_revision(revision);
        if options.keys_only {
            get = get.with_keys_only();
        }
        if options.count_only {
            get = get.with_count_only();
        }
        let response = self.get_retrying(start, get, options.revision).await?.0;
        Ok(Page {
            kvs: response.kvs.into_iter().map(key_value).collect(),
            count: response.count,
            revision: response.header.map_or(0, |header| header.revision),
        })
    }

    /// A read may be repeated safely when the connection breaks under it.
    async fn get_retrying(
        &self,
        key: &[u8],
        get: GetOptions,
        requested: Revision,
    ) -> Result<etcd_client::GetResponse> {
        let mut attempts = ATTEMPTS;
        loop {
            let outcome = self.kv.clone().get(key, Some(get.clone())).await.map_err(interpret);
            match outcome {
                Err(Error::Unavailable(_)) if attempts > 0 => {
                    attempts -= 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(Error::Compacted { .. }) => return Err(Error::Compacted { requested, oldest: 0 }),
                Err(Error::FutureRevision { .. }) => {
                    let current = self.current_revision().await.unwrap_or(0);
                    return Err(Error::FutureRevision { requested, current });
                }
                other => return other,
            }
        }
    }
}

#[async_trait::async_trait]
impl Store for Etcd {
    async fn get(&self, key: &str, revision: Revision) -> Result<Get> {
        let get = GetOptions::new().with_revision(revision);
        let response = self.get_retrying(key.as_bytes(), get, revision).await?.0;
        let revision = response.header.map_or(0, |header| header.revision);
        Ok(Get { kv: response.kvs.into_iter().next().map(key_value), revision })
    }

    async fn list(&self, options: ListOptions) -> Result<Page> {
        let prefix = options.prefix.as_bytes();
        let mut start =
            options.start.as_deref().map_or(prefix, |start| start.as_bytes().max(prefix)).to_vec();
        if options.limit != 0 || options.count_only {
            let limit = i64::try_from(options.limit).unwrap_or(i64::MAX);
            return self.range(&options, &start, limit, options.revision).await;
        }
        let mut all: Option<Page> = None;
        loop {
            // All pages are of the revision of the first.
            let revision = match &all {
                Some(first) if options.revision == 0 => first.revision,
                _ => options.revision,
            };
            let page = self.range(&options, &start, PAGE, revision).await?;
            let next = page.next_start();
            let all = match &mut all {
                Some(all) => {
                    all.kvs.extend(page.kvs);
                    all
                }
                none => none.insert(page),
            };
            match next {
                Some(next) => start = next,
                None => return Ok(std::mem::take(all)),
            }
        }
    }

    async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Revision> {
        let response = self.put(key, value, 0, ttl).await?;
        if response.succeeded() {
            return Ok(revision_of(&response));
        }
        match found(response) {
            Some(current) => Err(Error::AlreadyExists { key: key.to_owned(), current: Box::new(current) }),
            None => Err(Error::Corrupt(format!("etcd found {key} neither free nor taken"))),
        }
    }

    async fn update(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
        ttl: Option<Duration>,
    ) -> Result<Revision> {
        let response = self.put(key, value, expected, ttl).await?;
        if response.succeeded() {
            return Ok(revision_of(&response));
        }
        Err(Error::Conflict { key: key.to_owned(), expected, current: found(response).map(Box::new) })
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision> {
        let response = self.compare_and(key, expected, TxnOp::delete(key, None)).await?;
        let revision = revision_of(&response);
        if response.succeeded() && expected != 0 {
            return Ok(revision);
        }
        match found(response) {
            Some(current) => {
                Err(Error::Conflict { key: key.to_owned(), expected, current: Some(Box::new(current)) })
            }
            None => Err(Error::NotFound { key: key.to_owned(), revision }),
        }
    }

    async fn watch(&self, options: WatchOptions) -> Result<Watch> {
        Ok(watch::start(self.client.watch_client().max_decoding_message_size(usize::MAX), options).await)
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        match self.kv.clone().compact(revision, None).await.map_err(interpret) {
            Ok(_) => Ok(()),
            Err(Error::Compacted { .. }) => Err(Error::Compacted { requested: revision, oldest: 0 }),
            Err(error) => Err(error),
        }
    }

    fn compacted(&self) -> Revision {
        self.compacted.load(Ordering::Relaxed)
    }

    async fn current_revision(&self) -> Result<Revision> {
        let get = GetOptions::new().with_count_only();
        let response = self.get_retrying(self.health_key.as_bytes(), get, 0).await?.0;
        Ok(response.header.map_or(0, |header| header.revision))
    }

    async fn health(&self) -> Result<()> {
        let checked = tokio::time::timeout(HEALTH, self.kv.clone().get(self.health_key.as_str(), None)).await;
        match checked {
            Ok(answer) => answer.map(|_| ()).map_err(interpret),
            Err(_) => Err(Error::Timeout(format!("etcd did not answer within {} s", HEALTH.as_secs()))),
        }
    }

    fn progress_interval(&self) -> Option<Duration> {
        (self.progress.load(Ordering::Relaxed) == RELIABLE).then_some(PROGRESS)
    }

    async fn size(&self) -> Result<Option<u64>> {
        let status = self.client.maintenance_client().status().await.map_err(interpret)?;
        Ok(u64::try_from(status.db_size()).ok())
    }
}

fn key_value(kv: PbKeyValue) -> KeyValue {
    KeyValue {
        key: kv.key.into(),
        value: kv.value.into(),
        mod_revision: kv.mod_revision,
        create_revision: kv.create_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

fn revision_of(response: &TxnResponse) -> Revision {
    response.header().map_or(0, etcd_client::ResponseHeader::revision)
}

/// What the read of the else branch found.
fn found(response: TxnResponse) -> Option<KeyValue> {
    match response.op_responses().into_iter().next()? {
        TxnOpResponse::Get(get) => get.0.kvs.into_iter().next().map(key_value),
        _ => None,
    }
}
