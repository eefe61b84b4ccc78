//! What a configuration may not say, in upstream's words and order.
//!
//! Rules of fields that this kubelet refuses anyway ([`super::support`]) are not here. Upstream:
//! ValidateKubeletConfiguration in pkg/kubelet/apis/config/validation/validation.go, v1.37.

use component::duration::GoDuration;
use component::features::Gate;
use serde_json::Value;

use super::Settings;
use super::load::get;
use super::settings::cpu_count;
use crate::image::pullmanager::policy::{self, Policy};
use crate::memorymanager::reserved;
use crate::sysctl;

/// Names what is reserved for whom.
static ENFORCEMENTS: [&str; 4] =
    ["system-reserved", "system-reserved-compressible", "kube-reserved", "kube-reserved-compressible"];

/// Collects complaints.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn refuse(&mut self, bad: bool, text: impl FnOnce() -> String) {
        if bad {
            self.0.push(format!("invalid configuration: {}", text()));
        }
    }

    fn not_negative(&mut self, name: &str, value: i64) {
        self.refuse(value < 0, || format!("{name} {value} must not be a negative number"));
    }

    fn within(&mut self, name: &str, value: i64, range: (i64, i64)) {
        let (low, high) = range;
        let text = || format!("{name} {value} must be between {low} and {high}, inclusive");
        self.refuse(!(low..=high).contains(&value), text);
    }
}

/// Everything that is wrong.
pub fn problems(settings: &Settings, document: &Value) -> Vec<String> {
    let mut out = Problems::default();
    limits(settings, document, &mut out);
    images(settings, &mut out);
    pods(settings, document, &mut out);
    enforcement(settings, &mut out);
    verification(settings, &mut out);
    reserves(settings, document, &mut out);
    logs(settings, document, &mut out);
    tracing(settings, &mut out);
    out.0
}

fn integer(document: &Value, path: &str) -> i64 {
    get(document, path).and_then(Value::as_i64).unwrap_or_default()
}

fn limits(settings: &Settings, document: &Value, out: &mut Problems) {
    out.refuse(settings.node_lease_duration_seconds <= 0, || {
        "nodeLeaseDurationSeconds must be greater than 0".to_owned()
    });
    out.refuse(!settings.system_cgroups.is_empty() && settings.cgroup_root.is_empty(), || {
        "systemCgroups (--system-cgroups) was specified and cgroupRoot (--cgroup-root) was not specified"
            .to_owned()
    });
    out.not_negative("eventBurst (--event-burst)", settings.event_burst);
    out.not_negative("eventRecordQPS (--event-qps)", settings.event_record_qps);
    let period = settings.cpu_cfs_quota_period;
    out.refuse(!(1_000_000..=1_000_000_000).contains(&period.0), || {
        format!("cpuCFSQuotaPeriod (--cpu-cfs-quota-period) {period} must be between 1ms and 1sec, inclusive")
    });
    let (high, low) =
        (integer(document, "imageGCHighThresholdPercent"), integer(document, "imageGCLowThresholdPercent"));
    out.within("imageGCHighThresholdPercent (--image-gc-high-threshold)", high, (0, 100));
    out.within("imageGCLowThresholdPercent (--image-gc-low-threshold)", low, (0, 100));
    out.refuse(low >= high, || {
        format!("imageGCLowThresholdPercent (--image-gc-low-threshold) {low} must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) {high}")
    });
    sysctls(settings, out);
    let GoDuration(least) = settings.image_minimum_gc_age;
    let GoDuration(most) = settings.image_maximum_gc_age;
    for (name, age) in [
        ("imageMinimumGCAge", settings.image_minimum_gc_age),
        ("imageMaximumGCAge", settings.image_maximum_gc_age),
    ] {
        out.refuse(age.0 < 0, || format!("{name} {age} must not be negative"));
    }
    out.refuse(most > 0 && most <= least, || {
        format!(
            "imageMaximumGCAge {} must be greater than imageMinimumGCAge {}",
            GoDuration(most),
            GoDuration(least)
        )
    });
    out.within("iptablesDropBit (--iptables-drop-bit)", integer(document, "iptablesDropBit"), (0, 31));
    out.within(
        "iptablesMasqueradeBit (--iptables-masquerade-bit)",
        integer(document, "iptablesMasqueradeBit"),
        (0, 31),
    );
    out.not_negative("kubeAPIQPS (--kube-api-qps)", settings.kube_api_qps);
    out.refuse(settings.node_status_max_images < -1, || {
        format!(
            "nodeStatusMaxImages (--node-status-max-images) {} must be -1 or greater",
            settings.node_status_max_images
        )
    });
    out.not_negative("maxOpenFiles (--max-open-files)", settings.max_open_files);
    out.not_negative("maxPods (--max-pods)", settings.max_pods);
    out.within("oomScoreAdj (--oom-score-adj)", settings.oom_score_adj, (-1000, 1000));
    out.not_negative("podsPerCore (--pods-per-core)", settings.pods_per_core);
    out.within("port (--port)", i64::from(settings.port), (1, 65_535));
}

