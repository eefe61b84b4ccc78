// Command strategy tells what upstream's strategies make of an object that is created or changed.
//
// One request per line on stdin: {"new": <object>, "old": <object or absent>, "sub": <subresource or "">, "gates": <names
// of features that are on, of those that are off by default, if any>}. One answer
// per line on stdout: a list of [field, reason, message] in upstream's order; {"object": <object>} when there is
// nothing to refuse, as it is read back from the store; or {"err": <text>} when an object cannot be decoded or is
// refused for another reason. With the object come the warnings about it, if any: {"object": ..., "warnings": [...]}.
// An object is decoded with defaults into the internal version first, as the request handlers do.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	extensions "k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/client-go/kubernetes/fake"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	clienttesting "k8s.io/client-go/testing"
	aggregatorscheme "k8s.io/kube-aggregator/pkg/apiserver/scheme"
	"k8s.io/kube-aggregator/pkg/registry/apiservice"
	"k8s.io/kubernetes/pkg/apis/admissionregistration"
	"k8s.io/kubernetes/pkg/capabilities"
	_ "k8s.io/kubernetes/pkg/controlplane"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/mutatingadmissionpolicy"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/mutatingadmissionpolicybinding"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/mutatingwebhookconfiguration"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingadmissionpolicy"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingadmissionpolicybinding"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingwebhookconfiguration"
	"k8s.io/kubernetes/pkg/registry/apiserverinternal/storageversion"
	"k8s.io/kubernetes/pkg/registry/apps/controllerrevision"
	"k8s.io/kubernetes/pkg/registry/apps/daemonset"
	"k8s.io/kubernetes/pkg/registry/apps/deployment"
	"k8s.io/kubernetes/pkg/registry/apps/replicaset"
	"k8s.io/kubernetes/pkg/registry/apps/statefulset"
	"k8s.io/kubernetes/pkg/registry/autoscaling/horizontalpodautoscaler"
	"k8s.io/kubernetes/pkg/registry/batch/cronjob"
	"k8s.io/kubernetes/pkg/registry/batch/job"
	"k8s.io/kubernetes/pkg/registry/certificates/certificates"
	"k8s.io/kubernetes/pkg/registry/certificates/clustertrustbundle"
	"k8s.io/kubernetes/pkg/registry/certificates/podcertificaterequest"
	"k8s.io/kubernetes/pkg/registry/coordination/lease"
	"k8s.io/kubernetes/pkg/registry/coordination/leasecandidate"
	"k8s.io/kubernetes/pkg/registry/core/configmap"
	"k8s.io/kubernetes/pkg/registry/core/endpoint"
	"k8s.io/kubernetes/pkg/registry/core/event"
	"k8s.io/kubernetes/pkg/registry/core/limitrange"
	"k8s.io/kubernetes/pkg/registry/core/namespace"
	"k8s.io/kubernetes/pkg/registry/core/node"
	"k8s.io/kubernetes/pkg/registry/core/persistentvolume"
	"k8s.io/kubernetes/pkg/registry/core/persistentvolumeclaim"
	"k8s.io/kubernetes/pkg/registry/core/pod"
	"k8s.io/kubernetes/pkg/registry/core/podtemplate"
	"k8s.io/kubernetes/pkg/registry/core/replicationcontroller"
	"k8s.io/kubernetes/pkg/registry/core/resourcequota"
	"k8s.io/kubernetes/pkg/registry/core/secret"
	"k8s.io/kubernetes/pkg/registry/core/service"
	"k8s.io/kubernetes/pkg/registry/core/serviceaccount"
	"k8s.io/kubernetes/pkg/registry/discovery/endpointslice"
	"k8s.io/kubernetes/pkg/registry/flowcontrol/flowschema"
	"k8s.io/kubernetes/pkg/registry/flowcontrol/prioritylevelconfiguration"
	"k8s.io/kubernetes/pkg/registry/lifecycle/eviction"
	"k8s.io/kubernetes/pkg/registry/lifecycle/evictionrequest"
	"k8s.io/kubernetes/pkg/registry/networking/ingress"
	"k8s.io/kubernetes/pkg/registry/networking/ingressclass"
	"k8s.io/kubernetes/pkg/registry/networking/ipaddress"
	"k8s.io/kubernetes/pkg/registry/networking/networkpolicy"
	"k8s.io/kubernetes/pkg/registry/networking/servicecidr"
	"k8s.io/kubernetes/pkg/registry/node/runtimeclass"
	"k8s.io/kubernetes/pkg/registry/policy/poddisruptionbudget"
	"k8s.io/kubernetes/pkg/registry/rbac/clusterrole"
	"k8s.io/kubernetes/pkg/registry/rbac/clusterrolebinding"
	"k8s.io/kubernetes/pkg/registry/rbac/role"
	"k8s.io/kubernetes/pkg/registry/rbac/rolebinding"
	"k8s.io/kubernetes/pkg/registry/resource/deviceclass"
	"k8s.io/kubernetes/pkg/registry/resource/devicetaintrule"
	"k8s.io/kubernetes/pkg/registry/resource/resourceclaim"
	"k8s.io/kubernetes/pkg/registry/resource/resourceclaimtemplate"
	"k8s.io/kubernetes/pkg/registry/resource/resourcepoolstatusrequest"
	"k8s.io/kubernetes/pkg/registry/resource/resourceslice"
	"k8s.io/kubernetes/pkg/registry/scheduling/compositepodgroup"
	"k8s.io/kubernetes/pkg/registry/scheduling/podgroup"
	"k8s.io/kubernetes/pkg/registry/scheduling/priorityclass"
	"k8s.io/kubernetes/pkg/registry/scheduling/workload"
	"k8s.io/kubernetes/pkg/registry/storage/csidriver"
	"k8s.io/kubernetes/pkg/registry/storage/csinode"
	"k8s.io/kubernetes/pkg/registry/storage/csistoragecapacity"
	"k8s.io/kubernetes/pkg/registry/storage/storageclass"
	"k8s.io/kubernetes/pkg/registry/storage/volumeattachment"
	"k8s.io/kubernetes/pkg/registry/storage/volumeattributesclass"
	"k8s.io/kubernetes/pkg/registry/storagemigration/storagemigration"
	testclock "k8s.io/utils/clock/testing"

	"oracle/schemes"
)

