//! Range, Put, DeleteRange, Txn, Compact.

use bytes::Bytes;
use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbCompare, PbDeleteRequest, PbDeleteResponse, PbKvService,
    PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse, PbRangeStreamResponse, PbResponseOp,
    PbTargetUnion, PbTxnOpRequest, PbTxnOpResponse, PbTxnRequest, PbTxnRequestOp, PbTxnResponse,
};
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::Facade;
use super::convert::{header, range, status, to_wire};
use crate::embedded::batch::{Compare, Done, Life, Relation, Step, Target, Txn};
use crate::embedded::index::Select;
use crate::embedded::writer::{Op, Reply};
use crate::store::{Page, Revision};

/// etcd's limit on operations in a transaction.
const MAX_OPS: usize = 128;

#[tonic::async_trait]
impl PbKvService for Facade {
    type RangeStreamStream = BoxStream<'static, Result<PbRangeStreamResponse, Status>>;

    async fn range(&self, request: Request<PbRangeRequest>) -> Result<Response<PbRangeResponse>, Status> {
        let request = request.into_inner();
        let view = View::of(&request)?;
        let range = range(request.key, request.range_end)?;
        let page = self.store.range(&range, view.select).map_err(status)?;
        Ok(Response::new(view.show(page)))
    }

    async fn range_stream(
        &self,
        request: Request<PbRangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let whole = self.range(request).await?.into_inner();
        let chunks = chunks(whole).into_iter().map(Ok);
        Ok(Response::new(Box::pin(futures::stream::iter(chunks))))
    }

    async fn put(&self, request: Request<PbPutRequest>) -> Result<Response<PbPutResponse>, Status> {
        let request = request.into_inner();
        let show = request.prev_kv;
        let (revision, done) = self.single(put_step(request)?).await?;
        Ok(Response::new(put_response(header(revision), done, show)))
    }

    async fn delete_range(
        &self,
        request: Request<PbDeleteRequest>,
    ) -> Result<Response<PbDeleteResponse>, Status> {
        let request = request.into_inner();
        let show = request.prev_kv;
        let (revision, done) = self.single(Step::Delete(range(request.key, request.range_end)?)).await?;
        Ok(Response::new(delete_response(header(revision), done, show)))
    }

    async fn txn(&self, request: Request<PbTxnRequest>) -> Result<Response<PbTxnResponse>, Status> {
        let request = request.into_inner();
        if [request.compare.len(), request.success.len(), request.failure.len()].iter().any(|n| *n > MAX_OPS)
        {
            return Err(Status::invalid_argument("etcdserver: too many operations in txn request"));
        }
        let compares = request.compare.into_iter().map(compare).collect::<Result<_, _>>()?;
        let (then, then_shows) = steps(request.success)?;
        let (otherwise, otherwise_shows) = steps(request.failure)?;
        let done = self.store.txn(Txn { compares, then, otherwise }).await.map_err(status)?;
        let shows = if done.succeeded { then_shows } else { otherwise_shows };
        let header = header(done.revision);
        let responses = done.steps.into_iter().zip(shows);
        let responses =
            responses.map(|(done, show)| PbResponseOp { response: Some(show.response(header, done)) });
        Ok(Response::new(PbTxnResponse { header, succeeded: done.succeeded, responses: responses.collect() }))
    }

    async fn compact(
        &self,
        request: Request<PbCompactionRequest>,
    ) -> Result<Response<PbCompactionResponse>, Status> {
        let revision = request.into_inner().revision;
        match self.store.submit(Op::Compact(revision)).await.map_err(status)? {
            Reply::Compacted(revision) => {
                Ok(Response::new(PbCompactionResponse { header: header(revision) }))
            }
            _ => Err(Status::internal("etcdserver: unexpected answer")),
        }
    }
}

impl Facade {
    /// One step as a transaction of its own.
    async fn single(&self, step: Step) -> Result<(Revision, Done), Status> {
        let mut done = self.store.txn(Txn { then: vec![step], ..Txn::default() }).await.map_err(status)?;
        let step =
            done.steps.pop().ok_or_else(|| Status::internal("etcdserver: a step without an answer"))?;
        Ok((done.revision, step))
    }
}

/// Keys and bytes of values in a chunk of a streamed range, at most; a single value may be larger.
const CHUNK_KEYS: usize = 1000;
const CHUNK_BYTES: usize = 512 << 10;

