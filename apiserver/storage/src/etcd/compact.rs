//! Regular compaction, taking turns with other API servers (upstream's `pkg/storage/etcd3/compact.go`).
//!
//! `compact_rev_key` holds the last compacted revision; its version is a clock. Whoever advances it compacts to the
//! revision it saw one interval ago; the others take the time from it. So history lives between one and two intervals.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use etcd_client::{Compare, CompareOp, KvClient, Txn, TxnOp, TxnOpResponse};

use super::error::interpret;
use super::revision_of;
use crate::error::{Error, Result};
use crate::store::Revision;

const KEY: &str = "compact_rev_key";

/// The clock and the revision as of the last turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    version: i64,
    revision: Revision,
    /// What was superseded before it is gone.
    compacted: Revision,
}

/// Runs until aborted, telling how far compaction has come; the first is due after one interval.
pub async fn run(kv: KvClient, interval: Duration, compacted: Arc<AtomicI64>) {
    let mut turn = Turn::default();
    loop {
        tokio::time::sleep(interval).await;
        match take(kv.clone(), turn).await {
            Ok(next) => {
                turn = next;
                compacted.fetch_max(turn.compacted, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::error!(%error, "etcd compaction failed; trying again at the next interval")
            }
        }
    }
}

/// One turn: compacts to `turn.revision` if nobody else has since.
pub async fn take(mut kv: KvClient, turn: Turn) -> Result<Turn> {
    let txn = Txn::new()
        .when([Compare::version(KEY, CompareOp::Equal, turn.version)])
        .and_then([TxnOp::put(KEY, turn.revision.to_string(), None)])
        .or_else([TxnOp::get(KEY, None)]);
    let response = kv.txn(txn).await.map_err(interpret)?;
    let revision = revision_of(&response);
    if !response.succeeded() {
        let found = match response.op_responses().into_iter().next() {
            Some(TxnOpResponse::Get(get)) => get.kvs().first().cloned(),
            _ => None,
        };
        let compacted = found.as_ref().and_then(|kv| kv.value_str().ok()?.parse().ok()).unwrap_or(0);
        let version = found.map_or(0, |kv| kv.version());
        return Ok(Turn { version, revision, compacted });
    }
    let next = Turn { version: turn.version + 1, revision, compacted: turn.revision };
    if turn.revision == 0 {
        // Nothing is known of the last interval yet.
        return Ok(next);
    }
    match kv.compact(turn.revision, None).await.map_err(interpret) {
        Ok(_) | Err(Error::Compacted { .. }) => Ok(next),
        Err(error) => Err(error),
    }
}
