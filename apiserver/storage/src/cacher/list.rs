//! Gets and lists.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::{CONTINUE_EXPIRED, CONTINUE_INCONSISTENT, Error, LIST_EXPIRED, Result};
use super::object::{Filter, Object};
use super::request::{At, ListRequest, Scope};
use super::token::{INCONSISTENT, Token};
use super::tree::Tree;
use super::{Cacher, State};
use crate::error::Error as StoreError;
use crate::store::{ListOptions, Revision};

/// Snapshots kept for clients that page, and how long after their last use.
const PAGES: usize = 8;
const PAGE_LIFE: Duration = Duration::from_secs(60);
/// Keys per page of the store at most.
const STORE_PAGE: usize = 10_000;

/// The answer to a list.
#[derive(Clone, Debug)]
pub struct ListResult {
    /// The objects in key order.
    pub items: Vec<Arc<Object>>,
    /// The revision of the list.
    pub revision: Revision,
    /// The token for the next page.
    pub continue_token: Option<String>,
    /// How many objects are left; only known without a filter.
    pub remaining: Option<i64>,
}

/// The answer to a get.
#[derive(Clone, Debug)]
pub struct Found {
    /// The object, or `None`.
    pub object: Option<Arc<Object>>,
    /// A revision at which that was so.
    pub revision: Revision,
}

/// A list with everything settled but the source.
struct Query<'a> {
    prefix: String,
    single: bool,
    start: Option<String>,
    limit: usize,
    filter: Option<&'a Filter>,
    /// Whether it continues an earlier page, for the text when it cannot.
    paging: bool,
}

impl Cacher {
    /// Reads one object.
    pub async fn get(&self, key: &str, at: At) -> Result<Found> {
        match at {
            At::MostRecent => self.get_most_recent(key).await,
            At::Any => self.get_not_older(key, 0).await,
            At::NotOlderThan(revision) => self.get_not_older(key, revision).await,
            At::Exact(_) | At::Continue(_) => {
                Err(Error::BadRequest("a get is not at an exact revision".into()))
            }
        }
    }

    /// The store says which version is current; the cache has it decoded, nearly always.
    async fn get_most_recent(&self, key: &str) -> Result<Found> {
        let got = self.shared.config.store.get(key, 0).await?;
        let Some(kv) = got.kv else { return Ok(Found { object: None, revision: got.revision }) };
        let cached = self.peek(key.as_bytes()).filter(|object| object.revision == kv.mod_revision);
        let object = match cached {
            Some(object) => object,
            None => Arc::new(self.decode(kv)?),
        };
        Ok(Found { object: Some(object), revision: got.revision })
    }

    async fn get_not_older(&self, key: &str, revision: Revision) -> Result<Found> {
        self.start();
        if !self.is_cached() {
            let found = self.get_most_recent(key).await?;
            return not_older(found.revision, revision).map(|()| found);
        }
        if !self.is_ready() {
            // As upstream: a cache being filled does not hold up gets.
            let found = self.get_most_recent(key).await?;
            return not_older(found.revision, revision).map(|()| found);
        }
        if !self.caught_up(revision).await {
            return Err(Error::TooLargeRevision { requested: revision, current: self.revision() });
        }
        let state = self.shared.state.read();
        Ok(Found { object: state.tree.get(key.as_bytes()).cloned(), revision: state.revision })
    }

    pub(super) fn decode(&self, kv: crate::store::KeyValue) -> Result<Object> {
        let key = kv.key_str().into_owned();
        Object::decode(&self.shared.config.decode, kv).map_err(|why| Error::Undecodable { key, why })
    }

    /// Lists objects.
    pub async fn list(&self, request: ListRequest) -> Result<ListResult> {
        let (prefix, single) = request.scope.prefix(&self.shared.config.prefix);
        let mut query = Query {
            prefix: String::from_utf8_lossy(&prefix).into_owned(),
            single,
            start: None,
            limit: request.limit,
            filter: request.filter.as_ref(),
            paging: false,
        };
        match request.at {
            At::Continue(text) => {
                let token = Token::decode(&text, &query.prefix)
                    .map_err(|error| Error::BadRequest(format!("invalid continue token: {error}")))?;
                query.start = Some(token.start);
                query.paging = true;
                match token.revision {
                    revision if revision > 0 => self.list_exact(&query, revision).await,
                    _ => self.list_most_recent(&query).await,
                }
            }
            At::MostRecent => self.list_most_recent(&query).await,
            At::Any if self.is_cached() => {
                query.limit = 0;
                self.list_not_older(&query, 0).await
            }
            At::Any => self.list_not_older(&query, 0).await,
            At::NotOlderThan(revision) => self.list_not_older(&query, revision).await,
            At::Exact(revision) => self.list_exact(&query, revision).await,
        }
    }

