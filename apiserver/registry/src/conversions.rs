//! The conversions that move fields.

pub mod event;
