//! Facade: one name for the shared crates.
pub use {api, auth, cel, client, component, controller, informer, machinery, net, streaming, sys};