    /// Rule R3: the cache, once it knows everything the store had acknowledged; the store when it does not get there.
    async fn list_most_recent(&self, query: &Query<'_>) -> Result<ListResult> {
        let store = &self.shared.config.store;
        if !self.is_cached() || store.progress_interval().is_none() {
            return self.list_from_store(query, 0).await;
        }
        self.ready().await?;
        let required = store.current_revision().await?;
        if !self.caught_up(required).await {
            tracing::warn!(prefix = query.prefix, required, "the watch cache lags; listing from the store");
            return self.list_from_store(query, 0).await;
        }
        Ok(self.list_latest(query))
    }

    async fn list_not_older(&self, query: &Query<'_>, revision: Revision) -> Result<ListResult> {
        if !self.is_cached() {
            let listed = self.list_from_store(query, 0).await?;
            return not_older(listed.revision, revision).map(|()| listed);
        }
        self.ready().await?;
        if !self.caught_up(revision).await {
            return Err(Error::TooLargeRevision { requested: revision, current: self.revision() });
        }
        Ok(self.list_latest(query))
    }

    fn list_latest(&self, query: &Query<'_>) -> ListResult {
        let (tree, revision) = {
            let state = self.shared.state.read();
            (state.tree.clone(), state.revision)
        };
        let result = select(&tree, query, revision);
        if result.continue_token.is_some() {
            self.keep_page(revision, tree);
        }
        result
    }

    /// The state at exactly `revision`: kept for paging, wound back through the ring, or read from the store.
    async fn list_exact(&self, query: &Query<'_>, revision: Revision) -> Result<ListResult> {
        // What the store has forgotten is gone here too: clients see tokens expire, however long memory would do.
        if !self.is_cached() || revision < self.shared.config.store.compacted() {
            return self.list_from_store(query, revision).await;
        }
        self.ready().await?;
        // A page after one from the store: nothing tells the cache that it is as far, if nobody writes here.
        let ahead = self.shared.state.read().revision < revision;
        if ahead && self.shared.config.store.progress_interval().is_none() {
            return self.list_from_store(query, revision).await;
        }
        if !self.caught_up(revision).await {
            return Err(Error::TooLargeRevision { requested: revision, current: self.revision() });
        }
        if let Some(tree) = self.kept_page(revision) {
            return Ok(select(&tree, query, revision));
        }
        let wound_back = wind_back(&self.shared.state.read(), revision);
        let Some(tree) = wound_back else { return self.list_from_store(query, revision).await };
        let result = select(&tree, query, revision);
        if result.continue_token.is_some() {
            self.keep_page(revision, tree);
        }
        Ok(result)
    }

    fn kept_page(&self, revision: Revision) -> Option<Tree<Object>> {
        let now = Instant::now();
        let mut pages = self.shared.pages.lock();
        pages.retain(|(_, used, _)| now.duration_since(*used) < PAGE_LIFE);
        let (_, used, tree) = pages.iter_mut().find(|(kept, _, _)| *kept == revision)?;
        *used = now;
        Some(tree.clone())
    }

    fn keep_page(&self, revision: Revision, tree: Tree<Object>) {
        let now = Instant::now();
        let mut pages = self.shared.pages.lock();
        pages.retain(|(kept, used, _)| *kept != revision && now.duration_since(*used) < PAGE_LIFE);
        if pages.len() >= PAGES {
            pages.remove(0);
        }
        pages.push((revision, now, tree));
    }

    /// Everything of a scope, now, from the store.
    pub(super) async fn list_scope(&self, scope: &Scope, filter: Option<&Filter>) -> Result<ListResult> {
        let (prefix, single) = scope.prefix(&self.shared.config.prefix);
        let prefix = String::from_utf8_lossy(&prefix).into_owned();
        let query = Query { prefix, single, start: None, limit: 0, filter, paging: false };
        self.list_from_store(&query, 0).await
    }

