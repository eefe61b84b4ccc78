//! What a plugin is, and how a profile runs its plugins on one pod.
//!
//! Everything here and in `plugins` is a pure function of [`View`] and the pod. Upstream:
//! k8s.io/kube-scheduler/framework, pkg/scheduler/framework/runtime/framework.go.

mod event;
mod fit;
mod placement;
mod plugin;
mod profile;
mod state;

pub use event::Change;
pub use fit::{Diagnosis, no_nodes};
pub use placement::{GroupView, Offer, Placement};
pub use plugin::{Code, Feasibility, Plugin, PreFilter, Progress, Reject, Verdict, default_normalize};
pub use profile::{Active, GroupPostFilter, Points, Prepared, Profile, Refusal, go_list};
pub use state::{CycleState, Nominated, View};

/// Highest score of a plugin.
pub const MAX_SCORE: i64 = 100;
