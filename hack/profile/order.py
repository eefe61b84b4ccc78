#!/usr/bin/env python3
"""Prints the names of functions in the order in which they are to stand in the daemons' text.

First those executed at rest, those shared by the same daemons side by side; then those executed when kubectl looks; then
those executed in the flows. The others follow in the linker's order. Reads {rest,use}-DAEMON.txt and daemons.profdata in
the folder given."""
import os
import re
import subprocess
import sys

DAEMONS = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"]


def counts(path):
    """Name -> sum of its counters."""
    shown = subprocess.run([os.environ["PROFDATA"], "show", "--all-functions", "--counts", path],
                           check=True, stdout=subprocess.PIPE, text=True).stdout
    found, name = {}, None
    for line in shown.splitlines():
        if line.startswith("  ") and line.endswith(":") and not line.startswith("    "):
            name = line.strip()[:-1].split(";")[-1]
        elif name and line.lstrip().startswith(("Block counts", "Function count")):
            found[name] = found.get(name, 0) + sum(map(int, re.findall(r"\d+", line.split(":", 1)[1])))
    return found


def executed(folder, when):
    """Name -> set of daemons, as bits."""
    found = {}
    for bit, daemon in enumerate(DAEMONS):
        with open(f"{folder}/{when}-{daemon}.txt") as names:
            for name in names.read().split():
                found[name] = found.get(name, 0) | 1 << bit
    return found


def by_daemons(found):
    """Names by the daemons that share them: each daemon skips whole runs of what it has but does not execute."""
    return sorted(found, key=lambda name: (-bin(found[name]).count("1"), found[name], name))


def main(folder):
    rest, use = executed(folder, "rest"), executed(folder, "use")
    use = {name: daemons for name, daemons in use.items() if name not in rest}
    done = counts(f"{folder}/daemons.profdata").items()
    flows = sorted(name for name, count in done if count and name not in rest and name not in use)
    print(f"{len(rest)} at rest, {len(use)} when looked at, {len(flows)} in flows", file=sys.stderr)
    print("\n".join(by_daemons(rest) + by_daemons(use) + flows))


main(sys.argv[1])