    async fn list_from_store(&self, query: &Query<'_>, revision: Revision) -> Result<ListResult> {
        let mut options = ListOptions {
            prefix: query.prefix.clone(),
            start: query.start.clone(),
            limit: if query.limit == 0 { STORE_PAGE } else { query.limit.min(STORE_PAGE) },
            revision,
            ..ListOptions::default()
        };
        let mut items = Vec::new();
        loop {
            let listed = self.shared.config.store.list(options.clone()).await;
            let page = listed.map_err(|error| self.interpret(query, &options, error))?;
            if options.revision == 0 {
                options.revision = page.revision;
            }
            let next = page.next_start();
            let count = page.count;
            for (at, kv) in page.kvs.into_iter().enumerate() {
                if query.single && kv.key != query.prefix.as_bytes() {
                    continue;
                }
                let object = Arc::new(self.decode(kv)?);
                if query.filter.is_none_or(|filter| filter(&object)) {
                    items.push(object);
                }
                let left = count - at as i64 - 1;
                if query.limit != 0 && items.len() >= query.limit {
                    return Ok(page_of(items, query, options.revision, left));
                }
            }
            let Some(next) = next.filter(|_| !query.single) else {
                return Ok(page_of(items, query, options.revision, 0));
            };
            options.start = Some(String::from_utf8_lossy(&next).into_owned());
            // A filter that drops most objects should not cost a request per page of results.
            options.limit = (options.limit * 2).min(STORE_PAGE);
        }
    }

    /// Rule R6: a page whose snapshot is gone gets a token by which the client may go on with what is there now.
    fn interpret(&self, query: &Query<'_>, options: &ListOptions, error: StoreError) -> Error {
        match error {
            StoreError::Compacted { .. } if query.paging => {
                let start = options.start.clone().unwrap_or_default();
                let token = Token { start, revision: INCONSISTENT }.encode(&query.prefix);
                let text = if token.is_some() { CONTINUE_INCONSISTENT } else { CONTINUE_EXPIRED };
                Error::Expired { message: text.to_owned(), continue_token: token }
            }
            StoreError::Compacted { .. } => {
                Error::Expired { message: LIST_EXPIRED.to_owned(), continue_token: None }
            }
            StoreError::FutureRevision { requested, current } => {
                Error::TooLargeRevision { requested, current }
            }
            other => Error::Store(other),
        }
    }
}

/// Refuses a state that is older than what was asked for.
pub(super) fn not_older(current: Revision, requested: Revision) -> Result<()> {
    if current < requested { Err(Error::TooLargeRevision { requested, current }) } else { Ok(()) }
}

/// The tree as of an earlier revision, by undoing the changes since; `None` when the ring does not reach back so far.
fn wind_back(state: &State, revision: Revision) -> Option<Tree<Object>> {
    if revision < state.ring.since() {
        return None;
    }
    let mut tree = state.tree.clone();
    for change in state.ring.newest_after(revision) {
        match &change.previous {
            Some(previous) => drop(tree.insert(Arc::clone(previous))),
            None => drop(tree.remove(&change.object.key)),
        }
    }
    Some(tree)
}

fn select(tree: &Tree<Object>, query: &Query<'_>, revision: Revision) -> ListResult {
    let prefix = query.prefix.as_bytes();
    if query.single {
        let found = tree.get(prefix).filter(|object| query.filter.is_none_or(|filter| filter(object)));
        return page_of(found.cloned().into_iter().collect(), query, revision, 0);
    }
    let start = query.start.as_deref().map_or(prefix, |start| start.as_bytes().max(prefix));
    let end = crate::store::prefix_end(prefix);
    let (first, last) = (tree.rank(start), if end.is_empty() { tree.len() } else { tree.rank(&end) });
    let total = last.saturating_sub(first);
    let expected = match (query.filter, query.limit) {
        (Some(_), _) => 0,
        (None, 0) => total,
        (None, limit) => limit.min(total),
    };
    let mut items = Vec::with_capacity(expected);
    for (at, object) in tree.iter_from(start).take(total).enumerate() {
        if query.filter.is_none_or(|filter| filter(object)) {
            items.push(Arc::clone(object));
        }
        if query.limit != 0 && items.len() >= query.limit {
            return page_of(items, query, revision, (total - at - 1) as i64);
        }
    }
    page_of(items, query, revision, 0)
}

/// `left` keys of the range come after the last item.
fn page_of(items: Vec<Arc<Object>>, query: &Query<'_>, revision: Revision, left: i64) -> ListResult {
    let last = items.last().filter(|_| left > 0);
    let token = last.and_then(|object| {
        let start = format!("{}\0", String::from_utf8_lossy(&object.key));
        Token { start, revision }.encode(&query.prefix)
    });
    let remaining = token.as_ref().filter(|_| query.filter.is_none()).map(|_| left);
    ListResult { items, revision, continue_token: token, remaining }
}
