//! LeaseGrant, LeaseRevoke, LeaseKeepAlive, LeaseTimeToLive, LeaseLeases.

use etcd_client::proto::{
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse,
    PbLeaseLeasesRequest, PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse, PbLeaseService,
    PbLeaseStatus, PbLeaseTimeToLiveRequest,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::Facade;
use super::convert::{header, status};
use crate::embedded::writer::{Op, Reply};
use crate::store::Revision;

/// etcd's longest TTL.
const LONGEST: i64 = 9_000_000_000;

struct Lease {
    revision: Revision,
    id: i64,
    ttl: i64,
    left: i64,
    keys: Vec<bytes::Bytes>,
}

impl Facade {
    async fn lease(&self, op: Op) -> Result<Lease, Status> {
        match self.store.submit(op).await.map_err(status)? {
            Reply::Lease { revision, id, ttl, left, keys } => Ok(Lease { revision, id, ttl, left, keys }),
            _ => Err(Status::internal("etcdserver: unexpected answer")),
        }
    }
}

#[tonic::async_trait]
impl PbLeaseService for Facade {
    type LeaseKeepAliveStream = BoxStream<'static, Result<PbLeaseKeepAliveResponse, Status>>;

    async fn lease_grant(
        &self,
        request: Request<PbLeaseGrantRequest>,
    ) -> Result<Response<PbLeaseGrantResponse>, Status> {
        let PbLeaseGrantRequest { ttl, id } = request.into_inner();
        if ttl > LONGEST {
            return Err(Status::out_of_range("etcdserver: too large lease TTL"));
        }
        let lease = self.lease(Op::Grant { id, ttl: ttl.max(1) }).await?;
        let error = String::new();
        Ok(Response::new(PbLeaseGrantResponse {
            header: header(lease.revision),
            id: lease.id,
            ttl: lease.ttl,
            error,
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<PbLeaseRevokeRequest>,
    ) -> Result<Response<PbLeaseRevokeResponse>, Status> {
        let lease = self.lease(Op::Revoke { id: request.into_inner().id }).await?;
        Ok(Response::new(PbLeaseRevokeResponse { header: header(lease.revision) }))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let facade = self.clone();
        let answers = request.into_inner().then(move |request| {
            let facade = facade.clone();
            async move {
                let lease = facade.lease(Op::KeepAlive { id: request?.id }).await?;
                // TTL 0 tells that there is no such lease.
                Ok(PbLeaseKeepAliveResponse {
                    header: header(lease.revision),
                    id: lease.id,
                    ttl: lease.ttl.max(0),
                })
            }
        });
        Ok(Response::new(answers.take_until(self.stop.clone().cancelled_owned()).boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<PbLeaseTimeToLiveRequest>,
    ) -> Result<Response<etcd_client::proto::PbLeaseTimeToLiveResponse>, Status> {
        let PbLeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let lease = self.lease(Op::Lease { id }).await?;
        Ok(Response::new(etcd_client::proto::PbLeaseTimeToLiveResponse {
            header: header(lease.revision),
            id,
            ttl: lease.left,
            granted_ttl: lease.ttl.max(0),
            keys: if keys { lease.keys.into_iter().map(Into::into).collect() } else { Vec::new() },
        }))
    }

    async fn lease_leases(
        &self,
        _: Request<PbLeaseLeasesRequest>,
    ) -> Result<Response<PbLeaseLeasesResponse>, Status> {
        match self.store.submit(Op::Leases).await.map_err(status)? {
            Reply::Leases(ids) => Ok(Response::new(PbLeaseLeasesResponse {
                header: header(self.store.revisions().0),
                leases: ids.into_iter().map(|id| PbLeaseStatus { id }).collect(),
            })),
            _ => Err(Status::internal("etcdserver: unexpected answer")),
        }
    }
}
