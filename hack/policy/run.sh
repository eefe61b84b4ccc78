#!/usr/bin/env bash
# Records the RBAC objects that upstream's API server creates on an empty store, as compact JSON, one object per line.
# Usage: hack/policy/run.sh KUBECONFIG > apiserver/data/rbac-bootstrap.jsonl, against a fresh upstream API server.
set -euo pipefail
kubectl=${KUBECTL:-kubectl}
"$kubectl" --kubeconfig "$1" get clusterroles,clusterrolebindings,roles,rolebindings -A -o json | python3 -c '
import json, sys
order = {"ClusterRole": 0, "ClusterRoleBinding": 1, "Role": 2, "RoleBinding": 3}
items = json.load(sys.stdin)["items"]
for item in sorted(items, key=lambda i: (order[i["kind"]], i["metadata"].get("namespace", ""), i["metadata"]["name"])):
    meta = item["metadata"]
    item["metadata"] = {k: meta[k] for k in ("name", "namespace", "labels", "annotations") if k in meta}
    print(json.dumps(item, separators=(",", ":"), sort_keys=True))'
