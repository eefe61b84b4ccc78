//! Between etcd's messages and the store's types.

use bytes::Bytes;
use etcd_client::proto::{PbKeyValue, PbResponseHeader};
use tonic::{Code, Status};

use crate::embedded::index::KeyRange;
use crate::error::Error;
use crate::store::{KeyValue, Revision};

/// One member, one cluster: the numbers only have to be constant.
pub const MEMBER: u64 = 0x636f_7274_656e_0001;
const CLUSTER: u64 = 0x636f_7274_656e_0000;

/// The header of every response.
pub fn header(revision: Revision) -> Option<PbResponseHeader> {
    Some(PbResponseHeader { cluster_id: CLUSTER, member_id: MEMBER, revision, raft_term: 1 })
}

/// A stored version as etcd sends it.
pub fn to_wire(kv: KeyValue) -> PbKeyValue {
    PbKeyValue {
        key: kv.key.into(),
        value: kv.value.into(),
        mod_revision: kv.mod_revision,
        create_revision: kv.create_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

/// The range of a request: one key without an end, everything from the key on with the end `\0`.
pub fn range(key: Vec<u8>, end: Vec<u8>) -> Result<KeyRange, Status> {
    if key.is_empty() {
        return Err(Status::invalid_argument("etcdserver: key is not provided"));
    }
    Ok(match end.as_slice() {
        [] => KeyRange::key(&key),
        [0] => KeyRange { start: start(key), end: Bytes::new() },
        _ => KeyRange { start: start(key), end: end.into() },
    })
}

/// The key `\0` stands for the first of all.
fn start(key: Vec<u8>) -> Bytes {
    if key == [0] { Bytes::new() } else { key.into() }
}

/// A store error as etcd words it.
pub fn status(error: Error) -> Status {
    let (code, text) = match error {
        Error::Compacted { .. } => {
            (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted".into())
        }
        Error::FutureRevision { .. } => {
            (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision".into())
        }
        Error::TooLarge => (Code::InvalidArgument, "etcdserver: request is too large".into()),
        Error::NoSpace { .. } => {
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded".into())
        }
        Error::Invalid(why) if why.contains("lease not found") => {
            (Code::NotFound, format!("etcdserver: {why}"))
        }
        Error::Invalid(why) if why.contains("lease already exists") => {
            (Code::FailedPrecondition, format!("etcdserver: {why}"))
        }
        Error::Invalid(why) => (Code::InvalidArgument, format!("etcdserver: {why}")),
        Error::Corrupt(why) => (Code::DataLoss, format!("etcdserver: {why}")),
        other => (Code::Unavailable, other.to_string()),
    };
    Status::new(code, text)
}
