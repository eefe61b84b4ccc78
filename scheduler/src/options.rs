//! Flags to validated options; all problems are reported together. The table is in [`crate::flags`].

use component::features::Gates;
use component::flags::{Command, FlagSet, Layout};
use component::serving::SecureServing;
use component::{logs, metrics};

use crate::config::KubeSchedulerConfiguration;
use crate::extender;
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
        let config =
            KubeSchedulerConfiguration::from_flags(flags, &gates).map_err(|mut e| problems.append(&mut e));
        problems.extend(
            config.as_ref().ok().and_then(|c| extender::build(&c.extenders).err()).unwrap_or_default(),
        );
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

    /// What is said of a configuration; where in the file it stands is ours to add.
    fn said(flags: &[&str], text: &str) -> Vec<String> {
        let path = std::env::temp_dir().join(format!("scheduler-{}.yaml", uuid::Uuid::new_v4()));
        std::fs::write(&path, text).unwrap();
        let mut set = COMMAND.flag_set();
        let file = path.to_str().unwrap();
        let own = [format!("--config={file}"), "--master=http://127.0.0.1:1".into()];
        set.parse(own.into_iter().chain(flags.iter().map(ToString::to_string))).unwrap();
        let problems = Options::from_flags(&set).err().unwrap_or_default();
        std::fs::remove_file(&path).unwrap();
        let plain = |problem: String| match problem.split_once(file) {
            Some(("", rest)) => rest.split_once(": ").unwrap().1.to_string(),
            _ => problem,
        };
        problems.into_iter().map(plain).collect()
    }

    /// `hack/schedulerconfig/record.py` has upstream's binary answer each.
    #[test]
    fn bad_configurations_are_refused_as_upstream_does() {
        const HEAD: &str = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
        let table = include_str!("config/data/bad.txt");
        let (mut cases, mut wrong) = (0, Vec::new());
        for block in table.split("=== ").skip(1) {
            cases += 1;
            let (asked, answer) = block.split_once(">>>").unwrap();
            let (name, mut text) = asked.split_once('\n').unwrap();
            let mut flags = Vec::new();
            if let Some((line, rest)) = text.strip_prefix("# ").and_then(|t| t.split_once('\n')) {
                (flags, text) = (line.split(' ').collect(), rest);
            }
            let whole = flags == ["replace"];
            flags.retain(|f| *f != "replace");
            let text = if whole { text.to_string() } else { format!("{HEAD}{text}") };
            let theirs = answer.trim().replace("\\n", "\n");
            let ours = said(&flags, &text);
            let all = match ours.as_slice() {
                [one] => one.clone(),
                [] => String::new(),
                many => format!("[{}]", many.join(", ")),
            };
            // Of plugins upstream reports the first problem only; of what is no YAML each parser has its own words.
            let first = theirs.starts_with("initializing profiles") && ours.first() == Some(&theirs);
            let syntax = theirs.starts_with("yaml: line") && !ours.is_empty();
            if all.trim_end() != theirs && !first && !syntax {
                wrong.push(format!("{name}\n  ours   {all}\n  theirs {theirs}"));
            }
        }
        assert!(cases >= 80, "{cases} cases");
        assert!(wrong.is_empty(), "{} of {cases} differ:\n{}", wrong.len(), wrong.join("\n"));
    }

    #[test]
    fn flags_are_upstreams() {
        let upstream = include_str!("../../hack/data/flags/kube-scheduler.txt");
        assert_eq!(golden::differences(&COMMAND, upstream, OWN_FLAGS), Vec::<String>::new());
    }
}
