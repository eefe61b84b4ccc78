//! Comparison of a daemon's flag table with upstream's list (`hack/data/flags/<daemon>.txt`), for the daemons' tests.

use std::collections::BTreeMap;

use super::{Command, Kind, Layout};

/// Differences between a daemon's flags and upstream's list, one line each; empty when they agree in name, letter,
/// type, default, hiddenness, deprecation text and section. `extra` names our own additional flags.
pub fn differences(command: &Command, upstream: &str, extra: &[&str]) -> Vec<String> {
    let set = command.flag_set();
    let flat = command.layout == Layout::Flat;
    let mut ours: BTreeMap<&str, String> = set
        .entries
        .iter()
        .map(|entry| {
            let flag = &entry.flag;
            let section = if flag.hidden || flat { "" } else { set.titles[entry.section] };
            let short = flag.short.map(String::from).unwrap_or_default();
            let default = entry.value.display(flag.kind);
            let deprecated = flag.deprecated.unwrap_or_default();
            let facts = format!(
                "short={short} type={} default={default:?} hidden={} deprecated={deprecated:?} section={section}",
                type_name(flag.kind),
                flag.hidden,
            );
            (flag.name, facts)
        })
        .collect();
    let mut out = Vec::new();
    for line in upstream.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, short, kind, default, _, hidden, deprecated, _, section] = fields[..] else {
            out.push(format!("unreadable line {line:?}"));
            continue;
        };
        let text =
            |quoted: &str| serde_json::from_str::<String>(quoted).unwrap_or_else(|_| quoted.to_string());
        let section = section.split_once(':').map_or("", |(_, title)| title);
        let section = if hidden == "true" || flat { "" } else { section };
        let facts = format!(
            "short={short} type={kind} default={:?} hidden={hidden} deprecated={:?} section={section}",
            text(default),
            text(deprecated),
        );
        match ours.remove(name) {
            None => out.push(format!("--{name}: missing ({facts})")),
            Some(mine) if mine != facts => {
                out.push(format!("--{name}:\n  ours     {mine}\n  upstream {facts}"))
            }
            Some(_) => {}
        }
    }
    out.extend(
        ours.keys().filter(|n| !extra.contains(n)).map(|n| format!("--{n}: upstream has no such flag")),
    );
    out
}

/// pflag's `Type()`.
fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::String => "string",
        Kind::Int => "int",
        Kind::Int32 => "int32",
        Kind::Int64 => "int64",
        Kind::Uint => "uint",
        Kind::Float32 => "float32",
        Kind::Float64 => "float64",
        Kind::Duration => "duration",
        Kind::Strings => "stringSlice",
        Kind::StringArray => "stringArray",
        Kind::Int32Slice => "int32Slice",
        Kind::StringToString => "stringToString",
        Kind::MapStringString | Kind::MapNoSplit | Kind::ConfigurationMap | Kind::LangleMap => {
            "mapStringString"
        }
        Kind::MapStringBool => "mapStringBool",
        Kind::Multimap => "colonSeparatedMultimapStringString",
        Kind::Ip => "ip",
        Kind::IpPort => "ipport",
        Kind::Quantity => "quantity",
        Kind::PortRange => "portRange",
        Kind::NamedCertKey => "namedCertKey",
        Kind::ReservedMemory => "reserved-memory",
        Kind::Taints => "[]v1.Taint",
        Kind::Version => "version",
        Kind::Level => "Level",
        Kind::Vmodule => "pattern=N,...",
        Kind::Named(name) => name,
    }
}