/// A range in parts: what they are of is told by the last one only (etcd's `RangeStreamResponse`).
fn chunks(whole: PbRangeResponse) -> Vec<PbRangeStreamResponse> {
    let mut parts = vec![PbRangeResponse::default()];
    let mut bytes = 0;
    for kv in whole.kvs {
        let keys = parts.last().map_or(0, |part| part.kvs.len());
        if keys > 0 && (keys == CHUNK_KEYS || bytes + kv.value.len() > CHUNK_BYTES) {
            parts.push(PbRangeResponse::default());
            bytes = 0;
        }
        bytes += kv.value.len();
        if let Some(part) = parts.last_mut() {
            part.kvs.push(kv);
        }
    }
    if let Some(last) = parts.last_mut() {
        (last.header, last.more, last.count) = (whole.header, whole.more, whole.count);
    }
    parts.into_iter().map(|part| PbRangeStreamResponse { range_response: Some(part) }).collect()
}

/// The parts of a range request that decide what is shown, apart from the range.
struct View {
    select: Select,
    limit: usize,
    order: i32,
    target: i32,
    mod_revisions: (i64, i64),
    create_revisions: (i64, i64),
}

impl View {
    fn of(request: &PbRangeRequest) -> Result<Self, Status> {
        if request.revision < 0 || request.limit < 0 {
            return Err(Status::invalid_argument("etcdserver: negative revision or limit"));
        }
        let bounds = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        let plain = request.sort_order == 0 && request.sort_target == 0 && bounds == [0; 4];
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
        Ok(Self {
            select: Select {
                // Sorting and filtering come before the limit.
                limit: if plain { limit } else { 0 },
                revision: request.revision,
                keys_only: request.keys_only,
                count_only: request.count_only,
            },
            limit,
            order: request.sort_order,
            target: request.sort_target,
            mod_revisions: (request.min_mod_revision, request.max_mod_revision),
            create_revisions: (request.min_create_revision, request.max_create_revision),
        })
    }

    fn show(&self, page: Page) -> PbRangeResponse {
        let within =
            |n: i64, (least, most): (i64, i64)| (least == 0 || n >= least) && (most == 0 || n <= most);
        let (count, revision) = (page.count, page.revision);
        let mut more = page.more() && !self.select.count_only;
        let mut kvs = page.kvs;
        kvs.retain(|kv| {
            within(kv.mod_revision, self.mod_revisions) && within(kv.create_revision, self.create_revisions)
        });
        // etcd sorts ascending when only a target is given.
        match self.target {
            1 => kvs.sort_by_key(|kv| kv.version),
            2 => kvs.sort_by_key(|kv| kv.create_revision),
            3 => kvs.sort_by_key(|kv| kv.mod_revision),
            4 => kvs.sort_by(|a, b| a.value.cmp(&b.value)),
            _ => {}
        }
        if self.order == 2 {
            kvs.reverse();
        }
        if self.limit > 0 && kvs.len() > self.limit {
            kvs.truncate(self.limit);
            more = true;
        }
        PbRangeResponse { header: header(revision), kvs: kvs.into_iter().map(to_wire).collect(), more, count }
    }
}

/// What a step's response contains besides what was done.
enum Show {
    Put(bool),
    Delete(bool),
    Range(View),
}

impl Show {
    fn response(&self, header: Option<etcd_client::proto::PbResponseHeader>, done: Done) -> PbTxnOpResponse {
        match (self, done) {
            (Self::Range(view), Done::Range(page)) => PbTxnOpResponse::ResponseRange(view.show(page)),
            (Self::Delete(show), done @ Done::Delete(_)) => {
                PbTxnOpResponse::ResponseDeleteRange(delete_response(header, done, *show))
            }
            (Self::Put(show), done) => PbTxnOpResponse::ResponsePut(put_response(header, done, *show)),
            (_, done) => PbTxnOpResponse::ResponsePut(put_response(header, done, false)),
        }
    }
}

fn steps(ops: Vec<PbTxnRequestOp>) -> Result<(Vec<Step>, Vec<Show>), Status> {
    let mut steps = Vec::with_capacity(ops.len());
    let mut shows = Vec::with_capacity(ops.len());
    for op in ops {
        let (step, show) = match op.request {
            Some(PbTxnOpRequest::RequestPut(put)) => {
                let show = Show::Put(put.prev_kv);
                (put_step(put)?, show)
            }
            Some(PbTxnOpRequest::RequestDeleteRange(delete)) => {
                (Step::Delete(range(delete.key, delete.range_end)?), Show::Delete(delete.prev_kv))
            }
            Some(PbTxnOpRequest::RequestRange(read)) => {
                let view = View::of(&read)?;
                (Step::Range(range(read.key, read.range_end)?, view.select), Show::Range(view))
            }
            Some(PbTxnOpRequest::RequestTxn(_)) => {
                return Err(Status::unimplemented("a transaction inside a transaction is not served"));
            }
            None => return Err(Status::invalid_argument("etcdserver: empty operation in txn request")),
        };
        steps.push(step);
        shows.push(show);
    }
    Ok((steps, shows))
}

