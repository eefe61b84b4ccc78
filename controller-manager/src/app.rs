//! Assembly of kube-controller-manager: options to running parts, in the order in which they start.

use component::app::{Daemon, Error, Process};
use component::flags::{Command, FlagSet};
use component::{features, logs, metrics};

use crate::options::{COMMAND, Options};

/// The daemon, configured and not yet running.
#[derive(Debug)]
pub struct KubeControllerManager {
    options: Options,
}

impl Daemon for KubeControllerManager {
    const COMMAND: &'static Command = &COMMAND;

    fn configure(flags: &FlagSet) -> Result<Self, Vec<String>> {
        Options::from_flags(flags).map(|options| KubeControllerManager { options })
    }

    fn logging(&self) -> logs::Options {
        self.options.logging.clone()
    }

    async fn run(self, _process: Process) -> Result<(), Error> {
        features::install(self.options.gates);
        metrics::default_registry().configure(self.options.metrics);
        metrics::register_process(metrics::default_registry(), self.options.gates);
        Err("kube-controller-manager does not run anything yet".into())
    }
}
