//! Resources: what they are, how they are written, and how they are read. Start at [`api`], the contract with the
//! HTTP server.
pub mod api;
pub mod errors;
