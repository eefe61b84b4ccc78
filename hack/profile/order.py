#!/usr/bin/env python3
"""Prints the names of functions in the order in which they are to stand in the daemons' text.

First those executed at rest, those shared by the same daemons side by side; then those executed when kubectl looks, those of a
start and those of the load; then those executed in the flows. The others follow in the linker's order. Reads
{rest,use,all}-DAEMON.txt and daemons.profdata in the folder given."""
import os
import re
import subprocess
import sys

DAEMONS = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"]
# Seconds after which a daemon has started: it gives back its text then.
STARTED = 30


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


def executed_since(folder, begin, end):
    """As executed, of what was first executed between these seconds of a daemon's life."""
    found = {}
    for bit, daemon in enumerate(DAEMONS):
        with open(f"{folder}/all-{daemon}.txt") as lines:
            for second, *names in map(str.split, lines):
                if begin <= float(second) < end:
                    for name in names:
                        found[name] = found.get(name, 0) | 1 << bit
    return found


def by_daemons(found):
    """Names by the daemons that share them: each daemon skips whole runs of what it has but does not execute."""
    return sorted(found, key=lambda name: (-bin(found[name]).count("1"), found[name], name))


def main(folder):
    groups = {
        "at rest": executed(folder, "rest"),
        "when looked at": executed(folder, "use"),
        "at the start": executed_since(folder, 0, STARTED),
        "under load": executed_since(folder, STARTED, float("inf")),
    }
    order = {}
    for when, found in groups.items():
        known = len(order)
        order.update(dict.fromkeys(name for name in by_daemons(found) if name not in order))
        print(f"{len(order) - known} {when}", file=sys.stderr)
    flows = sorted(name for name, count in counts(f"{folder}/daemons.profdata").items() if count and name not in order)
    print(f"{len(flows)} in flows", file=sys.stderr)
    print("\n".join([*order, *flows]))


main(sys.argv[1])
