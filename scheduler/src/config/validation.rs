//! Everything that is wrong with a configuration, in upstream's words.
//! Upstream: pkg/scheduler/apis/config/validation/validation.go, component-base/config/validation.

use std::collections::BTreeSet;

use api::validation::content::qualified_name;
use api::validation::field::{Bad, Error, Path};
use component::duration::GoDuration;
use component::features::Gates;
use serde_json::json;

use super::args_validation;
use super::{
    ClientConnection, Extender, KubeSchedulerConfiguration, KubeSchedulerProfile, LeaderElection, PluginRef,
    PluginSet,
};

/// Points whose plugins may be of former versions; that those do not exist is found out later.
const UNCHECKED: [&str; 3] = ["multiPoint", "placementGenerate", "placementScore"];

/// Plugins of former versions.
const GONE: [&str; 4] = ["AzureDiskLimits", "CinderLimits", "EBSLimits", "GCEPDLimits"];

/// All problems, in upstream's order.
pub fn problems(config: &KubeSchedulerConfiguration, gates: &Gates) -> Vec<String> {
    let mut errors: Vec<Error> = client(&config.client_connection).into_iter().collect();
    errors.extend(leader(&config.leader_election));
    if config.parallelism <= 0 {
        let path = Path::new("parallelism");
        errors.push(Error::invalid(
            &path,
            config.parallelism,
            "should be an integer value greater than zero",
        ));
    }
    errors.extend(profiles(config, gates));
    errors.extend(percentage(&Path::new("percentageOfNodesToScore"), config.percentage_of_nodes_to_score));
    if config.pod_initial_backoff_seconds <= 0 {
        let path = Path::new("podInitialBackoffSeconds");
        errors.push(Error::invalid(&path, config.pod_initial_backoff_seconds, "must be greater than 0"));
    }
    if config.pod_max_backoff_seconds < config.pod_initial_backoff_seconds {
        let path = Path::new("podMaxBackoffSeconds");
        let detail = "must be greater than or equal to PodInitialBackoffSeconds";
        errors.push(Error::invalid(&path, config.pod_max_backoff_seconds, detail));
    }
    errors.extend(extenders(&config.extenders));
    errors.iter().map(ToString::to_string).collect()
}

fn client(client: &ClientConnection) -> Option<Error> {
    let root = Path::new("clientConnection");
    (client.burst < 0).then(|| Error::invalid(&root.child("burst"), client.burst, "must be non-negative"))
}

fn span(duration: GoDuration) -> Bad {
    Bad::Text(duration.to_string())
}

fn leader(leader: &LeaderElection) -> Vec<Error> {
    let mut errors = Vec::new();
    if !leader.leader_elect {
        return errors;
    }
    let root = Path::new("leaderElection");
    let spans = [
        ("leaseDuration", leader.lease_duration),
        ("renewDeadline", leader.renew_deadline),
        ("retryPeriod", leader.retry_period),
    ];
    for (name, duration) in spans {
        if duration.as_secs_f64() <= 0.0 {
            errors.push(Error::invalid(&root.child(name), span(duration), "must be greater than zero"));
        }
    }
    if leader.lease_duration.as_secs_f64() <= leader.renew_deadline.as_secs_f64() {
        let (path, detail) = (root.child("leaseDuration"), "must be greater than `RenewDeadline`");
        errors.push(Error::invalid(&path, span(leader.renew_deadline), detail));
    }
    let names = [
        ("resourceLock", &leader.resource_lock),
        ("resourceNamespace", &leader.resource_namespace),
        ("resourceName", &leader.resource_name),
    ];
    for (name, value) in names {
        if value.is_empty() {
            errors.push(Error::required(&root.child(name), ""));
        }
    }
    if leader.resource_lock != "leases" {
        let (path, detail) = (root.child("resourceLock"), "resourceLock value must be \"leases\"");
        errors.push(Error::invalid(&path, &leader.resource_lock, detail));
    }
    errors
}

fn percentage(path: &Path<'_>, value: i32) -> Option<Error> {
    (!(0..=100).contains(&value)).then(|| Error::invalid(path, value, "not in valid range [0-100]"))
}

