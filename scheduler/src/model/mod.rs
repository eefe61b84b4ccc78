//! What the scheduler knows, in the form in which a cycle reads it.
//!
//! [`Cache`] holds one [`NodeRow`] per node, with resource sums kept up to date by every change, so that a cycle
//! never recounts pods. Pods are compiled once ([`PodInfo`]) when they are first seen.

mod cache;
mod node;
mod pod;
mod resources;
mod selector;

pub use cache::{Cache, Place};
pub use node::{NodeRow, tolerates};
pub use pod::{AffinityTerm, PodInfo, Uid, Weighted};
pub use resources::Resources;
pub use selector::{NodeSelector, label_selector};
