//! Resources: what they are, how they are written, and how they are read. Start at [`api`], the contract with the
//! HTTP server; [`registry::ApiRegistry`] implements it, [`store`] holds the operations.

pub mod admission;
pub mod api;
pub mod audit;
mod check;
mod codec;
mod conditions;
pub mod conversion;
mod conversions;
pub mod core;
pub mod customresources;
pub mod deflate;
pub mod errors;
mod filter;
pub mod gates;
mod managed_fields;
pub mod meta;
mod object;
mod pod_resources;
mod qos;
pub mod registry;
mod services;
mod shape;
mod spans;
mod store;
mod store_errors;
mod strategies;
pub mod strategy;
pub mod subresources;
mod untagged;

pub use core::{Config, Core, Settings};
pub use registry::ApiRegistry;
