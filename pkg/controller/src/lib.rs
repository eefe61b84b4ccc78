//! What controllers share: the work queue ([`WorkQueue`]), expectations, owner references, careful batches, leader
//! election ([`LeaderElector`]) and events ([`EventRecorder`], [`SeriesRecorder`]).
//!
//! No controller lives here, and nothing here watches: see crate `informer`.
//! Upstream: client-go/util/workqueue, tools/record, tools/events, tools/leaderelection, pkg/controller.

pub mod batch;
pub mod events;
pub mod expectations;
mod leader;
pub mod limiter;
pub mod metrics;
pub mod owner;
mod queue;

pub use batch::slow_start;
pub use events::{EventRecorder, NORMAL, SeriesRecorder, WARNING, reference};
pub use expectations::{Expectations, UidExpectations};
pub use leader::{LeaderConfig, LeaderElector, Outcome};
pub use owner::{HasRelations, RefManager, Related, controller_of, controller_ref, is_controlled_by};
pub use queue::{Item, QueueState, WorkQueue};
