#!/usr/bin/env python3
"""Writes pkg/api/src/resources.txt: one row per API resource.

Served facts (names, kinds, verbs, short names, categories, subresources, order) come from upstream's api/discovery/*.json in
the Go module cache; stored form and behaviour come from the tables below, read from upstream's strategies and
storage.go files. The stored version is proved, not trusted: it must reproduce upstream's storageVersionHash.

  gen.py          rewrite the table          gen.py --check   exit 1 when the table differs
"""
import base64, hashlib, json, pathlib, subprocess, sys

CACHE = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=True).stdout.strip()
ROOT = pathlib.Path(CACHE) / "k8s.io/kubernetes@v1.37.2/api/discovery"
OUT = pathlib.Path(__file__).resolve().parents[2] / "pkg/api/src/resources.txt"
STD = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
GA = {"v1", "v2"}

KEY = {  # exceptions to "<resource>"
    "nodes": "minions", "services": "services/specs", "endpoints": "services/endpoints",
    "replicationcontrollers": "controllers", "ingresses": "ingress",
    "customresourcedefinitions": "apiextensions.k8s.io/customresourcedefinitions",
    "apiservices": "apiregistration.k8s.io/apiservices",
}
NOT_STORED = {"bindings", "componentstatuses", "tokenreviews", "selfsubjectreviews", "subjectaccessreviews",
              "selfsubjectaccessreviews", "localsubjectaccessreviews", "selfsubjectrulesreviews"}
STORED = {  # (group, resource) -> stored group/version, where it is not the group's v1
    ("autoscaling", "horizontalpodautoscalers"): "autoscaling/v2",
    ("events.k8s.io", "events"): "v1",
    ("apiextensions.k8s.io", "customresourcedefinitions"): "apiextensions.k8s.io/v1beta1",
    ("coordination.k8s.io", "leasecandidates"): "coordination.k8s.io/v1beta1",
    ("certificates.k8s.io", "clustertrustbundles"): "certificates.k8s.io/v1beta1",
    ("certificates.k8s.io", "podcertificaterequests"): "certificates.k8s.io/v1beta1",
    ("storagemigration.k8s.io", "storageversionmigrations"): "storagemigration.k8s.io/v1beta1",
    ("resource.k8s.io", "devicetaintrules"): "resource.k8s.io/v1beta2",
    ("resource.k8s.io", "resourcepoolstatusrequests"): "resource.k8s.io/v1alpha3",
    ("scheduling.k8s.io", "podgroups"): "scheduling.k8s.io/v1beta1",
    ("scheduling.k8s.io", "workloads"): "scheduling.k8s.io/v1beta1",
    ("scheduling.k8s.io", "compositepodgroups"): "scheduling.k8s.io/v1alpha3",
    ("lifecycle.k8s.io", "evictions"): "lifecycle.k8s.io/v1alpha1",
    ("lifecycle.k8s.io", "evictionrequests"): "lifecycle.k8s.io/v1alpha1",
    ("internal.apiserver.k8s.io", "storageversions"): "internal.apiserver.k8s.io/v1alpha1",
}
JSON_STORED = {"customresourcedefinitions", "apiservices"}
EVENT = ("involvedObject.kind involvedObject.namespace involvedObject.name involvedObject.uid involvedObject.apiVersion "
         "involvedObject.resourceVersion involvedObject.fieldPath reason reportingComponent source type").split()
SELECT = {
    "pods": ("spec.nodeName spec.restartPolicy spec.schedulerName spec.serviceAccountName spec.hostNetwork status.phase "
             "status.podIP status.podIPs status.nominatedNodeName").split(),
    "nodes": ["spec.unschedulable"], "namespaces": ["status.phase"], "secrets": ["type"],
    "services": ["spec.clusterIP", "spec.type"], "replicationcontrollers": ["status.replicas"],
    "jobs": ["status.successful"], "events": EVENT, "certificatesigningrequests": ["spec.signerName"],
    "clustertrustbundles": ["spec.signerName"],
    "podcertificaterequests": ["spec.signerName", "spec.podName", "spec.nodeName"],
    "resourceslices": ["spec.nodeName", "spec.driver", "spec.pool.name"],
}
# strategy AllowCreateOnUpdate
CREATE_ON_UPDATE = set("""runtimeclasses roles rolebindings clusterroles clusterrolebindings leases leasecandidates
    limitranges events services endpoints""".split())
# strategy AllowUnconditionalUpdate is false
RV_REQUIRED = set("""podcertificaterequests clustertrustbundles runtimeclasses podgroups compositepodgroups workloads
    storageversionmigrations poddisruptionbudgets resourcepoolstatusrequests storageversions csidrivers
    csistoragecapacities volumeattachments csinodes leases leasecandidates evictions evictionrequests
    validatingadmissionpolicies mutatingadmissionpolicies mutatingwebhookconfigurations
    validatingwebhookconfigurations mutatingadmissionpolicybindings validatingadmissionpolicybindings
    customresourcedefinitions apiservices""".split())
# generic store ReturnDeletedObject
RETURNS_DELETED = set("""resourceclaimtemplates resourceslices resourceclaims deviceclasses devicetaintrules
    resourcepoolstatusrequests csidrivers storageclasses volumeattachments csinodes volumeattributesclasses
    resourcequotas persistentvolumes serviceaccounts persistentvolumeclaims namespaces pods services
    podtemplates""".split())
