//! API Priority and Fairness at work: requests wait in the queues of their level until there are seats for them.
//!
//! The decisions are the crate `flowcontrol`'s; here are locks, tasks, metrics and pages. [`filter`] is the step of the
//! chain, [`controller`] holds the configuration in force, [`level`] one level's requests, [`tasks`] what keeps the
//! configuration up to date. A request's seats are held while it is handled; a watch's until its first events are sent.
pub mod controller;
pub(crate) mod dump;
pub(crate) mod filter;
pub(crate) mod flow;
pub(crate) mod level;
mod metrics;
pub(crate) mod tasks;
mod timing;
