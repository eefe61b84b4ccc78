//! The interface between the kubelet and device plugins, version v1beta1: messages, clients and servers of both sides.
//!
//! Generated from `proto/`; what is done with it is the kubelet's `devicemanager`.

/// Messages and stubs generated from `proto/deviceplugin.proto`.
#[expect(
    missing_docs,
    clippy::too_many_lines,
    clippy::allow_attributes_without_reason,
    reason = "generated from the interface definition"
)]
pub mod v1beta1 {
    tonic::include_proto!("v1beta1");
}
