#!/usr/bin/env bash
# Load of the usual kinds, to be profiled: load.sh KUBECTL-COMMAND. Leaves nothing behind but time.
set -euo pipefail
kubectl=($1)
k() { "${kubectl[@]}" "$@" >/dev/null; }
k create namespace load
for kind in pods configmaps events endpointslices; do
  timeout 90 "${kubectl[@]}" get $kind -A --watch -o name >/dev/null &
done
for set in $(seq 20); do
  {
    for item in $(seq 25); do
      printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c-%s-%s, labels: {set: "%s"}}\ndata: {text: "%s"}\n---\n' \
        "$set" "$item" "$set" "$(head -c 2000 /dev/zero | tr '\0' x)"
    done
  } | k apply --server-side -f -
done
k create deployment many -n load --image=corten.local/busybox:1 --replicas=0 -- sleep 3600
k patch deployment many -n load --type=json -p '[{"op":"add","path":"/spec/template/spec/terminationGracePeriodSeconds","value":0}]'
k expose deployment many -n load --port=80
for replicas in 25 5 25 0; do
  k scale deployment many -n load --replicas=$replicas
  k rollout status deployment many -n load --timeout=300s
done
for form in json wide name; do
  for _ in 1 2 3 4 5 6; do k get pods,configmaps,endpointslices,events -A -o $form; done
done
# Pods that no node takes: the scheduler tries each, and events tell.
for n in $(seq 150); do
  printf 'apiVersion: v1\nkind: Pod\nmetadata: {name: p-%s, namespace: load, labels: {app: p}}\nspec:\n  nodeSelector: {none: here}\n  topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: p}}}]\n  containers: [{name: c, image: corten.local/busybox:1}]\n---\n' "$n"
done | k apply -f -
k label pods -n load --all round=one
k annotate configmaps --all round=one --overwrite
k get pods -n load -l round=one --field-selector=status.phase=Pending -o json
k delete namespace load --timeout=300s
k delete configmaps -l set
wait
