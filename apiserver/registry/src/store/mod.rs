//! The generic store operations, one file per verb. Upstream: `k8s.io/apiserver/pkg/registry/generic/registry/store.go`
//! and `pkg/endpoints/handlers`.
//!
//! A write runs: decode, metadata, managed fields, mutating admission, strategy, validation, validating admission,
//! store. [`before`] holds the checks common to create and update; [`update`] the read-change-write loop that PUT,
//! PATCH and subresources share. Reads come from the watch caches in [`cache`], as handles on shared bytes ([`handle`]).

pub mod before;
pub mod cache;
pub mod create;
pub mod delete;
pub mod handle;
pub mod patch;
pub mod read;
pub mod update;
pub mod watch;
pub mod write_back;
