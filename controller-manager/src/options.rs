//! Flags to validated options; all problems are reported together. The table is in [`crate::flags`].
//!
//! Settings of single controllers are read from the flags where they are used.

use component::features::Gates;
use component::flags::{Command, FlagSet, Layout};
use component::serving::SecureServing;
use component::{logs, metrics};

use crate::controllers;
use crate::descriptor::{Descriptor, select};

/// The command line.
pub static COMMAND: Command = Command {
    name: "kube-controller-manager",
    about: "Runs the control loops of a cluster: each watches one kind of object through the API server and moves \
            the actual state towards the wanted one (deployments, jobs, nodes, service accounts, and so on).",
    layout: Layout::Sections,
    sections: crate::flags::SECTIONS,
    defaults: &[],
};

/// What the flags say.
#[derive(Clone)]
pub struct Options {
    /// "Logs" flags.
    pub logging: logs::Options,
    /// "Metrics" flags.
    pub metrics: metrics::Options,
    /// `--feature-gates`.
    pub gates: Gates,
    /// "Secure serving" flags.
    pub serving: SecureServing,
    /// What `--controllers` selects.
    pub controllers: Vec<Descriptor>,
    /// Where the API server is and who we are.
    pub api: client::Config,
}

impl Options {
    /// Reads the flags.
    ///
    /// # Errors
    /// Every problem found.
    pub fn from_flags(flags: &FlagSet) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut gates = Gates::default();
        problems.extend(gates.set(&flags.gate_settings("feature-gates")).err().map(|e| e.to_string()));
        let logging = logs::Options::from_flags(flags, &gates).unwrap_or_else(|mut e| {
            problems.append(&mut e);
            logs::Options::default()
        });
        let metrics = metrics::Options::from_flags(flags).unwrap_or_else(|mut e| {
            problems.append(&mut e);
            metrics::Options::default()
        });
        let controllers = select(controllers::ALL, flags.list("controllers"), &gates).unwrap_or_else(|e| {
            problems.push(e.to_string());
            Vec::new()
        });
        let serving = SecureServing::from_flags(flags, "kube-controller-manager", false)
            .map_err(|mut e| problems.append(&mut e));
        let api = client::Config::from_flags(flags.string("master"), flags.string("kubeconfig"));
        let api = api.map_err(|e| problems.push(e.to_string()));
        problems.extend(crate::validation::problems(flags));
        match (api, serving) {
            (Ok(api), Ok(serving)) if problems.is_empty() => {
                Ok(Options { logging, metrics, gates, serving, controllers, api })
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
    fn flags_are_upstreams() {
        let upstream = include_str!("../../hack/data/flags/kube-controller-manager.txt");
        assert_eq!(golden::differences(&COMMAND, upstream, OWN_FLAGS), Vec::<String>::new());
    }
}
