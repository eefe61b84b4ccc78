//! Client of the Container Runtime Interface, version 1, over a unix socket.
//!
//! [`Client`] holds one HTTP/2 connection which every call shares and which reconnects by itself. Each call carries the
//! deadline that upstream's kubelet gives it. The messages are generated from the definition in `proto/`.
//!
//! It does not retry, cache or interpret answers; that is the kubelet's part. Start reading at [`Client::connect`].
//! Upstream: staging/src/k8s.io/cri-client/pkg/remote_runtime.go and remote_image.go, v1.37.

mod client;
mod error;

/// Messages and stubs generated from `proto/api.proto`.
#[expect(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated from the interface definition"
)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

/// Lists of which only what tells that something changed is read, generated from `proto/brief.proto`.
#[expect(
    missing_docs,
    clippy::allow_attributes_without_reason,
    reason = "generated from the interface definition"
)]
pub mod brief {
    include!(concat!(env!("OUT_DIR"), "/brief/runtime.v1.rs"));
}

pub use client::{Client, Events, GRPC_MESSAGE_LIMIT, Observer, observe};
pub use error::{Error, Result};