fn sysctls(settings: &Settings, out: &mut Problems) {
    let defaults = &settings.default_pod_sysctls;
    if !defaults.is_empty() && !settings.is_on(Gate::DefaultPodSysctls) {
        out.refuse(true, || {
            "DefaultPodSysctls feature gate is required for Kubelet configuration option defaultPodSysctls"
                .to_owned()
        });
        return;
    }
    for problem in sysctl::problems(defaults) {
        out.refuse(true, || problem);
    }
}

fn images(settings: &Settings, out: &mut Problems) {
    out.not_negative("registryBurst (--registry-burst)", settings.registry_burst);
    out.not_negative("registryPullQPS (--registry-qps)", settings.registry_pull_qps);
    out.refuse(settings.max_parallel_image_pulls == Some(0), || {
        "maxParallelImagePulls 0 must be a positive number".to_owned()
    });
    let serial = settings.serialize_image_pulls == Some(true);
    out.refuse(serial && settings.max_parallel_image_pulls.is_some_and(|n| n > 1), || {
        "maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls (--serialize-image-pulls) is set to false".to_owned()
    });
}

fn pods(settings: &Settings, document: &Value, out: &mut Problems) {
    let policy = settings.topology_manager_policy.as_str();
    out.refuse(!matches!(policy, "none" | "best-effort" | "restricted" | "single-numa-node"), || {
        format!("topologyManagerPolicy (--topology-manager-policy) {policy:?} must be one of: [\"none\" \"best-effort\" \"restricted\" \"single-numa-node\"]")
    });
    let scope = settings.topology_manager_scope.as_str();
    out.refuse(!matches!(scope, "container" | "pod"), || {
        format!("topologyManagerScope (--topology-manager-scope) {scope:?} must be one of: \"container\", or \"pod\"")
    });
    shutdown(settings, out);
    let swap = settings.memory_swap.swap_behavior.as_str();
    out.refuse(!matches!(swap, "" | "NoSwap" | "LimitedSwap"), || {
        format!("memorySwap.swapBehavior {swap:?} must be one of: \"\", \"LimitedSwap\" or \"NoSwap\"")
    });
    let pause = settings.crash_loop_back_off.max_container_restart_period;
    out.refuse(pause.0 != 0 && !(1000..=300_000).contains(&(pause.0 / 1_000_000)), || {
        let seconds = pause.as_secs_f64();
        format!("CrashLoopBackOff.MaxContainerRestartPeriod (got: {seconds} seconds) must be set between 1s and 300s")
    });
    let hairpin = get(document, "hairpinMode").and_then(Value::as_str).unwrap_or_default();
    out.refuse(!matches!(hairpin, "none" | "hairpin-veth" | "promiscuous-bridge"), || {
        format!("option {hairpin:?} specified for hairpinMode (--hairpin-mode). Valid options are \"none\", \"hairpin-veth\" or \"promiscuous-bridge\"")
    });
}

