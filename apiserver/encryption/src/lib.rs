//! Encryption of objects in the store: bytes interchangeable with upstream's, keys from a file or from a KMS plugin.
//!
//! [`config`] reads the file, [`provider`] turns bytes into what is stored and back, [`store::Encrypted`] stands before
//! any store and does so for every object. [`reload`] follows the file. Leaves alone what has no API: port and address
//! allocations, leases of API servers.
//! Upstream: `k8s.io/apiserver/pkg/server/options/encryptionconfig`, `pkg/storage/value`.

mod ciphers;
pub mod config;
mod kms;
mod kms_client;
pub mod provider;
pub mod reload;
mod resources;
pub mod store;
#[cfg(test)]
mod tests;
mod validation;

pub use config::load;
pub use provider::Transformers;
pub use reload::Current;
pub use store::Encrypted;