# flags that not all versions of a resource have (pkg/registry/resource/devicetaintrule/storage NewRESTv1)
EXCEPT = {("returns-deleted", "v1", "devicetaintrules")}
# strategies that keep metadata.generation
GENERATION = set("""mutatingadmissionpolicies mutatingadmissionpolicybindings mutatingwebhookconfigurations
    validatingadmissionpolicies validatingadmissionpolicybindings validatingwebhookconfigurations daemonsets
    deployments replicasets statefulsets horizontalpodautoscalers cronjobs jobs pods podtemplates
    replicationcontrollers endpointslices flowschemas prioritylevelconfigurations evictions evictionrequests
    ingresses ingressclasses networkpolicies poddisruptionbudgets deviceclasses devicetaintrules resourceslices
    priorityclasses csidrivers customresourcedefinitions""".split())
# feature gates that a resource's storage depends on (pkg/registry/*/rest/storage_*.go)
GATED = {"clustertrustbundles": "ClusterTrustBundle", "podcertificaterequests": "PodCertificateRequest",
         "storageversionmigrations": "StorageVersionMigrator", "workloads": "GenericWorkload",
         "podgroups": "GenericWorkload", "compositepodgroups": "CompositePodGroup",
         "evictions": "EvictionRequestAPI", "evictionrequests": "EvictionRequestAPI"}
GC = {"jobs": "orphan", "replicationcontrollers": "orphan", "events": "unsupported"}
GRACEFUL = {"pods"}


def gv(group, version):
    return f"{group}/{version}" if group else version


def flags(version, res):
    out = []
    for name, members in (("create-on-update", CREATE_ON_UPDATE), ("rv-required", RV_REQUIRED),
                          ("returns-deleted", RETURNS_DELETED), ("generation", GENERATION), ("graceful", GRACEFUL)):
        if res in members and (name, version, res) not in EXCEPT:
            out.append(name)
    if res in GC:
        out.append(GC[res])
    return out


def stage(version):
    return "alpha" if "alpha" in version else "beta" if "beta" in version else "ga"


def groups():
    """Group-versions in upstream's priority order, core first."""
    yield "", "v1", json.load(open(ROOT / "api__v1.json"))
    for item in json.load(open(ROOT / "aggregated_v2.json"))["items"]:
        group = item["metadata"]["name"]
        for v in item["versions"]:
            yield group, v["version"], json.load(open(ROOT / f"apis__{group}__{v['version']}.json"))


def check_hash(group, version, kind, want, row):
    if want:
        got = base64.b64encode(hashlib.sha256(f"{gv(group, version)}/{kind}".encode()).digest()[:8]).decode()
        # The core group hashes as "/v1/Kind".
        alt = base64.b64encode(hashlib.sha256(f"{group}/{version}/{kind}".encode()).digest()[:8]).decode()
        if want not in (got, alt):
            sys.exit(f"{row}: stored version {gv(group, version)} does not give upstream's hash {want}")


def rows():
    for group, version, doc in groups():
        entries = doc["resources"]
        for r in (e for e in entries if "/" not in e["name"]):
            res = r["name"]
            head = [gv(group, version), res, r["kind"], r.get("singularName") or "-",
                    "namespaced" if r["namespaced"] else "cluster", stage(version)]
            head.append("verbs=" + ("*" if sorted(r["verbs"]) == STD else ",".join(sorted(r["verbs"]))))
            if r.get("shortNames"):
                head.append("short=" + ",".join(r["shortNames"]))
            if r.get("categories"):
                head.append("categories=" + ",".join(r["categories"]))
            if res not in NOT_STORED:
                stored = STORED.get((group, res)) or gv(group, "v1")
                sg, _, sv = stored.rpartition("/")
                check_hash(sg, sv, r["kind"], r.get("storageVersionHash"), f"{group}/{version} {res}")
                head.append("stored=" + stored)
                head.append("key=" + KEY.get(res, res))
                if res in JSON_STORED:
                    head.append("media=json")
                sel = SELECT.get(res, [])
                if group == "events.k8s.io":
                    sel = [s.replace("involvedObject", "regarding").replace("reportingComponent", "reportingController")
                           for s in sel if s != "source"]
                if sel:
                    head.append("fields=" + ",".join(sel))
                if res in GATED:
                    head.append("gate=" + GATED[res])
                if flags(version, res):
                    head.append("flags=" + ",".join(flags(version, res)))
            yield " ".join(head)
            for s in (e for e in entries if e["name"].startswith(res + "/")):
                sub = s["name"].split("/", 1)[1]
                sgv = gv(s.get("group", "") if "version" in s else group, s.get("version", version))
                yield f"  {sub} {sgv} {s['kind']} verbs={','.join(sorted(s['verbs']))}"


HEADER = """# One row per API resource; written and checked by hack/resources/gen.py.
# group/version resource Kind singular scope stage verbs= short= categories= stored= key= media= fields= gate= flags=
# An indented line is a subresource of the row above: name group/version Kind verbs=
"""


def main():
    text = HEADER + "".join(row + "\n" for row in rows())
    if "--check" in sys.argv:
        if OUT.read_text() != text:
            sys.exit(f"{OUT} differs from upstream's discovery documents; run hack/resources/gen.py")
        return
    OUT.write_text(text)


main()
