//! Helpers for tests: a scripted API server ([`fake_api`]) and a collector of traces ([`collector`]) in the process, and
//! upstream's control plane as child processes ([`upstream`]). Nothing here is part of a daemon.

pub mod collector;
pub mod fake_api;
pub mod upstream;
