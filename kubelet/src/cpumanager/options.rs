//! Options of the static policy. Upstream: pkg/kubelet/cm/cpumanager/policy_options.go, v1.37.

use std::collections::BTreeMap;

use component::features::{Gate, Gates};
use machinery::golang;

use super::topology::Topology;
use crate::topologymanager::policy::Kind;

/// What the static policy does beyond the usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StaticOptions {
    /// Only whole cores are given.
    pub full_cores: bool,
    /// Several NUMA nodes give the same number.
    pub across_numa: bool,
    /// Sockets count, not NUMA nodes.
    pub by_socket: bool,
    /// Threads of one core are not kept together.
    pub across_cores: bool,
    /// Nothing else runs on reserved processors.
    pub strict_reservation: bool,
    /// Whole last-level caches are preferred.
    pub by_uncore: bool,
}

/// Go's `strconv.ParseBool`.
pub(crate) fn parse_bool(name: &str, text: &str) -> Result<bool, String> {
    golang::parse_bool(text).ok_or_else(|| {
        let (name, text) = (golang::quote(name), golang::quote(text));
        format!("bad value for option {name}: strconv.ParseBool: parsing {text}: invalid syntax")
    })
}

const FULL_CORES: &str = "full-pcpus-only";
const ACROSS_NUMA: &str = "distribute-cpus-across-numa";
const BY_SOCKET: &str = "align-by-socket";
const ACROSS_CORES: &str = "distribute-cpus-across-cores";
const STRICT_RESERVATION: &str = "strict-cpu-reservation";
const BY_UNCORE: &str = "prefer-align-cpus-by-uncorecache";

impl StaticOptions {
    /// Reads the options; alpha and beta ones need their gates.
    ///
    /// # Errors
    /// The first problem.
    pub fn parse(given: &BTreeMap<String, String>, gates: &Gates) -> Result<Self, String> {
        let mut out = Self::default();
        for (name, text) in given {
            let (field, level) = match name.as_str() {
                FULL_CORES => (&mut out.full_cores, None),
                STRICT_RESERVATION => (&mut out.strict_reservation, None),
                BY_UNCORE => (&mut out.by_uncore, None),
                ACROSS_NUMA => (&mut out.across_numa, Some(("Beta", Gate::CPUManagerPolicyBetaOptions))),
                BY_SOCKET => (&mut out.by_socket, Some(("Alpha", Gate::CPUManagerPolicyAlphaOptions))),
                ACROSS_CORES => (&mut out.across_cores, Some(("Alpha", Gate::CPUManagerPolicyAlphaOptions))),
                _ => return Err(format!("unknown CPU Manager Policy option: {name:?}")),
            };
            if let Some((level, _)) = level.filter(|(_, gate)| !gates.enabled(*gate)) {
                return Err(format!(
                    "CPU Manager Policy {level}-level Options not enabled, but option {name:?} provided"
                ));
            }
            *field = parse_bool(name, text)?;
        }
        let exclusive = [
            (out.full_cores && out.across_cores, FULL_CORES, ACROSS_CORES),
            (out.across_numa && out.across_cores, ACROSS_NUMA, ACROSS_CORES),
            (out.by_uncore && out.across_cores, BY_UNCORE, ACROSS_CORES),
            (out.by_uncore && out.across_numa, BY_UNCORE, ACROSS_NUMA),
        ];
        match exclusive.into_iter().find(|(both, ..)| *both) {
            Some((_, a, b)) => {
                Err(format!("static policy options {a} and {b} can not be used at the same time"))
            }
            None => Ok(out),
        }
    }

    /// Whether they fit the machine and the topology manager's policy. The texts are upstream's.
    ///
    /// # Errors
    /// Why not.
    pub fn validate(&self, topology: &Topology, policy: Kind) -> Result<(), String> {
        if self.by_socket && policy == Kind::SingleNumaNode {
            return Err(format!(
                "Topolgy manager single-numa-node policy is incompatible with CPUManager {BY_SOCKET} policy option"
            ));
        }
        if self.by_socket && topology.sockets > topology.numa_nodes() {
            return Err("Align by socket is not compatible with hardware where number of sockets are more than number of NUMA".to_owned());
        }
        Ok(())
    }
}
