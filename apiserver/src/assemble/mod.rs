//! The parts of the server that need files or the store to be built.
pub(crate) mod admission;
pub(crate) mod audiences;
pub(crate) mod auditor;
pub(crate) mod authorization;
pub(crate) mod files;
pub(crate) mod followers;
mod pod_facts;
pub(crate) mod reload;
pub(crate) mod store;
pub(crate) mod token_cache;
pub(crate) mod tokens;
pub(crate) mod traces;
