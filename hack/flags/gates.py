#!/usr/bin/env python3
"""Writes pkg/component/src/features/table.rs from hack/data/flags/feature-gates.txt."""
import pathlib

root = pathlib.Path(__file__).resolve().parents[2]
rows = []
for line in (root / "hack/data/flags/feature-gates.txt").read_text().splitlines():
    if line.startswith("#"):
        continue
    name, versions, needs = (line.split("\t") + [""])[:3]
    specs = []
    for v in versions.split():
        if "compat=" in v:  # only with --min-compatibility-version raised, which is 1.36 by default
            continue
        version, stage, default, *locked = v.split(":")
        major, minor = version.split(".")
        minor = 0 if major == "0" else int(minor)
        stage = {"": "Ga", "GA": "Ga", "ALPHA": "Alpha", "BETA": "Beta", "DEPRECATED": "Deprecated"}[stage]
        specs.append(f"s({minor}, {stage}, {default}, {'true' if locked else 'false'})")
    rows.append((name, specs, needs.split()))
out = ["// Written by hack/flags/gates.py from hack/data/flags/feature-gates.txt; do not edit.", ""]
out += ["use super::Spec;", "use super::Stage::{Alpha, Beta, Deprecated, Ga};", ""]
out += ["/// Every feature gate of v1.37, named as upstream names it.", "#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]"]
out += ['#[allow(missing_docs, reason = "the names are upstream\'s")]', "#[repr(u16)]", "pub enum Gate {"]
out += [f"    {n}," for n, _, _ in rows] + ["}", ""]
out += ["const fn s(minor: u8, stage: super::Stage, default: bool, locked: bool) -> Spec {",
        "    Spec { minor, stage, default, locked }", "}", ""]
out += ["/// Name, history by minor version, gates it needs; in the order of [`Gate`]."]
out += ["#[rustfmt::skip]", "pub(super) static TABLE: &[(&str, Gate, &[Spec], &[Gate])] = &["]
for n, specs, needs in rows:
    out.append(f'    ("{n}", Gate::{n}, &[{", ".join(specs)}], &[{", ".join("Gate::" + d for d in needs)}]),')
out += ["];", ""]
(root / "pkg/component/src/features/table.rs").write_text("\n".join(out))