fn shutdown(settings: &Settings, out: &mut Problems) {
    let on = |gate: &str| settings.feature_gates.get(gate).copied().unwrap_or(true);
    let (whole, critical) = (settings.shutdown_grace_period, settings.shutdown_grace_period_critical_pods);
    let (graceful, given) = (on("GracefulNodeShutdown"), whole.0 > 0 || critical.0 > 0);
    out.refuse(graceful && critical.0 > whole.0, || {
        format!("shutdownGracePeriodCriticalPods {{{critical}}} must be <= shutdownGracePeriod {{{whole}}}")
    });
    for (name, period) in [("shutdownGracePeriod", whole), ("shutdownGracePeriodCriticalPods", critical)] {
        out.refuse(graceful && period.0 != 0 && period.0 < 1_000_000_000, || {
            format!("{name} {{{period}}} must be either zero or otherwise >= 1 sec")
        });
    }
    out.refuse(given && !graceful, || {
        "specifying shutdownGracePeriod or shutdownGracePeriodCriticalPods requires feature gate GracefulNodeShutdown"
            .to_owned()
    });
    let by_priority = !settings.shutdown_grace_period_by_pod_priority.is_empty();
    let possible = on("GracefulNodeShutdownBasedOnPodPriority");
    out.refuse(possible && by_priority && given, || {
        "Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time"
            .to_owned()
    });
    out.refuse(!possible && by_priority, || {
        "Specifying shutdownGracePeriodByPodPriority requires feature gate GracefulNodeShutdownBasedOnPodPriority"
            .to_owned()
    });
}

fn enforcement(settings: &Settings, out: &mut Problems) {
    let levels = &settings.enforce_node_allocatable;
    let has = |level: &str| levels.iter().any(|l| l == level);
    for pair in ENFORCEMENTS.chunks(2) {
        out.refuse(has(pair[0]) && has(pair[1]), || {
            format!(
                "both {:?} and {:?} cannot be specified together in enforceNodeAllocatable (--enforce-node-allocatable)",
                pair[0], pair[1]
            )
        });
    }
    for (at, level) in levels.iter().enumerate() {
        if levels[..at].contains(level) {
            out.refuse(true, || {
                format!(
                    "duplicated enforcements {level:?} in enforceNodeAllocatable (--enforce-node-allocatable)"
                )
            });
            continue;
        }
        let cgroup = match level.as_str() {
            "none" => {
                out.refuse(levels.len() > 1, || "enforceNodeAllocatable (--enforce-node-allocatable) may not contain additional enforcements when \"none\" is specified".to_owned());
                continue;
            }
            "pods" => None,
            "system-reserved" | "system-reserved-compressible" => Some((
                "systemReservedCgroup (--system-reserved-cgroup)",
                &settings.system_reserved_cgroup,
                &ENFORCEMENTS[..2],
            )),
            "kube-reserved" | "kube-reserved-compressible" => Some((
                "kubeReservedCgroup (--kube-reserved-cgroup)",
                &settings.kube_reserved_cgroup,
                &ENFORCEMENTS[2..],
            )),
            other => {
                out.refuse(true, || format!("option {other:?} specified for enforceNodeAllocatable (--enforce-node-allocatable). Valid options are \"pods\", \"system-reserved\", \"system-reserved-compressible\", \"kube-reserved\", \"kube-reserved-compressible\" or \"none\""));
                continue;
            }
        };
        if let Some((field, _, kinds)) = cgroup.filter(|(_, path, _)| path.is_empty()) {
            out.refuse(true, || format!("{field} must be specified when {:?} or {:?} included in enforceNodeAllocatable (--enforce-node-allocatable)", kinds[0], kinds[1]));
        }
        out.refuse(!settings.cgroups_per_qos, || format!("cgroupsPerQOS (--cgroups-per-qos) must be set to true when {level:?} contained in enforceNodeAllocatable (--enforce-node-allocatable)"));
    }
}