var policy = func() kind {
	s := validatingadmissionpolicy.NewStrategy(everyone, nothing{})
	return of("validatingadmissionpolicies", s, status(validatingadmissionpolicy.NewStatusStrategy(s)))
}()

var now = testclock.NewFakePassiveClock(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))

var certificateRequest = func() kind {
	s := podcertificaterequest.NewStrategy()
	return of("podcertificaterequests", s, status(podcertificaterequest.NewStatusStrategy(s, everyone, now)))
}()

type kind struct {
	resource string
	main     rest.RESTCreateUpdateStrategy
	subs     map[string]rest.RESTUpdateStrategy
}

type both interface {
	rest.RESTCreateStrategy
	rest.RESTUpdateStrategy
}

func of(resource string, s both, subs map[string]rest.RESTUpdateStrategy) kind {
	return kind{resource, s, subs}
}

func status(s rest.RESTUpdateStrategy) map[string]rest.RESTUpdateStrategy {
	return map[string]rest.RESTUpdateStrategy{"status": s}
}

// Every namespace is there and grants administrative access to devices: what other objects grant is not in question.
var namespaces = func() typedcorev1.NamespaceInterface {
	client := fake.NewClientset()
	client.PrependReactor("get", "namespaces", func(action clienttesting.Action) (bool, runtime.Object, error) {
		name := action.(clienttesting.GetAction).GetName()
		labels := map[string]string{resourcev1.DRAAdminNamespaceLabelKey: "true"}
		return true, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, nil
	})
	return client.CoreV1().Namespaces()
}()

// Policies that are bound are not found, nor are the kinds of their parameters.
type nothing struct{}

var errNothing = errors.New("not found")

func (nothing) Resolve(schema.GroupVersionKind) (schema.GroupVersionResource, error) {
	return schema.GroupVersionResource{}, errNothing
}

func (nothing) GetValidatingAdmissionPolicy(context.Context, string) (*admissionregistration.ValidatingAdmissionPolicy, error) {
	return nil, errNothing
}

func (nothing) GetMutatingAdmissionPolicy(context.Context, string) (*admissionregistration.MutatingAdmissionPolicy, error) {
	return nil, errNothing
}

var everyone = authorizerfactory.NewAlwaysAllowAuthorizer()

var definitions = customresourcedefinition.NewStrategy(extensions.Scheme)

var podGroups = podgroup.NewStrategy()

var compositePodGroups = compositepodgroup.NewStrategy()

var evictions = eviction.NewStrategy(now)

var evictionRequests = evictionrequest.NewStrategy()

var claims = resourceclaim.NewStrategy(namespaces, everyone)

