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
# Pods with what most pods have, written in every way.
pod() { # NUMBER IMAGE
  local env='' n
  for n in $(seq 12); do env+="{name: SETTING_$n, value: some-value-of-the-usual-length-$n}, "; done
  cat <<END
apiVersion: v1
kind: Pod
metadata: {name: q-$1, namespace: load, labels: {app: q, pod-template-hash: 6d4cf56db6}, annotations: {note: a note}}
spec:
  nodeSelector: {none: here}
  volumes: [{name: config, configMap: {name: settings}}, {name: secret, secret: {secretName: s}}, {name: scratch, emptyDir: {}}]
  containers:
  - name: app
    image: $2
    args: [--verbose]
    env: [$env {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}, {name: KEY, valueFrom: {secretKeyRef: {name: s, key: k}}}]
    ports: [{name: http, containerPort: 8080}, {name: metrics, containerPort: 9090}]
    resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {memory: 128Mi}}
    readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 5}
    livenessProbe: {tcpSocket: {port: 8080}}
    volumeMounts: [{name: config, mountPath: /etc/config}, {name: scratch, mountPath: /tmp}]
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
  - {name: proxy, image: $2, env: [$env], resources: {requests: {cpu: 10m}}}
---
END
}
pods() { for n in $(seq "$1" "$2"); do pod "$n" "$3"; done; }
pods 1 300 corten.local/busybox:1 | k create -f -
pods 301 400 corten.local/busybox:1 | k apply --server-side -f -
pods 1 150 corten.local/busybox:2 | k apply -f -
pods 301 400 corten.local/busybox:2 | k apply --server-side -f -
for form in json wide yaml; do k get pods -n load -l app=q -o $form; done
k label pods -n load --all round=one
k annotate configmaps --all round=one --overwrite
k get pods -n load -l round=one --field-selector=status.phase=Pending -o json
k delete namespace load --timeout=300s
k delete configmaps -l set
wait
