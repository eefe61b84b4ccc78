// Upstream's scheduling framework behind standard input: one cluster with its pending pods a line, what the default
// profile says about each pod a line. Nothing is cut short: every node is filtered, every fitting node scored.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourceapi "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/wait"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/events"
	"k8s.io/component-base/featuregate"
	"k8s.io/dynamic-resource-allocation/deviceclass/extendedresourcecache"
	resourceslicetracker "k8s.io/dynamic-resource-allocation/resourceslice/tracker"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/features"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	configscheme "k8s.io/kubernetes/pkg/scheduler/apis/config/scheme"
	internalcache "k8s.io/kubernetes/pkg/scheduler/backend/cache"
	internalqueue "k8s.io/kubernetes/pkg/scheduler/backend/queue"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/dynamicresources"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodevolumelimits"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/metrics"
	"k8s.io/kubernetes/pkg/scheduler/util/assumecache"
)

type question struct {
	Gates      map[string]bool                 `json:"gates,omitempty"`
	Config     json.RawMessage                 `json:"config,omitempty"`
	Nodes      []*v1.Node                      `json:"nodes"`
	Placed     []*v1.Pod                       `json:"placed"`
	Namespaces []*v1.Namespace                 `json:"namespaces"`
	Services   []*v1.Service                   `json:"services"`
	Sets       []*appsv1.ReplicaSet            `json:"replicaSets"`
	Claims     []*v1.PersistentVolumeClaim     `json:"claims"`
	Volumes    []*v1.PersistentVolume          `json:"volumes"`
	Classes    []*storagev1.StorageClass       `json:"classes"`
	CSINodes   []*storagev1.CSINode            `json:"csiNodes"`
	CSIDrivers []*storagev1.CSIDriver          `json:"csiDrivers"`
	Capacities []*storagev1.CSIStorageCapacity `json:"capacities"`
	Budgets    []*policyv1.PodDisruptionBudget `json:"budgets"`
	Slices     []*resourceapi.ResourceSlice    `json:"slices"`
	Devices    []*resourceapi.DeviceClass      `json:"deviceClasses"`
	Resources  []*resourceapi.ResourceClaim    `json:"resourceClaims"`
	Pods       []*v1.Pod                       `json:"pods"`
}

type refusal struct {
	Code    string   `json:"code"`
	Plugin  string   `json:"plugin"`
	Reasons []string `json:"reasons"`
}

type answer struct {
	Error     string                      `json:"error,omitempty"`
	PreFilter *refusal                    `json:"preFilter,omitempty"`
	Refused   map[string]refusal          `json:"refused,omitempty"`
	Scores    map[string]map[string]int64 `json:"scores,omitempty"`
	Total     map[string]int64            `json:"total,omitempty"`
	Message   string                      `json:"message,omitempty"`
	Nominated string                      `json:"nominated,omitempty"`
}

func add[T runtime.Object](objects []runtime.Object, list []T) []runtime.Object {
	for _, o := range list {
		objects = append(objects, o)
	}
	return objects
}

func refused(s *fwk.Status) refusal {
	return refusal{Code: s.Code().String(), Plugin: s.Plugin(), Reasons: s.Reasons()}
}

func profiles(raw json.RawMessage) ([]config.KubeSchedulerProfile, error) {
	if len(raw) == 0 {
		raw = []byte(`{"apiVersion":"kubescheduler.config.k8s.io/v1","kind":"KubeSchedulerConfiguration"}`)
	}
	object, _, err := configscheme.Codecs.UniversalDecoder().Decode(raw, nil, nil)
	if err != nil {
		return nil, err
	}
	return object.(*config.KubeSchedulerConfiguration).Profiles, nil
}

type cluster struct {
	framework framework.Framework
	nodes     []fwk.NodeInfo
	snapshot  *internalcache.Snapshot
}