fn verification(settings: &Settings, out: &mut Problems) {
    let policy = settings.image_pull_credentials_verification_policy.as_str();
    let allowlist = &settings.preloaded_images_verification_allowlist;
    if settings.feature_gates.get("KubeletEnsureSecretPulledImages") == Some(&false) {
        for (name, given) in [
            ("imagePullCredentialsVerificationPolicy", !policy.is_empty()),
            ("preloadedImagesVerificationAllowlist", !allowlist.is_empty()),
        ] {
            out.refuse(given, || {
                format!(
                    "`{name}` must not be set if KubeletEnsureSecretPulledImages feature gate is not enabled"
                )
            });
        }
        return;
    }
    out.refuse(Policy::new(policy, &[]).is_err(), || {
        format!("option {policy:?} specified for imagePullCredentialsVerificationPolicy. Valid options are \"NeverVerify\", \"NeverVerifyPreloadedImages\", \"NeverVerifyAllowlistedImages\" or \"AlwaysVerify\"")
    });
    if !allowlist.is_empty() && policy != "NeverVerifyAllowlistedImages" {
        out.refuse(true, || "can't set `preloadedImagesVerificationAllowlist` if `imagePullCredentialsVertificationPolicy` is not \"NeverVerifyAllowlistedImages\"".to_owned());
    } else if let Some(error) = allowlist.iter().find_map(|pattern| policy::validate(pattern).err()) {
        out.refuse(true, || {
            format!("invalid image pattern in `preloadedImagesVerificationAllowlist`: {error}")
        });
    }
}

fn reserves(settings: &Settings, document: &Value, out: &mut Problems) {
    let cgroups = !settings.system_reserved_cgroup.is_empty() || !settings.kube_reserved_cgroup.is_empty();
    out.refuse(!settings.reserved_system_cpus.is_empty() && cgroups, || "can't use reservedSystemCPUs (--reserved-cpus) with systemReservedCgroup (--system-reserved-cgroup) or kubeReservedCgroup (--kube-reserved-cgroup)".to_owned());
    out.refuse(cpu_count(&settings.reserved_system_cpus).is_none(), || {
        let cpus = &settings.reserved_system_cpus;
        format!(
            "unable to parse reservedSystemCPUs (--reserved-cpus) {cpus}, error: it must be a list like 0-3,8"
        )
    });
    for problem in reserved::problems(&settings.reserved_memory) {
        out.refuse(true, || problem);
    }
    memory(settings, out);
    out.refuse(!matches!(settings.authorization.mode.as_str(), "AlwaysAllow" | "Webhook"), || {
        "authorization.mode must be AlwaysAllow or Webhook".to_owned()
    });
    let content = settings.content_type.as_str();
    let known = matches!(content, "" | "application/vnd.kubernetes.protobuf" | "application/json");
    out.refuse(!known, || "contentType (--kube-api-content-type) must be application/vnd.kubernetes.protobuf or application/json".to_owned());
    out.refuse(get(document, "containerRuntimeEndpoint").is_none_or(|v| v == ""), || {
        "the containerRuntimeEndpoint was not specified or empty".to_owned()
    });
}

fn memory(settings: &Settings, out: &mut Problems) {
    let on = settings.is_on(Gate::MemoryQoS);
    if let Some(factor) = settings.memory_throttling_factor {
        #[expect(
            clippy::float_cmp,
            reason = "what was the default of earlier versions, to the bit, may stand in files"
        )]
        let given = factor != 0.9;
        out.refuse(!on && given, || {
            "memoryThrottlingFactor must not be set when MemoryQoS feature gate is disabled".to_owned()
        });
        out.refuse(factor <= 0.0 || factor > 1.0, || {
            format!("memoryThrottlingFactor {factor} must be greater than 0 and less than or equal to 1.0")
        });
    }
    let policy = settings.memory_reservation_policy.as_str();
    out.refuse(!on && policy == "TieredReservation", || {
        format!("memoryReservationPolicy {policy:?} requires MemoryQoS feature gate to be enabled")
    });
    out.refuse(!matches!(policy, "None" | "TieredReservation"), || {
        format!("option {policy:?} specified for memoryReservationPolicy. Valid options are \"None\" or \"TieredReservation\"")
    });
}

