//! Commands, terminals and ports of containers over WebSockets, for runtimes that speak SPDY/3.1 only.
//!
//! A client that asks for `v5.channel.k8s.io` is translated: its channels become streams of a SPDY connection to the
//! runtime ([`translate`]). One that asks for a tunnel already speaks SPDY, inside binary messages: those are unwrapped
//! ([`tunnel`]). What a request wants and how a handshake is answered is in [`handshake`]; [`spdy`] is the protocol as
//! bytes, [`backend`] asks for it. Not here: who may ask, and where the runtime is. Start reading at
//! [`translate::serve`]. Upstream: apiserver/pkg/util/proxy, v1.37.

pub mod backend;
pub mod channels;
pub mod handshake;
pub mod spdy;
pub mod status;
pub mod translate;
pub mod tunnel;
