//! Status, alarms, and the list of the one member there is.

use etcd_client::proto::{
    PbAlarmMember, PbAlarmRequest, PbAlarmResponse, PbClusterService, PbDefragmentRequest,
    PbDefragmentResponse, PbDowngradeInfo, PbDowngradeRequest, PbDowngradeResponse, PbHashKvRequest,
    PbHashKvResponse, PbHashRequest, PbHashResponse, PbMaintenanceService, PbMember, PbMemberAddRequest,
    PbMemberAddResponse, PbMemberListRequest, PbMemberListResponse, PbMemberPromoteRequest,
    PbMemberPromoteResponse, PbMemberRemoveRequest, PbMemberRemoveResponse, PbMemberUpdateRequest,
    PbMemberUpdateResponse, PbMoveLeaderRequest, PbMoveLeaderResponse, PbSnapshotRequest, PbSnapshotResponse,
    PbStatusRequest, PbStatusResponse,
};
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::Facade;
use super::convert::{MEMBER, header};
use crate::store::Store;

/// The etcd version whose behaviour clients may expect: they decide by it whether progress requests are answered.
const VERSION: &str = "3.6.0";

fn refused<T>(what: &str) -> Result<Response<T>, Status> {
    Err(Status::unimplemented(format!(
        "{what} is not served: this is Corten's embedded store, not an etcd cluster"
    )))
}

#[tonic::async_trait]
impl PbMaintenanceService for Facade {
    type SnapshotStream = BoxStream<'static, Result<PbSnapshotResponse, Status>>;

    async fn alarm(&self, request: Request<PbAlarmRequest>) -> Result<Response<PbAlarmResponse>, Status> {
        // 0 asks which alarms are raised; the others raise or clear one.
        if request.into_inner().action != 0 {
            return refused("raising or clearing an alarm");
        }
        let broken = self.store.health().await.is_err();
        let alarms = if broken { vec![PbAlarmMember { member_id: MEMBER, alarm: 2 }] } else { Vec::new() };
        Ok(Response::new(PbAlarmResponse { header: header(self.store.revisions().0), alarms }))
    }

    async fn status(&self, _: Request<PbStatusRequest>) -> Result<Response<PbStatusResponse>, Status> {
        let (revision, _) = self.store.revisions();
        let size =
            self.store.size().await.ok().flatten().and_then(|size| i64::try_from(size).ok()).unwrap_or(0);
        let errors = self.store.health().await.err().map(|error| error.to_string()).into_iter().collect();
        Ok(Response::new(PbStatusResponse {
            header: header(revision),
            version: VERSION.into(),
            db_size: size,
            db_size_in_use: size,
            leader: MEMBER,
            raft_index: revision.cast_unsigned(),
            raft_applied_index: revision.cast_unsigned(),
            raft_term: 1,
            errors,
            // etcdctl takes it for granted.
            downgrade_info: Some(PbDowngradeInfo::default()),
            storage_version: VERSION.into(),
            ..PbStatusResponse::default()
        }))
    }

    async fn defragment(
        &self,
        _: Request<PbDefragmentRequest>,
    ) -> Result<Response<PbDefragmentResponse>, Status> {
        refused("defragmentation")
    }

    async fn hash(&self, _: Request<PbHashRequest>) -> Result<Response<PbHashResponse>, Status> {
        refused("hashing the backend")
    }

    async fn hash_kv(&self, _: Request<PbHashKvRequest>) -> Result<Response<PbHashKvResponse>, Status> {
        refused("hashing the backend")
    }

    async fn snapshot(
        &self,
        _: Request<PbSnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        refused("an etcd snapshot file")
    }

    async fn move_leader(
        &self,
        _: Request<PbMoveLeaderRequest>,
    ) -> Result<Response<PbMoveLeaderResponse>, Status> {
        refused("moving the leader")
    }

    async fn downgrade(
        &self,
        _: Request<PbDowngradeRequest>,
    ) -> Result<Response<PbDowngradeResponse>, Status> {
        refused("downgrading")
    }
}

#[tonic::async_trait]
impl PbClusterService for Facade {
    async fn member_list(
        &self,
        _: Request<PbMemberListRequest>,
    ) -> Result<Response<PbMemberListResponse>, Status> {
        let member = PbMember { id: MEMBER, name: "corten".into(), ..PbMember::default() };
        Ok(Response::new(PbMemberListResponse {
            header: header(self.store.revisions().0),
            members: vec![member],
        }))
    }

    async fn member_add(
        &self,
        _: Request<PbMemberAddRequest>,
    ) -> Result<Response<PbMemberAddResponse>, Status> {
        refused("adding a member")
    }

    async fn member_remove(
        &self,
        _: Request<PbMemberRemoveRequest>,
    ) -> Result<Response<PbMemberRemoveResponse>, Status> {
        refused("removing a member")
    }

    async fn member_update(
        &self,
        _: Request<PbMemberUpdateRequest>,
    ) -> Result<Response<PbMemberUpdateResponse>, Status> {
        refused("updating a member")
    }

    async fn member_promote(
        &self,
        _: Request<PbMemberPromoteRequest>,
    ) -> Result<Response<PbMemberPromoteResponse>, Status> {
        refused("promoting a member")
    }
}
