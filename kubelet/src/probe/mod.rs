//! Probes: asking containers whether they have started, live and are ready.
//!
//! [`check`] asks once; [`manager`] keeps one task per probe and remembers results by container, so that a restarted
//! container starts anew. Upstream: pkg/kubelet/prober and pkg/probe, v1.37.

pub mod check;
mod grpc;
pub mod manager;

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Holds the other two back until the container has started.
    Startup,
    /// Restarts the container.
    Liveness,
    /// Takes the pod out of services.
    Readiness,
}

impl Kind {
    /// As events and metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        }
    }
}