fn profiles(config: &KubeSchedulerConfiguration, gates: &Gates) -> Vec<Error> {
    let root = Path::new("profiles");
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, one) in config.profiles.iter().enumerate() {
        let path = root.index(i);
        errors.extend(profile(&path, one, gates));
        if !seen.insert(&one.scheduler_name) {
            // Upstream gives the path of the first, and prints it as JSON.
            errors.push(Error::duplicate(&path.child("schedulerName"), Bad::Raw("{}".into())));
        }
    }
    errors.extend(queue_sort(&config.profiles));
    errors
}

fn profile(path: &Path<'_>, profile: &KubeSchedulerProfile, gates: &Gates) -> Vec<Error> {
    let mut errors = Vec::new();
    if profile.scheduler_name.is_empty() {
        errors.push(Error::required(&path.child("schedulerName"), ""));
    }
    let own = profile.percentage_of_nodes_to_score;
    errors.extend(own.and_then(|p| percentage(&path.child("percentageOfNodesToScore"), p)));
    let version = super::API_VERSION;
    let former = format!("was invalid in version \"v1\" (KubeSchedulerConfiguration is version {version:?})");
    let plugins = path.child("plugins");
    for (point, set) in profile.plugins.iter().filter(|(point, _)| !UNCHECKED.contains(&point.as_str())) {
        for (i, plugin) in set.enabled.iter().enumerate().filter(|(_, p)| GONE.contains(&p.name.as_str())) {
            let (point, former) = (plugins.child(point), former.clone());
            errors.push(Error::invalid(&point.child("enabled").index(i), &plugin.name, former));
        }
    }
    let list = path.child("pluginConfig");
    let mut seen = BTreeSet::new();
    for (i, config) in profile.plugin_config.iter().enumerate() {
        let path = list.index(i);
        if !seen.insert(&config.name) {
            errors.push(Error::duplicate(&path, &config.name));
        }
        if GONE.contains(&config.name.as_str()) {
            errors.push(Error::invalid(&path, &config.name, former.clone()));
        } else {
            errors.extend(args_validation::args(&path.child("args"), config, gates));
        }
    }
    errors
}

fn queue_sort(profiles: &[KubeSchedulerProfile]) -> Vec<Error> {
    let root = Path::new("profiles");
    let mut errors = Vec::new();
    let of = |p: &KubeSchedulerProfile| p.plugins.get("queueSort").cloned().unwrap_or_default();
    let Some((first, rest)) = profiles.split_first() else { return errors };
    let canon = of(first);
    if canon.enabled.len() > 1 {
        let path = root.index(0);
        let path = path.child("plugins");
        let path = path.child("queueSort");
        errors.push(Error::invalid(
            &path.child("Enabled"),
            canon.enabled.len(),
            "only one queue sort plugin can be enabled",
        ));
    }
    for (i, profile) in rest.iter().enumerate() {
        let own = of(profile);
        if serde_json::to_value(&own).ok() != serde_json::to_value(&canon).ok() {
            let path = root.index(i + 1);
            let path = path.child("plugins");
            errors.push(Error::invalid(
                &path.child("queueSort"),
                shown(&own),
                "must be the same for all profiles",
            ));
        }
    }
    errors
}

/// As Go prints the type without a version.
fn shown(set: &PluginSet) -> Bad {
    let list = |plugins: &[PluginRef]| match plugins {
        [] => json!(null),
        some => some.iter().map(|p| json!({ "Name": p.name, "Weight": p.weight })).collect(),
    };
    // Go keeps the order of fields.
    Bad::Raw(format!("{{\"Enabled\":{},\"Disabled\":{}}}", list(&set.enabled), list(&set.disabled)))
}

