//! What flag values are refused, in upstream's words. Pure.
//! Upstream: cmd/kube-controller-manager/app/options/*.go Validate.

use std::time::Duration;

use component::flags::FlagSet;

/// Concurrency flags with the least value and upstream's words before and after the value.
const AT_LEAST_ONE: &[(&str, &str)] = &[
    ("concurrent-cron-job-syncs", "must be greater than 0, but got"),
    ("concurrent-daemonset-syncs", "must be greater than 0, but got"),
    ("concurrent-device-taint-eviction-syncs", "must be greater than zero, got"),
    ("concurrent-ephemeralvolume-syncs", "must be greater than 0, but got"),
    ("concurrent-horizontal-pod-autoscaler-syncs", "must be greater than 0, but got"),
    ("concurrent-job-syncs", "must be greater than 0, but got"),
    ("concurrent-resourceclaim-syncs", "must be larger than 0, got"),
    ("concurrent-statefulset-syncs", "must be greater than 0, but got"),
    ("concurrent-validating-admission-policy-status-syncs", "must be positive, got"),
];

/// Flags with a least and a greatest value.
const RANGES: &[(&str, i64, i64)] = &[
    ("concurrent-service-endpoint-syncs", 1, 50),
    ("max-endpoints-per-slice", 1, 1000),
    ("mirroring-concurrent-service-endpoint-syncs", 1, 50),
    ("mirroring-max-endpoints-per-subset", 1, 1000),
];

/// Signers as their flags name them, and as upstream's messages do.
const SIGNERS: &[(&str, &str)] = &[
    ("kubelet-serving", "cluster-signing-kubelet-serving"),
    ("kubelet-client", "cluster-signing-kube-apiserver-client"),
    ("kube-apiserver-client", "cluster-signing-kube-apiserver"),
    ("legacy-unknown", "cluster-signing-legacy-unknown"),
];

/// All problems.
pub fn problems(flags: &FlagSet) -> Vec<String> {
    let mut problems = Vec::new();
    problems.extend(numbers(|name| flags.int(name)));
    if flags.duration("attach-detach-reconcile-sync-period") < Duration::from_secs(1) {
        let why = "duration time must be greater than one second as set via command line option reconcile-sync-loop-period";
        problems.push(why.to_string());
    }
    problems.extend(signing(|name| !flags.string(name).is_empty()));
    problems.extend(cloud(flags.string("cloud-provider"), flags.string("cidr-allocator-type")));
    if flags.string("service-cluster-ip-range").split(',').count() > 2 {
        problems.push("--service-cluster-ip-range can not contain more than two entries".to_string());
    }
    problems
}

fn numbers(value: impl Fn(&str) -> i64) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, words) in AT_LEAST_ONE {
        if value(name) < 1 {
            problems.push(format!("{name} {words} {}", value(name)));
        }
    }
    for (name, least, most) in RANGES {
        let has = value(name);
        if has < *least {
            problems.push(format!("{name} must not be less than {least}, but got {has}"));
        } else if has > *most {
            problems.push(format!("{name} must not be more than {most}, but got {has}"));
        }
    }
    problems
}

fn signing(is_set: impl Fn(&str) -> bool) -> Vec<String> {
    let mut problems = Vec::new();
    let mut own = false;
    for (flag, name) in SIGNERS {
        let set = |what: &str| is_set(&format!("cluster-signing-{flag}-{what}-file"));
        own |= set("cert") || set("key");
        match (set("cert"), set("key")) {
            (true, false) => problems.push(format!("{name:?}: cannot specify cert without key")),
            (false, true) => problems.push(format!("{name:?}: cannot specify key without cert")),
            _ => {}
        }
    }
    if own && (is_set("cluster-signing-cert-file") || is_set("cluster-signing-key-file")) {
        let why = "cannot specify --cluster-signing-{cert,key}-file and other --cluster-signing-*-file flags at the same time";
        problems.push(why.to_string());
    }
    problems
}

/// Cloud providers are no longer built in, nor are the allocators that asked them.
fn cloud(provider: &str, allocator: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if !matches!(provider, "" | "external") {
        problems.push(format!(
            "cloud provider {provider:?} was specified, but built-in cloud providers are disabled. Please set \
             --cloud-provider=external and migrate to an external cloud provider"
        ));
    }
    if !matches!(allocator, "" | "RangeAllocator") {
        problems
            .push(format!("built-in cloud providers are disabled. The ipam {allocator} is not available"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_bounds() {
        assert_eq!(numbers(|_| 1), Vec::<String>::new());
        let all = numbers(|name| if name == "max-endpoints-per-slice" { 1001 } else { 0 });
        assert!(
            all.contains(&"max-endpoints-per-slice must not be more than 1000, but got 1001".to_string())
        );
        assert!(all.contains(&"concurrent-job-syncs must be greater than 0, but got 0".to_string()));
        assert_eq!(all.len(), AT_LEAST_ONE.len() + RANGES.len());
    }

    #[test]
    fn a_signer_has_certificate_and_key_and_no_second_one() {
        let check = |set: &[&str]| signing(|name| set.contains(&name));
        assert_eq!(check(&["cluster-signing-cert-file", "cluster-signing-key-file"]), Vec::<String>::new());
        assert_eq!(
            check(&["cluster-signing-kubelet-client-key-file"]),
            ["\"cluster-signing-kube-apiserver-client\": cannot specify key without cert"]
        );
        let both = [
            "cluster-signing-cert-file",
            "cluster-signing-legacy-unknown-cert-file",
            "cluster-signing-legacy-unknown-key-file",
        ];
        assert_eq!(check(&both).len(), 1);
    }

    #[test]
    fn clouds_are_elsewhere() {
        assert_eq!(cloud("external", "RangeAllocator"), Vec::<String>::new());
        assert_eq!(cloud("aws", "CloudAllocator").len(), 2);
    }
}