fn put_step(request: PbPutRequest) -> Result<Step, Status> {
    if request.key.is_empty() {
        return Err(Status::invalid_argument("etcdserver: key is not provided"));
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Status::invalid_argument("etcdserver: value is provided"));
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Status::invalid_argument("etcdserver: lease is provided"));
    }
    let life = if request.lease == 0 { Life::Endless } else { Life::Lease(request.lease) };
    Ok(Step::Put {
        key: request.key.into(),
        value: (!request.ignore_value).then(|| request.value.into()),
        life: (!request.ignore_lease).then_some(life),
    })
}

fn put_response(
    header: Option<etcd_client::proto::PbResponseHeader>,
    done: Done,
    show: bool,
) -> PbPutResponse {
    let prev = if let Done::Put(prev) = done { prev } else { None };
    PbPutResponse { header, prev_kv: prev.filter(|_| show).map(to_wire) }
}

fn delete_response(
    header: Option<etcd_client::proto::PbResponseHeader>,
    done: Done,
    show: bool,
) -> PbDeleteResponse {
    let deleted = if let Done::Delete(deleted) = done { deleted } else { Vec::new() };
    let count = i64::try_from(deleted.len()).unwrap_or(i64::MAX);
    let prev_kvs = if show { deleted.into_iter().map(to_wire).collect() } else { Vec::new() };
    PbDeleteResponse { header, deleted: count, prev_kvs }
}

fn compare(compare: PbCompare) -> Result<Compare, Status> {
    if compare.key.is_empty() {
        return Err(Status::invalid_argument("etcdserver: key is not provided"));
    }
    if !compare.range_end.is_empty() {
        return Err(Status::unimplemented("a compare over a range is not served"));
    }
    let relation = match compare.result {
        0 => Relation::Equal,
        1 => Relation::Greater,
        2 => Relation::Less,
        3 => Relation::NotEqual,
        other => return Err(Status::invalid_argument(format!("etcdserver: unknown compare result {other}"))),
    };
    // An absent number is zero in protobuf.
    let target = match (compare.target, compare.target_union) {
        (_, Some(PbTargetUnion::Version(n))) => Target::Version(n),
        (_, Some(PbTargetUnion::CreateRevision(n))) => Target::Create(n),
        (_, Some(PbTargetUnion::ModRevision(n))) => Target::Mod(n),
        (_, Some(PbTargetUnion::Lease(n))) => Target::Lease(n),
        (_, Some(PbTargetUnion::Value(value))) => Target::Value(value.into()),
        (0, None) => Target::Version(0),
        (1, None) => Target::Create(0),
        (2, None) => Target::Mod(0),
        (3, None) => Target::Value(Bytes::new()),
        (_, None) => Target::Lease(0),
    };
    Ok(Compare { key: compare.key.into(), relation, target })
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcd_client::proto::PbKeyValue;

    #[test]
    fn chunks_hold_everything_once_and_the_last_one_tells_of_all() {
        let kv = |size: usize| PbKeyValue { value: vec![0; size], ..PbKeyValue::default() };
        let sizes = |sizes: &[usize]| {
            let kvs = sizes.iter().map(|n| kv(*n)).collect();
            let whole = PbRangeResponse { header: header(7), kvs, more: true, count: 99 };
            let parts: Vec<_> = chunks(whole).into_iter().filter_map(|part| part.range_response).collect();
            let (last, others) = parts.split_last().unwrap();
            assert_eq!((last.header.is_some(), last.more, last.count), (true, true, 99));
            assert!(others.iter().all(|part| part.header.is_none() && !part.more && part.count == 0));
            parts.iter().map(|part| part.kvs.len()).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[]), [0]);
        assert_eq!(sizes(&[1; 2500]), [1000, 1000, 500]);
        assert_eq!(sizes(&[CHUNK_BYTES / 2, CHUNK_BYTES / 2, 1, CHUNK_BYTES * 2, 1]), [2, 1, 1, 1]);
    }
}
