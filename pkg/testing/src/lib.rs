//! Helpers for tests: a scripted API server in the process ([`fake_api`]) and upstream's control plane as child
//! processes ([`upstream`]). Nothing here is part of a daemon.

pub mod fake_api;
pub mod upstream;