func build(ctx context.Context, q *question) (*cluster, error) {
	var objects []runtime.Object
	objects = add(objects, q.Nodes)
	objects = add(objects, q.Placed)
	objects = add(objects, q.Pods)
	objects = add(objects, q.Namespaces)
	objects = add(objects, q.Services)
	objects = add(objects, q.Sets)
	objects = add(objects, q.Claims)
	objects = add(objects, q.Volumes)
	objects = add(objects, q.Classes)
	objects = add(objects, q.CSINodes)
	objects = add(objects, q.CSIDrivers)
	objects = add(objects, q.Capacities)
	objects = add(objects, q.Budgets)
	objects = add(objects, q.Slices)
	objects = add(objects, q.Devices)
	objects = add(objects, q.Resources)
	client := fake.NewSimpleClientset(objects...)
	factory := informers.NewSharedInformerFactory(client, 0)
	snapshot := internalcache.NewSnapshot(q.Placed, q.Nodes)
	chosen, err := profiles(q.Config)
	if err != nil {
		return nil, err
	}
	claims := assumecache.NewAssumeCache(klog.FromContext(ctx), factory.Resource().V1().ResourceClaims().Informer(), "ResourceClaim", "", nil)
	tracker, err := resourceslicetracker.StartTracker(ctx, resourceslicetracker.Options{
		EnableConsumableCapacity: utilfeature.DefaultFeatureGate.Enabled(features.DRAConsumableCapacity),
		SliceInformer:            factory.Resource().V1().ResourceSlices(),
		KubeClient:               client,
	})
	if err != nil {
		return nil, err
	}
	queue := internalqueue.NewPriorityQueue(nil, factory)
	manager := dynamicresources.NewDRAManager(ctx, claims, tracker, factory)
	classes := manager.DeviceClassResolver().(*extendedresourcecache.ExtendedResourceCache)
	if _, err := factory.Resource().V1().DeviceClasses().Informer().AddEventHandler(classes); err != nil {
		return nil, err
	}
	f, err := frameworkruntime.NewFramework(ctx, plugins.NewInTreeRegistry(), &chosen[0],
		frameworkruntime.WithClientSet(client),
		frameworkruntime.WithInformerFactory(factory),
		frameworkruntime.WithSnapshotSharedLister(snapshot),
		frameworkruntime.WithMutableSnapshotLister(snapshot),
		frameworkruntime.WithPodNominator(queue),
		frameworkruntime.WithPodActivator(queue),
		frameworkruntime.WithEventRecorder(events.NewFakeRecorder(10000)),
		frameworkruntime.WithSharedDRAManager(manager),
		frameworkruntime.WithSharedCSIManager(nodevolumelimits.NewCSIManager(factory.Storage().V1().CSINodes().Lister())),
		frameworkruntime.WithWaitingPods(frameworkruntime.NewWaitingPodsMap()),
		frameworkruntime.WithPodsInPreBind(frameworkruntime.NewPodsInPreBindMap()),
		frameworkruntime.WithMetricsRecorder(metrics.NewMetricsAsyncRecorder(1000, time.Hour, ctx.Done())),
	)
	if err != nil {
		return nil, err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	if err := settled(ctx, q, manager); err != nil {
		return nil, err
	}
	nodes, err := snapshot.NodeInfos().List()
	return &cluster{framework: f, nodes: nodes, snapshot: snapshot}, err
}

// settled waits until what follows the informers has seen everything: it works on its own goroutines.
func settled(ctx context.Context, q *question, manager fwk.SharedDRAManager) error {
	held := sets.New[string]()
	for _, claim := range q.Resources {
		if claim.Status.Allocation == nil {
			continue
		}
		for _, r := range claim.Status.Allocation.Devices.Results {
			held.Insert(r.Driver + "/" + r.Pool + "/" + r.Device)
		}
	}
	return wait.PollUntilContextTimeout(ctx, time.Millisecond, 10*time.Second, true, func(context.Context) (bool, error) {
		slices, err := manager.ResourceSlices().ListWithDeviceTaintRules()
		if err != nil || len(slices) != len(q.Slices) {
			return false, err
		}
		for _, class := range q.Devices {
			if manager.DeviceClassResolver().GetDeviceClass(v1.ResourceName(resourceapi.ResourceDeviceClassPrefix+class.Name)) == nil {
				return false, nil
			}
		}
		for _, claim := range q.Resources {
			if _, err := manager.ResourceClaims().Get(claim.Namespace, claim.Name); err != nil {
				return false, nil
			}
		}
		state, err := manager.ResourceClaims().GatherAllocatedState()
		if err != nil {
			return false, nil
		}
		known := sets.New[string]()
		for device := range state.AllocatedDevices {
			known.Insert(device.String())
		}
		for share := range state.AllocatedSharedDeviceIDs {
			known.Insert(share.GetDeviceID().String())
		}
		return known.Len() == held.Len(), nil
	})
}

func (c *cluster) ask(ctx context.Context, pod *v1.Pod) (a answer) {
	state := framework.NewCycleState()
	diagnosis := framework.Diagnosis{NodeToStatus: framework.NewDefaultNodeToStatus()}
	allowed, status, unschedulable := c.framework.RunPreFilterPlugins(ctx, state, pod)
	diagnosis.UnschedulablePlugins = unschedulable
	if !status.IsSuccess() {
		if !status.IsRejected() {
			return answer{Error: status.AsError().Error()}
		}
		diagnosis.NodeToStatus.SetAbsentNodesStatus(status)
		diagnosis.PreFilterMsg = status.Message()
		r := refused(status)
		a.PreFilter = &r
		return c.unfit(ctx, state, pod, diagnosis, a)
	}
	nodes := c.nodes
	if !allowed.AllNodes() {
		nodes = nil
		for name := range allowed.NodeNames {
			if info, err := c.snapshot.Get(name); err == nil {
				nodes = append(nodes, info)
			}
		}
		diagnosis.NodeToStatus.SetAbsentNodesStatus(fwk.NewStatus(fwk.UnschedulableAndUnresolvable, fmt.Sprintf("node(s) didn't satisfy plugin(s) %v", sets.List(unschedulable))))
	}
	a.Refused = map[string]refusal{}
	var fitting []fwk.NodeInfo
	for _, node := range nodes {
		status := c.framework.RunFilterPluginsWithNominatedPods(ctx, state, pod, node)
		switch {
		case status.IsSuccess():
			fitting = append(fitting, node)
		case status.IsRejected():
			a.Refused[node.Node().Name] = refused(status)
			diagnosis.NodeToStatus.Set(node.Node().Name, status)
		default:
			return answer{Error: status.AsError().Error()}
		}
	}
	if len(fitting) == 0 {
		return c.unfit(ctx, state, pod, diagnosis, a)
	}
	if status := c.framework.RunPreScorePlugins(ctx, state, pod, fitting); !status.IsSuccess() {
		return answer{Error: status.AsError().Error()}
	}
	scores, status := c.framework.RunScorePlugins(ctx, state, pod, fitting)
	if !status.IsSuccess() {
		return answer{Error: status.AsError().Error()}
	}
	a.Scores, a.Total = map[string]map[string]int64{}, map[string]int64{}
	for _, node := range scores {
		own := map[string]int64{}
		for _, s := range node.Scores {
			own[s.Name] = s.Score
		}
		a.Scores[node.Name], a.Total[node.Name] = own, node.TotalScore
	}
	return a
}

func (c *cluster) unfit(ctx context.Context, state fwk.CycleState, pod *v1.Pod, diagnosis framework.Diagnosis, a answer) answer {
	result, status := c.framework.RunPostFilterPlugins(ctx, state, pod, diagnosis.NodeToStatus)
	diagnosis.PostFilterMsg = status.Message()
	if result != nil && result.NominatingInfo != nil {
		a.Nominated = result.NominatedNodeName
	}
	err := framework.FitError{Pod: pod, NumAllNodes: len(c.nodes), Diagnosis: diagnosis}
	a.Message = err.Error()
	return a
}

// gate switches features for one cluster.
func gate(wanted map[string]bool) (restore func()) {
	before := map[string]bool{}
	for name := range wanted {
		before[name] = utilfeature.DefaultFeatureGate.Enabled(featuregate.Feature(name))
	}
	set := func(to map[string]bool) {
		if err := utilfeature.DefaultMutableFeatureGate.SetFromMap(to); err != nil {
			panic(err)
		}
	}
	set(wanted)
	return func() { set(before) }
}

func main() {
	metrics.Register()
	klog.LogToStderr(false)
	klog.SetOutput(nil)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for in.Scan() {
		var q question
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			panic(err)
		}
		restore := gate(q.Gates)
		sort.Slice(q.Nodes, func(i, j int) bool { return q.Nodes[i].Name < q.Nodes[j].Name })
		ctx, cancel := context.WithCancel(context.Background())
		c, err := build(ctx, &q)
		answers := make([]answer, len(q.Pods))
		for i, pod := range q.Pods {
			if err != nil {
				answers[i] = answer{Error: err.Error()}
				continue
			}
			answers[i] = c.ask(ctx, pod)
			if answers[i].Message != "" && len(q.Resources) > 0 {
				// A claim may have been freed for the pod; the next one finds everything as it was.
				cancel()
				ctx, cancel = context.WithCancel(context.Background())
				c, err = build(ctx, &q)
			}
		}
		cancel()
		restore()
		text, err := json.Marshal(answers)
		if err != nil {
			panic(err)
		}
		out.Write(append(text, '\n'))
		out.Flush()
	}
}
