//! Feature gates that what objects are made of depends on. Those that are not here make no difference: what belongs to
//! features that are off by default is dropped ([`crate::strategies`]).

use std::sync::OnceLock;

use ::api::defaults;

/// The gates; [`Gates::default`] is upstream's default state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gates {
    /// Composite pod groups.
    pub composite_pod_group: bool,
    /// Claims of pod groups.
    pub dra_workload_resource_claims: bool,
    /// Requests for evictions, and responders to them.
    pub eviction_request_api: bool,
    /// Workloads and pod groups.
    pub generic_workload: bool,
    /// Preemption policies of pod groups.
    pub pod_group_preemption_policy: bool,
    /// Scheduling constraints of pod groups.
    pub topology_aware_workload_scheduling: bool,
}

impl Gates {
    /// The gates by their names.
    pub fn new(enabled: impl Fn(&str) -> bool) -> Self {
        Gates {
            composite_pod_group: enabled("CompositePodGroup"),
            dra_workload_resource_claims: enabled("DRAWorkloadResourceClaims"),
            eviction_request_api: enabled("EvictionRequestAPI"),
            generic_workload: enabled("GenericWorkload"),
            pod_group_preemption_policy: enabled("PodGroupPreemptionPolicy"),
            topology_aware_workload_scheduling: enabled("TopologyAwareWorkloadScheduling"),
        }
    }

    /// The names of those that rules of types ask for, and that are on.
    pub(crate) fn options(&self) -> Vec<&'static str> {
        let all = [
            (self.composite_pod_group, "CompositePodGroup"),
            (self.dra_workload_resource_claims, "DRAWorkloadResourceClaims"),
            (self.pod_group_preemption_policy, "PodGroupPreemptionPolicy"),
            (self.topology_aware_workload_scheduling, "TopologyAwareWorkloadScheduling"),
        ];
        all.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect()
    }
}

static DEFAULTS: OnceLock<defaults::Gates> = OnceLock::new();

/// Makes defaults of the process follow the gates, as decoding is too deep to be handed any; the first call wins.
pub fn install(gates: &Gates) {
    let _ = DEFAULTS.set(defaults::Gates {
        pod_group_preemption_policy: gates.pod_group_preemption_policy,
        ..defaults::Gates::default()
    });
}

/// The gates of defaults.
pub(crate) fn of_defaults() -> defaults::Gates {
    DEFAULTS.get().cloned().unwrap_or_default()
}
