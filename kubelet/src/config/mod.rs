//! The kubelet's configuration: `KubeletConfiguration` v1beta1 from a file and a drop-in folder, under the flags.
//!
//! [`table`] lists every field with its type, default and flag; [`load`] merges files and flags and refuses what
//! upstream refuses; [`validation`] has upstream's rules; [`support`] refuses what this kubelet does not do; [`shown`]
//! writes the result to the log; [`Settings`] is
//! what this kubelet acts upon. A flag that is given wins over the file.
//! Upstream: pkg/kubelet/apis/config, cmd/kubelet/app/server.go, v1.37.

pub mod load;
pub mod logging;
pub mod settings;
pub mod shown;
pub mod support;
pub mod table;
pub mod validation;

pub use settings::Settings;