var kinds = map[string]kind{
	"Pod": of("pods", pod.Strategy, map[string]rest.RESTUpdateStrategy{
		"status":              pod.StatusStrategy,
		"ephemeralcontainers": pod.EphemeralContainersStrategy,
		"resize":              pod.ResizeStrategy,
	}),
	"PodTemplate":           of("podtemplates", podtemplate.Strategy, nil),
	"Service":               of("services", service.Strategy, status(service.StatusStrategy)),
	"ReplicationController": of("replicationcontrollers", replicationcontroller.Strategy, status(replicationcontroller.StatusStrategy)),
	"Namespace": of("namespaces", namespace.Strategy, map[string]rest.RESTUpdateStrategy{
		"status":   namespace.StatusStrategy,
		"finalize": namespace.FinalizeStrategy,
	}),
	"Node":                       of("nodes", node.Strategy, status(node.StatusStrategy)),
	"ConfigMap":                  of("configmaps", configmap.Strategy, nil),
	"Secret":                     of("secrets", secret.Strategy, nil),
	"ServiceAccount":             of("serviceaccounts", serviceaccount.Strategy, nil),
	"PersistentVolume":           of("persistentvolumes", persistentvolume.Strategy, status(persistentvolume.StatusStrategy)),
	"PersistentVolumeClaim":      of("persistentvolumeclaims", persistentvolumeclaim.Strategy, status(persistentvolumeclaim.StatusStrategy)),
	"Endpoints":                  of("endpoints", endpoint.Strategy, nil),
	"LimitRange":                 of("limitranges", limitrange.Strategy, nil),
	"ResourceQuota":              of("resourcequotas", resourcequota.Strategy, status(resourcequota.StatusStrategy)),
	"Event":                      of("events", event.Strategy, nil),
	"Deployment":                 of("deployments", deployment.Strategy, status(deployment.StatusStrategy)),
	"ReplicaSet":                 of("replicasets", replicaset.Strategy, status(replicaset.StatusStrategy)),
	"DaemonSet":                  of("daemonsets", daemonset.Strategy, status(daemonset.StatusStrategy)),
	"StatefulSet":                of("statefulsets", statefulset.Strategy, status(statefulset.StatusStrategy)),
	"ControllerRevision":         of("controllerrevisions", controllerrevision.Strategy, nil),
	"Job":                        of("jobs", job.Strategy, status(job.StatusStrategy)),
	"CronJob":                    of("cronjobs", cronjob.Strategy, status(cronjob.StatusStrategy)),
	"HorizontalPodAutoscaler":    of("horizontalpodautoscalers", horizontalpodautoscaler.Strategy, status(horizontalpodautoscaler.StatusStrategy)),
	"CustomResourceDefinition":   of("customresourcedefinitions", definitions, status(customresourcedefinition.NewStatusStrategy(extensions.Scheme))),
	"APIService":                 of("apiservices", apiservice.NewStrategy(aggregatorscheme.Scheme), status(apiservice.NewStatusStrategy(aggregatorscheme.Scheme))),
	"Workload":                   of("workloads", workload.Strategy, nil),
	"PodGroup":                   of("podgroups", podGroups, status(podgroup.NewStatusStrategy(podGroups))),
	"CompositePodGroup":          of("compositepodgroups", compositePodGroups, status(compositepodgroup.NewStatusStrategy(compositePodGroups))),
	"LeaseCandidate":             of("leasecandidates", leasecandidate.Strategy, nil),
	"Lease":                      of("leases", lease.Strategy, nil),
	"EndpointSlice":              of("endpointslices", endpointslice.Strategy, nil),
	"Ingress":                    of("ingresses", ingress.Strategy, status(ingress.StatusStrategy)),
	"IngressClass":               of("ingressclasses", ingressclass.Strategy, nil),
	"NetworkPolicy":              of("networkpolicies", networkpolicy.Strategy, nil),
	"RuntimeClass":               of("runtimeclasses", runtimeclass.Strategy, nil),
	"PodDisruptionBudget":        of("poddisruptionbudgets", poddisruptionbudget.Strategy, status(poddisruptionbudget.StatusStrategy)),
	"ClusterRole":                of("clusterroles", clusterrole.Strategy, nil),
	"ClusterRoleBinding":         of("clusterrolebindings", clusterrolebinding.Strategy, nil),
	"Role":                       of("roles", role.Strategy, nil),
	"RoleBinding":                of("rolebindings", rolebinding.Strategy, nil),
	"PriorityClass":              of("priorityclasses", priorityclass.Strategy, nil),
	"CSIDriver":                  of("csidrivers", csidriver.Strategy, nil),
	"CSINode":                    of("csinodes", csinode.Strategy, status(csinode.StatusStrategy)),
	"StorageClass":               of("storageclasses", storageclass.Strategy, nil),
	"CSIStorageCapacity":         of("csistoragecapacities", csistoragecapacity.Strategy, nil),
	"VolumeAttributesClass":      of("volumeattributesclasses", volumeattributesclass.Strategy, nil),
	"IPAddress":                  of("ipaddresses", ipaddress.Strategy, nil),
	"ServiceCIDR":                of("servicecidrs", servicecidr.Strategy, status(servicecidr.StatusStrategy)),
	"FlowSchema":                 of("flowschemas", flowschema.Strategy, status(flowschema.StatusStrategy)),
	"PriorityLevelConfiguration": of("prioritylevelconfigurations", prioritylevelconfiguration.Strategy, status(prioritylevelconfiguration.StatusStrategy)),
	"CertificateSigningRequest": of("certificatesigningrequests", certificates.Strategy, map[string]rest.RESTUpdateStrategy{
		"status":   certificates.StatusStrategy,
		"approval": certificates.ApprovalStrategy,
	}),
	"DeviceClass":                      of("deviceclasses", deviceclass.Strategy, nil),
	"ResourceSlice":                    of("resourceslices", resourceslice.Strategy, nil),
	"ResourceClaim":                    of("resourceclaims", claims, status(resourceclaim.NewStatusStrategy(claims))),
	"ResourceClaimTemplate":            of("resourceclaimtemplates", resourceclaimtemplate.NewStrategy(namespaces), nil),
	"MutatingWebhookConfiguration":     of("mutatingwebhookconfigurations", mutatingwebhookconfiguration.Strategy, nil),
	"ValidatingWebhookConfiguration":   of("validatingwebhookconfigurations", validatingwebhookconfiguration.Strategy, nil),
	"ValidatingAdmissionPolicy":        policy,
	"ValidatingAdmissionPolicyBinding": of("validatingadmissionpolicybindings", validatingadmissionpolicybinding.NewStrategy(everyone, nothing{}, nothing{}), nil),
	"MutatingAdmissionPolicy":          of("mutatingadmissionpolicies", mutatingadmissionpolicy.NewStrategy(everyone, nothing{}), nil),
	"MutatingAdmissionPolicyBinding":   of("mutatingadmissionpolicybindings", mutatingadmissionpolicybinding.NewStrategy(everyone, nothing{}, nothing{}), nil),
	"ClusterTrustBundle":               of("clustertrustbundles", clustertrustbundle.Strategy, nil),
	"PodCertificateRequest":            certificateRequest,
	"ResourcePoolStatusRequest":        of("resourcepoolstatusrequests", resourcepoolstatusrequest.Strategy, status(resourcepoolstatusrequest.StatusStrategy)),
	"Eviction":                         of("evictions", evictions, status(eviction.NewStatusStrategy(evictions))),
	"EvictionRequest":                  of("evictionrequests", evictionRequests, status(evictionrequest.NewStatusStrategy(evictionRequests))),
	"StorageVersion":                   of("storageversions", storageversion.Strategy, status(storageversion.StatusStrategy)),
	"DeviceTaintRule":                  of("devicetaintrules", devicetaintrule.Strategy, status(devicetaintrule.StatusStrategy)),
	"StorageVersionMigration":          of("storageversionmigrations", storagemigration.Strategy, status(storagemigration.StatusStrategy)),
	"VolumeAttachment":                 of("volumeattachments", volumeattachment.Strategy, status(volumeattachment.StatusStrategy)),
}

