//! Flags to validated options; all problems are reported together. The table is in [`crate::flags`].

use component::features::{Gate, Gates};
use component::flags::{Command, FlagSet, Layout};
use component::serving::SecureServing;
use component::{logs, metrics};

use crate::config::KubeSchedulerConfiguration;
use crate::framework::Profile;
use crate::plugins::registry;

/// The command line.
pub static COMMAND: Command = Command {
    name: "kube-scheduler",
    about: "Assigns pods to nodes: finds the nodes that fit each pending pod by the enabled plugins, ranks them, \
            and binds the pod to the best one.",
    layout: Layout::Sections,
    sections: crate::flags::SECTIONS,
    defaults: &[],
};

/// What the flags say.
#[derive(Clone)]
pub struct Options {
    /// `--config`, or what the flags say in its place.
    pub config: KubeSchedulerConfiguration,
    /// Its profiles with their plugins.
    pub profiles: Vec<Profile>,
    /// "Secure serving" flags.
    pub serving: SecureServing,
    /// "Logs" flags.
    pub logging: logs::Options,
    /// "Metrics" flags.
    pub metrics: metrics::Options,
    /// `--feature-gates`.
    pub gates: Gates,
}

/// Gates of scheduling that upstream has off and that nothing here stands behind yet.
const NOT_YET: &[Gate] = &[
    Gate::CompositePodGroup,
    Gate::DRADerivedAttributes,
    Gate::DRADeviceCompatibilityGroups,
    Gate::DRAFractionalCapacityRange,
    Gate::DRAListTypeAttributes,
    Gate::DRANodeAllocatableResources,
    Gate::DRAOptionalNodeOperations,
    Gate::DRAWorkloadResourceClaims,
    Gate::InPlacePodVerticalScalingSchedulerPreemption,
    Gate::TopologyAwareWorkloadScheduling,
];

/// Gates of scheduling that upstream has on and whose absence nothing here stands behind yet.
const ALWAYS: &[Gate] = &[
    Gate::DRAConsumableCapacity,
    Gate::DRADeviceBindingConditions,
    Gate::DRAPartitionableDevices,
    Gate::InPlacePodLevelResourcesVerticalScaling,
    Gate::PodLevelResources,
    Gate::VolumeLimitScaling,
];

/// A gate that would change nothing is refused: whoever sets it counts on what it does.
fn not_yet(gates: &Gates) -> Vec<String> {
    let on = NOT_YET.iter().filter(|g| gates.enabled(**g));
    let off = ALWAYS.iter().filter(|g| !gates.enabled(**g));
    on.map(|g| format!("feature gate {g:?} is not implemented by this kube-scheduler yet"))
        .chain(off.map(|g| format!("feature gate {g:?} cannot be turned off in this kube-scheduler yet")))
        .collect()
}

impl Options {
    /// Reads the flags.
    ///
    /// # Errors
    /// Every problem found.
    pub fn from_flags(flags: &FlagSet) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut gates = Gates::default();
        match gates.set(&flags.gate_settings("feature-gates")) {
            Ok(_) => {}
            Err(e) => problems.push(e.to_string()),
        }
        problems.extend(not_yet(&gates));
        let logging = logs::Options::from_flags(flags, &gates).unwrap_or_else(|mut e| {
            problems.append(&mut e);
            logs::Options::default()
        });
        let metrics = metrics::Options::from_flags(flags).unwrap_or_else(|mut e| {
            problems.append(&mut e);
            metrics::Options::default()
        });
        let serving = SecureServing::from_flags(flags, "kube-scheduler", false)
            .map_err(|mut e| problems.append(&mut e));
        let config = KubeSchedulerConfiguration::from_flags(flags).map_err(|mut e| problems.append(&mut e));
        let mut profiles = Vec::new();
        for profile in config.iter().flat_map(KubeSchedulerConfiguration::profiles_with_extenders) {
            let percentage = config.as_ref().map_or(0, |c| c.percentage_of_nodes_to_score);
            match registry::build(&profile, percentage, &gates) {
                Ok(built) => profiles.push(built),
                Err(mut e) => problems.append(&mut e),
            }
        }
        match (serving, config) {
            (Ok(serving), Ok(config)) if problems.is_empty() => {
                Ok(Options { config, profiles, serving, logging, metrics, gates })
            }
            _ => Err(problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use component::app::OWN_FLAGS;
    use component::flags::golden;

    use super::*;

    #[test]
    fn a_gate_that_would_do_nothing_is_refused() {
        let problems = |setting: &str| {
            let mut gates = Gates::default();
            gates.set(&[setting]).unwrap();
            not_yet(&gates)
        };
        assert_eq!(not_yet(&Gates::default()), Vec::<String>::new());
        assert_eq!(problems("GenericWorkload=true"), Vec::<String>::new());
        assert_eq!(
            problems("DRAListTypeAttributes=true"),
            ["feature gate DRAListTypeAttributes is not implemented by this kube-scheduler yet"]
        );
        assert_eq!(
            problems("VolumeLimitScaling=false").last().unwrap(),
            "feature gate VolumeLimitScaling cannot be turned off in this kube-scheduler yet"
        );
    }

    #[test]
    fn flags_are_upstreams() {
        let upstream = include_str!("../../hack/data/flags/kube-scheduler.txt");
        assert_eq!(golden::differences(&COMMAND, upstream, OWN_FLAGS), Vec::<String>::new());
    }
}
