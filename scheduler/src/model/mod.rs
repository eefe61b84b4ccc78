//! What the scheduler knows, in the form in which a cycle reads it.
//!
//! [`Cache`] holds one [`NodeRow`] per node, with sums kept up to date by every change, so that a cycle never
//! recounts pods. Pods are compiled once ([`PodInfo`]) when they are first seen; what pods of one template say alike
//! is kept once.

pub mod backing;
mod cache;
#[cfg(test)]
mod cache_tests;
mod counters;
pub mod forest;
pub mod groups;
mod intern;
mod matcher;
mod node;
mod node_labels;
mod order;
mod pod;
mod resources;
mod seen;
mod selector;
mod signature;
mod topology;
pub mod wire;

pub use cache::{Cache, Place};
pub use counters::{Counts, MatchCounter, Role};
pub use forest::{GroupObject, Tree};
pub use groups::{GroupKey, Groups};
pub use intern::Interner;
pub use matcher::Matcher;
pub use node::{NodeRow, tolerates};
pub use node_labels::NodeLabels;
pub use pod::{AffinityTerm, Owner, PodInfo, Uid};
#[cfg(test)]
pub use resources::Levels;
pub use resources::Resources;
pub use seen::SeenPod;
pub use selector::{NodeSelector, label_selector, node_operator};
pub use topology::{KeyId, NOWHERE};
pub use wire::{WireNode, WirePod};
