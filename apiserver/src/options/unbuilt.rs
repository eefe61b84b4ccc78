//! Flags this server takes and does not act on: refused when set to anything but their default, or named as inert.
//!
//! A flag that is accepted and ignored weakens a cluster silently, so what is
//! not built ends the start. Only flags without any consequence for what is served are let through, each with a line
//! in the log. A test below holds every flag of the command against the sources: read somewhere, or listed here.

use component::flags::FlagSet;

/// What happens when a flag is set to something else than its default.
enum Unbuilt {
    /// The start is refused; the text says what to do instead.
    Refused(&'static str),
    /// Said once in the log; the text is the reason.
    Inert(&'static str),
}

use Unbuilt::{Inert, Refused};

const EMULATION: &str = "this server emulates no other version than its own";
const PEERS: &str = "requests are never passed on to other API servers";
const ELECTION: &str = "coordinated leader election is not implemented";
const DEPRECATED: &str = "deprecated, without effect";

const TABLE: &[(&str, Unbuilt)] = &[
    ("allow-metric-labels-manifest", Refused("use --allow-metric-labels")),
    ("contention-profiling", Inert("there is no Go runtime to profile")),
    ("coordinated-leadership-lease-duration", Refused(ELECTION)),
    ("coordinated-leadership-renew-deadline", Refused(ELECTION)),
    ("coordinated-leadership-retry-period", Refused(ELECTION)),
    ("debug-socket-path", Refused("there is no Go runtime to profile; remove the flag")),
    ("default-watch-cache-size", Inert(DEPRECATED)),
    ("egress-selector-config-file", Refused("connections to nodes and pods are made directly")),
    ("emulated-version", Refused(EMULATION)),
    ("emulation-forward-compatible", Refused(EMULATION)),
    ("enable-garbage-collector", Refused("deletion always takes dependents into account")),
    ("enable-logs-handler", Refused("/logs is not served")),
    ("etcd-count-metric-poll-period", Inert("object counts come from the watch cache")),
    ("etcd-db-metric-poll-interval", Inert("the size of etcd's database is not published")),
    ("kubelet-port", Inert(DEPRECATED)),
    ("kubelet-read-only-port", Inert(DEPRECATED)),
    ("lease-reuse-duration-seconds", Refused("leases of keys in etcd are shared for 60 seconds")),
    ("log-flush-frequency", Inert("log lines are not buffered")),
    ("log-json-info-buffer-size", Inert("log lines are not buffered")),
    ("log-text-info-buffer-size", Inert("log lines are not buffered")),
    ("max-connection-bytes-per-sec", Refused("exec, attach and port-forward are not throttled")),
    ("min-compatibility-version", Refused(EMULATION)),
    ("peer-advertise-ip", Refused(PEERS)),
    ("peer-advertise-port", Refused(PEERS)),
    ("peer-ca-file", Refused(PEERS)),
    ("runtime-config-emulation-forward-compatible", Refused(EMULATION)),
    ("service-account-signing-endpoint", Refused("use --service-account-signing-key-file")),
    ("storage-initialization-timeout", Inert("the server answers before the store does, and /readyz tells")),
    ("watch-cache", Refused("reads are always served from the watch cache")),
    ("watch-cache-sizes", Inert("watch caches are sized automatically")),
];

/// Adds a problem per refused flag; returns what is to be logged about the others.
pub(super) fn check(flags: &FlagSet, problems: &mut Vec<String>) -> Vec<String> {
    let given = flags.rendered();
    let defaults: std::collections::BTreeMap<_, _> = flags.records().map(|f| (f.name, f.default)).collect();
    let mut notes = Vec::new();
    for (name, unbuilt) in TABLE {
        let Some(value) = given.get(name) else { continue };
        if !flags.changed(name) || defaults.get(name) == Some(&value.as_str()) {
            continue;
        }
        match unbuilt {
            Refused(instead) => problems.push(format!("--{name}={value} is not implemented: {instead}")),
            Inert(why) => notes.push(format!("--{name}={value} has no effect: {why}")),
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::flags::COMMAND;

    fn checked(args: &[&str]) -> (Vec<String>, Vec<String>) {
        let mut set = COMMAND.flag_set();
        set.parse(args.iter().map(|a| (*a).to_owned())).unwrap();
        let mut problems = Vec::new();
        let notes = check(&set, &mut problems);
        (problems, notes)
    }

    #[test]
    fn refused_noted_and_default() {
        let (problems, notes) = checked(&["--debug-socket-path=/x", "--contention-profiling"]);
        let why = "there is no Go runtime to profile; remove the flag";
        assert_eq!(problems, [format!("--debug-socket-path=/x is not implemented: {why}")]);
        assert_eq!(notes, ["--contention-profiling=true has no effect: there is no Go runtime to profile"]);
        assert_eq!(
            checked(&["--profiling=true", "--watch-cache=true", "--peer-ca-file="]),
            Default::default()
        );
    }

    /// Every flag is read by the sources named here, or is listed in the table, and not both.
    #[test]
    fn every_flag_is_acted_on_or_listed() {
        let sources = [
            include_str!("mod.rs"),
            include_str!("../../audit/src/config.rs"),
            include_str!("../../../pkg/component/src/serving/secure.rs"),
            include_str!("../../../pkg/component/src/serving/names.rs"),
            include_str!("../../../pkg/component/src/logs/mod.rs"),
            include_str!("../../../pkg/component/src/metrics/registry.rs"),
        ]
        .concat();
        for flag in COMMAND.flag_set().records() {
            if matches!(flag.name, "help" | "version" | "check-config") {
                continue;
            }
            let read = sources.contains(&format!("\"{}\"", flag.name));
            let listed = TABLE.iter().any(|(name, _)| *name == flag.name);
            assert!(read != listed, "--{}: read {read}, listed {listed}", flag.name);
        }
    }
}
