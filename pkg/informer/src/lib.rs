//! Shared informers: a local, indexed copy of server state that follows it by a watch.
//!
//! One watch per kind and options ([`Factory`]), WatchList where the server has it, pages where not; a store of shared
//! objects ([`Store`]); subscribers that get every change in order ([`Informer::subscribe`]). Nothing is written to the
//! server here. What is kept of an object is the reader's choice (`client::Kept`); parts that many objects have alike are
//! kept once ([`Shared`]). Start reading at `machine.rs` (the decisions), then `reflector.rs` (the I/O).
//! Upstream: k8s.io/client-go/tools/cache, informers.

mod deliver;
mod factory;
mod group;
mod informer;
pub mod machine;
mod reflector;
mod shared;
mod store;
mod tally;

pub use deliver::Event;
pub use factory::{CacheState, Factory};
pub use group::Subscription;
pub use informer::{Events, Informer, Options};
pub use reflector::Transform;
pub use shared::{Name, Pool, Pooled, Shared, fingerprint, hash_resources, settle};
pub use store::{IndexFn, Key, NAMESPACE_INDEX, Store};
pub use tally::Tally;