/// In the words of the shared validation, which say nothing of where they stand. That the endpoint leads somewhere is found
/// out here; upstream finds it out when it sends.
fn tracing(settings: &Settings, out: &mut Problems) {
    let Some(config) = &settings.tracing else { return };
    let problems = config.problems("tracing");
    if let (true, Some(Err(why))) =
        (problems.is_empty(), config.endpoint.as_deref().map(traces::Target::parse))
    {
        out.refuse(true, || format!("tracing: {why}"));
    }
    out.0.extend(problems.iter().map(ToString::to_string));
}

fn logs(settings: &Settings, document: &Value, out: &mut Problems) {
    out.refuse(settings.enable_system_log_query && !settings.enable_system_log_handler, || {
        "enableSystemLogHandler is required for enableSystemLogQuery".to_owned()
    });
    out.refuse(integer(document, "containerLogMaxWorkers") < 1, || {
        "containerLogMaxWorkers must be greater than or equal to 1".to_owned()
    });
    out.refuse(settings.container_log_monitor_interval.0 < 3_000_000_000, || {
        "containerLogMonitorInterval must be a positive time duration greater than or equal to 3s".to_owned()
    });
    out.refuse(settings.container_log_max_files <= 1, || {
        "containerLogMaxFiles must be greater than 1".to_owned()
    });
    let dir = &settings.pod_logs_dir;
    out.refuse(dir.is_empty(), || "podLogsDir was not specified".to_owned());
    out.refuse(!dir.starts_with('/'), || format!("pod logs path {dir:?} must be absolute path"));
    let clean = dir == "/" || !dir.split('/').skip(1).any(|part| matches!(part, "" | "." | ".."));
    out.refuse(!clean, || format!("pod logs path {dir:?} must be normalized"));
    out.refuse(!dir.is_ascii(), || format!("pod logs path {dir:?} mut contains ASCII characters only"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Recorded from upstream's function, see `e2e/oracle/kubeletconfig`: a change of the defaults, and what is wrong then.
    #[test]
    fn as_upstream() {
        let mut lines =
            include_str!("testdata/validation.jsonl").lines().map(|l| serde_json::from_str(l).unwrap());
        let defaults: Value = lines.next().unwrap();
        let cases: Vec<Value> = lines.collect();
        assert!(cases.len() > 50);
        for case in cases {
            let mut document = defaults["defaults"].clone();
            for (key, value) in case["change"].as_object().unwrap() {
                document[key] = value.clone();
            }
            let settings: Settings = serde_json::from_value(document.clone()).unwrap();
            let expected: Vec<&str> =
                case["errors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            assert_eq!(problems(&settings, &document), expected, "{}", case["change"]);
        }
    }

    #[test]
    fn traces_lead_somewhere() {
        let found = |tracing: Value| {
            let settings: Settings = serde_json::from_value(json!({"tracing": tracing})).unwrap();
            let mut out = Problems::default();
            super::tracing(&settings, &mut out);
            out.0
        };
        assert_eq!(found(json!({})), [""; 0]);
        assert_eq!(found(json!({"endpoint": "localhost:4317", "samplingRatePerMillion": 5})), [""; 0]);
        assert_eq!(
            found(json!({"samplingRatePerMillion": -1})),
            ["tracing.samplingRatePerMillion: Invalid value: -1: sampling rate must be positive"]
        );
        let nowhere = found(json!({"endpoint": "dns://google.com:4317"}));
        assert!(nowhere[0].starts_with("invalid configuration: tracing: endpoint"), "{nowhere:?}");
    }

    #[test]
    fn own_rules() {
        let settings: Settings =
            serde_json::from_value(json!({"authorization": {"mode": "x"}, "contentType": "y"})).unwrap();
        let found = problems(&settings, &json!({}));
        assert!(
            found.iter().any(|p| p.contains("authorization.mode"))
                && found.iter().any(|p| p.contains("contentType"))
        );
    }
}
