//! The conversions that move fields.

pub mod autoscaler;
mod autoscaler_v1;
pub mod definition;
pub mod devices;
pub mod event;
