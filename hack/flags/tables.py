#!/usr/bin/env python3
"""Writes flag tables from upstream's lists (hack/data/flags/*.txt) and our help texts (help.txt).

pkg/component/src/flags/shared.rs holds every flag that two or more daemons have; each daemon's src/flags.rs lists all of
its flags by section. Made once, then kept by hand: the daemons' tests compare them with the lists.
Usage: tables.py [daemon ...]   (without a daemon only shared.rs is written)
"""
import json
import pathlib
import sys

root = pathlib.Path(__file__).resolve().parents[2]
DAEMONS = {"kube-apiserver": "apiserver", "kube-controller-manager": "controller-manager", "kube-proxy": "kube-proxy",
           "kube-scheduler": "scheduler", "kubelet": "kubelet"}
KINDS = {"bool": "Bool", "string": "String", "int": "Int", "int32": "Int32", "int64": "Int64", "uint": "Uint",
         "float32": "Float32", "float64": "Float64", "duration": "Duration", "stringSlice": "Strings",
         "stringArray": "StringArray", "int32Slice": "Int32Slice", "stringToString": "StringToString",
         "mapStringString": "MapStringString", "mapStringBool": "MapStringBool",
         "colonSeparatedMultimapStringString": "Multimap", "ip": "Ip", "ipport": "IpPort", "quantity": "Quantity",
         "portRange": "PortRange", "namedCertKey": "NamedCertKey", "reserved-memory": "ReservedMemory",
         "[]v1.Taint": "Taints", "version": "Version", "Level": "Level", "pattern=N,...": "Vmodule"}
SPECIAL = {"eviction-hard": "LangleMap", "eviction-soft": "LangleMap", "oidc-required-claim": "MapNoSplit"}
help_text = dict(line.split("|", 1) for line in (root / "hack/flags/help.txt").read_text().splitlines())


def rust(text):
    return json.dumps(text, ensure_ascii=False)


def rows(daemon):
    for line in (root / f"hack/data/flags/{daemon}.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        name, short, kind, default, _, hidden, deprecated, _, section = line.split("\t")
        yield {"name": name, "short": short, "default": json.loads(default), "hidden": hidden == "true",
               "kind": SPECIAL.get(name) or KINDS.get(kind) or f"Named({rust(kind)})",
               "deprecated": json.loads(deprecated), "section": section.split(":")[1] if section else None}


def base(row):
    help = help_text[row["name"]].replace("\\n", "\n")
    text = f"flag({rust(row['name'])}, Kind::{row['kind']}, {rust(row['default'])}, {rust(help)})"
    return text + (f".short('{row['short']}')" if row["short"] else "")


def constant(name):
    return name.upper().replace("-", "_")


seen = {}
for daemon in DAEMONS:
    for row in rows(daemon):
        seen.setdefault((row["name"], row["kind"]), []).append((daemon, row))
shared = {key: uses for key, uses in seen.items() if len(uses) > 1}
names = [k[0] for k in shared]
shared = {k: u for k, u in shared.items() if names.count(k[0]) == 1}


def common_default(uses):
    values = [row["default"] for _, row in uses]
    return max(values, key=values.count)


out = ["//! Flags that several daemons have, with the commonest default; daemons change it by `with_default`.",
       "//! Names, types and defaults are upstream's, help texts are ours.", "",
       '#![allow(missing_docs, reason = "each record states its help")]', "", "use super::{Flag, Kind, flag};", ""]
for (name, _), uses in sorted(shared.items()):
    out.append(f"pub const {constant(name)}: Flag =\n    {base({**uses[0][1], 'default': common_default(uses)})};")
(root / "pkg/component/src/flags/shared.rs").write_text("\n".join(out) + "\n")

for daemon in sys.argv[1:]:
    sections, order = {}, []
    table = list(rows(daemon))
    for line in (root / f"hack/data/flags/{daemon}.txt").read_text().splitlines():
        section = line.split("\t")[-1] if not line.startswith("#") else ""
        if section and section not in order:
            order.append(section)
    order = [s.split(":")[1] for s in sorted(order)]
    fallback = "Misc" if "Misc" in order else order[0]
    reasons = {}
    for row in table:
        if row["deprecated"]:
            reasons.setdefault(row["deprecated"], []).append(row["name"])
    named = {reason: "CONFIG_FILE" for reason, uses in reasons.items() if len(uses) > 20}
    named |= {reason: "EVICTION" for reason in reasons if reason.startswith("Use --eviction-hard")}
    for row in table:
        key = (row["name"], row["kind"])
        if key in shared:
            text = f"shared::{constant(row['name'])}"
            if row["default"] != common_default(shared[key]):
                text += f".with_default({rust(row['default'])})"
        else:
            text = base(row)
        if row["deprecated"]:
            text += f".deprecated({named.get(row['deprecated']) or rust(row['deprecated'])})"
        if row["hidden"]:
            text += ".hidden()"
        sections.setdefault(row["section"] if row["section"] is not None else fallback, []).append(text)
    out = [f"//! The flags of {daemon}. Names, types, defaults, sections and deprecations are upstream's",
           f"//! (`hack/data/flags/{daemon}.txt`; a test compares them), help texts are ours.", "",
           "use component::flags::{Kind, Section, flag, shared};", ""]
    for reason, const in named.items():
        out += [f"const {const}: &str = {rust(reason)};", ""]
    out += ["/// Every flag, by section in the order of `--help`.", "pub const SECTIONS: &[Section] = &["]
    for section in order:
        out += ["    Section {", f"        title: {rust(section)},", "        flags: &["]
        out += [f"            {text}," for text in sections[section]]
        out += ["        ],", "    },"]
    out += ["];", ""]
    (root / DAEMONS[daemon] / "src/flags.rs").write_text("\n".join(out))