type recorder []string

func (r *recorder) AddWarning(_, text string) {
	if !slices.Contains(*r, text) {
		*r = append(*r, text)
	}
}

type question struct {
	New json.RawMessage `json:"new"`
	Old json.RawMessage `json:"old"`
	Sub string          `json:"sub"`

	Gates []string `json:"gates"`
}

// Features that questions turn on.
var features = map[string]bool{}

// Turns on what is asked for, and off what was asked for before.
func enable(gates []string) error {
	for gate := range features {
		features[gate] = false
	}
	for _, gate := range gates {
		features[gate] = true
	}
	return utilfeature.DefaultMutableFeatureGate.SetFromMap(features)
}

func decode(data []byte) (runtime.Object, *schema.GroupVersionKind, error) {
	var kind metav1.TypeMeta
	if err := json.Unmarshal(data, &kind); err != nil {
		return nil, nil, err
	}
	return schemes.Codecs(kind.GroupVersionKind().Group).UniversalDecoder().Decode(data, nil, nil)
}

func scoped(s rest.RESTCreateStrategy, k kind, sub string, gvk *schema.GroupVersionKind, obj runtime.Object, verb string) context.Context {
	accessor, _ := meta.Accessor(obj)
	ctx := context.Background()
	ns := ""
	if s.NamespaceScoped() {
		ns = accessor.GetNamespace()
		if ns == "" {
			ns = "default"
			accessor.SetNamespace(ns)
		}
	}
	ctx = genericapirequest.WithNamespace(ctx, ns)
	ctx = genericapirequest.WithUser(ctx, &user.DefaultInfo{Name: "tester"})
	return genericapirequest.WithRequestInfo(ctx, &genericapirequest.RequestInfo{
		IsResourceRequest: true, Verb: verb, APIGroup: gvk.Group, APIVersion: gvk.Version,
		Namespace: ns, Resource: k.resource, Subresource: sub, Name: accessor.GetName(),
	})
}

