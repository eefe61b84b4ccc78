#!/usr/bin/env python3
"""Records the table columns (name, type, format, priority) of every listable kind from an upstream API server.

Usage: run.py COMMAND > apiserver/data/table-columns.txt, where COMMAND PATH [HEADER] prints what a GET of PATH answers.
"""
import json, subprocess, sys


def get(path, *header):
    return json.loads(subprocess.run([sys.argv[1], path, *header], capture_output=True, text=True).stdout)


versions = ["api/v1"] + ["apis/" + v["groupVersion"] for g in get("/apis")["groups"] for v in g["versions"]]
for version in versions:
    for resource in get("/" + version)["resources"]:
        if "/" in resource["name"] or "list" not in resource["verbs"]:
            continue
        table = get(f"/{version}/{resource['name']}", "Accept: application/json;as=Table;g=meta.k8s.io;v=v1")
        columns = ["%s|%s|%s|%d" % (c["name"], c["type"], c["format"], c["priority"]) for c in table["columnDefinitions"]]
        print(version.split("/", 1)[1] + " " + resource["kind"] + "\t" + ";".join(columns))