fn extenders(extenders: &[Extender]) -> Vec<Error> {
    let root = Path::new("extenders");
    let mut errors = Vec::new();
    let mut managed = BTreeSet::new();
    for (i, extender) in extenders.iter().enumerate() {
        let path = root.index(i);
        if !extender.prioritize_verb.is_empty() && extender.weight <= 0 {
            let detail = "must have a positive weight applied to it";
            errors.push(Error::invalid(&path.child("weight"), extender.weight, detail));
        }
        let list = path.child("managedResources");
        for (j, resource) in extender.managed_resources.iter().enumerate() {
            let item = list.index(j);
            let path = item.child("name");
            errors.extend(resource_name(&path, &resource.name));
            if !managed.insert(&resource.name) {
                errors.push(Error::invalid(
                    &path,
                    &resource.name,
                    "duplicate extender managed resource name",
                ));
            }
        }
    }
    let binders = extenders.iter().filter(|e| !e.bind_verb.is_empty()).count();
    if binders > 1 {
        let found = format!("found {binders} extenders implementing bind");
        errors.push(Error::invalid(&root, found, "only one extender can implement bind"));
    }
    errors
}

fn resource_name(path: &Path<'_>, name: &str) -> Vec<Error> {
    let wrong: Vec<Error> = qualified_name(name).into_iter().map(|m| Error::invalid(path, name, m)).collect();
    if wrong.is_empty() && !crate::model::backing::is_extended(name) {
        return vec![Error::invalid(path, name, "is an invalid extended resource name")];
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(config: serde_json::Value) -> Vec<String> {
        problems(&serde_json::from_value(config).unwrap(), &Gates::default())
    }

    #[test]
    fn the_default_is_right() {
        assert_eq!(said(json!({ "profiles": [{ "schedulerName": "s" }] })), Vec::<String>::new());
    }

    #[test]
    fn everything_is_said_at_once() {
        let config = json!({
            "parallelism": 0,
            "percentageOfNodesToScore": 101,
            "podInitialBackoffSeconds": 0,
            "podMaxBackoffSeconds": -1,
            "leaderElection": { "leaderElect": true, "leaseDuration": "5s", "renewDeadline": "10s" },
            "profiles": [
                { "schedulerName": "a", "pluginConfig": [
                    { "name": "InterPodAffinity", "args": { "hardPodAffinityWeight": 101 } },
                    { "name": "DefaultPreemption", "args": { "minCandidateNodesPercentage": -1 } },
                    { "name": "DefaultPreemption", "args": {} },
                ] },
                { "schedulerName": "a", "plugins": { "filter": { "enabled": [{ "name": "EBSLimits" }] } } },
            ],
        });
        let expected = [
            "leaderElection.leaseDuration: Invalid value: \"10s\": must be greater than `RenewDeadline`",
            "parallelism: Invalid value: 0: should be an integer value greater than zero",
            "profiles[0].pluginConfig[0].args.hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]",
            "profiles[0].pluginConfig[1].args.minCandidateNodesPercentage: Invalid value: -1: not in valid range [0, 100]",
            "profiles[0].pluginConfig[2]: Duplicate value: \"DefaultPreemption\"",
            "profiles[1].plugins.filter.enabled[0]: Invalid value: \"EBSLimits\": was invalid in version \"v1\" (KubeSchedulerConfiguration is version \"kubescheduler.config.k8s.io/v1\")",
            "profiles[1].schedulerName: Duplicate value: {}",
            "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]",
            "podInitialBackoffSeconds: Invalid value: 0: must be greater than 0",
            "podMaxBackoffSeconds: Invalid value: -1: must be greater than or equal to PodInitialBackoffSeconds",
        ];
        assert_eq!(said(config), expected);
    }

    #[test]
    fn extenders_are_checked() {
        let config = json!({
            "profiles": [{ "schedulerName": "s" }],
            "extenders": [
                { "prioritizeVerb": "p", "bindVerb": "b", "managedResources": [{ "name": "example.com/x" }, { "name": "cpu" }] },
                { "bindVerb": "b" },
            ],
        });
        let found = said(config);
        assert_eq!(
            found[0],
            "extenders[0].weight: Invalid value: 0: must have a positive weight applied to it"
        );
        assert_eq!(
            found[1],
            "extenders[0].managedResources[1].name: Invalid value: \"cpu\": is an invalid extended resource name"
        );
        assert_eq!(
            found[2],
            "extenders: Invalid value: \"found 2 extenders implementing bind\": only one extender can implement bind"
        );
    }
}