func answer(line []byte) (out any) {
	defer func() {
		if r := recover(); r != nil {
			out = map[string]string{"err": fmt.Sprintf("panic: %v", r)}
		}
	}()
	var q question
	if err := json.Unmarshal(line, &q); err != nil {
		return map[string]string{"err": err.Error()}
	}
	if err := enable(q.Gates); err != nil {
		return map[string]string{"err": err.Error()}
	}
	obj, gvk, err := decode(q.New)
	if err != nil {
		return map[string]string{"err": err.Error()}
	}
	k, ok := kinds[gvk.Kind]
	if gvk.Group == "events.k8s.io" {
		k, ok = kinds["Event"], true
	}
	if !ok {
		return map[string]string{"err": "unknown kind " + gvk.Kind}
	}
	if len(q.Old) == 0 {
		ctx := scoped(k.main, k, "", gvk, obj, "create")
		accessor, _ := meta.Accessor(obj)
		accessor.SetUID("00000000-0000-4000-8000-000000000000")
		accessor.SetCreationTimestamp(metav1.Date(2030, 1, 1, 0, 0, 0, 0, metav1.Now().Location()))
		var warnings recorder
		err := rest.BeforeCreate(k.main, warning.WithWarningRecorder(ctx, &warnings), obj)
		return outcome(err, obj, gvk, warnings)
	}
	old, _, err := decode(q.Old)
	if err != nil {
		return map[string]string{"err": err.Error()}
	}
	var s rest.RESTUpdateStrategy = k.main
	if q.Sub != "" {
		s = k.subs[q.Sub]
	}
	scoped(k.main, k, q.Sub, gvk, old, "update")
	ctx := scoped(k.main, k, q.Sub, gvk, obj, "update")
	var warnings recorder
	err = rest.BeforeUpdate(s, warning.WithWarningRecorder(ctx, &warnings), obj, old)
	return outcome(err, obj, gvk, warnings)
}

func outcome(err error, obj runtime.Object, gvk *schema.GroupVersionKind, warnings recorder) any {
	if err == nil {
		codec := schemes.Codecs(gvk.Group).LegacyCodec(gvk.GroupVersion())
		text, err := runtime.Encode(codec, obj)
		if err == nil {
			obj, err = runtime.Decode(codec, text)
		}
		if err == nil {
			text, err = runtime.Encode(codec, obj)
		}
		if err != nil {
			return map[string]string{"err": err.Error()}
		}
		answer := map[string]any{"object": json.RawMessage(text)}
		if len(warnings) > 0 {
			answer["warnings"] = warnings
		}
		return answer
	}
	st, ok := err.(apierrors.APIStatus)
	if !ok || st.Status().Details == nil || st.Status().Reason != metav1.StatusReasonInvalid {
		return map[string]string{"err": err.Error()}
	}
	list := [][3]string{}
	for _, c := range st.Status().Details.Causes {
		list = append(list, [3]string{c.Field, string(c.Type), c.Message})
	}
	return list
}

func main() {
	capabilities.Setup(true, 0)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 1<<28)
	enc := json.NewEncoder(os.Stdout)
	enc.SetEscapeHTML(false)
	for in.Scan() {
		if err := enc.Encode(answer(in.Bytes())); err != nil {
			panic(err)
		}
	}
}
