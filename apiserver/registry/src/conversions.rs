//! The conversions that move fields.

pub mod definition;
pub mod event;
