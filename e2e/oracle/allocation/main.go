//go:build overlay

// Records what upstream's kubelet promises to pods when they come, change and go, step by step, with the file that it writes;
// and what it would change of pods that run. It needs files laid over upstream's packages: see `make oracle-allocation`.
//
//	allocation stories | gzip -9n > kubelet/src/allocation/testdata/stories.jsonl.gz
//	allocation changes > kubelet/src/allocation/testdata/changes.jsonl
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/go-logr/logr"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet"
	"k8s.io/kubernetes/pkg/kubelet/allocation"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	"k8s.io/kubernetes/pkg/kubelet/config"
	containertest "k8s.io/kubernetes/pkg/kubelet/container/testing"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"
	"k8s.io/kubernetes/pkg/kubelet/metrics"
	kubepod "k8s.io/kubernetes/pkg/kubelet/pod"
	"k8s.io/kubernetes/pkg/kubelet/status"
	statustest "k8s.io/kubernetes/pkg/kubelet/status/testing"
	kubetypes "k8s.io/kubernetes/pkg/kubelet/types"
	kubeletutil "k8s.io/kubernetes/pkg/kubelet/util"
)

// Step is something that happens, and what came of it.
type Step struct {
	Op      string    `json:"op"`
	Pods    []*v1.Pod `json:"pods,omitempty"`
	Flag    bool      `json:"flag,omitempty"`
	Events  []string  `json:"events,omitempty"`
	Synced  []string  `json:"synced,omitempty"`
	Said    []string  `json:"said,omitempty"`
	File    string    `json:"file,omitempty"`
	Metrics []string  `json:"metrics,omitempty"`
}

// Story is a node and what happens on it.
type Story struct {
	Cpus   bool    `json:"cpus,omitempty"`
	Memory bool    `json:"memory,omitempty"`
	Steps  []*Step `json:"steps"`
}

type workers struct{}

func (workers) UpdatePod(context.Context, kubelet.UpdatePodOptions)                      {}
func (workers) SyncKnownPods(klog.Logger, []*v1.Pod) map[types.UID]kubelet.PodWorkerSync { return nil }
func (workers) IsPodKnownTerminated(types.UID) bool                                      { return false }
func (workers) CouldHaveRunningContainers(types.UID) bool                                { return false }
func (workers) ShouldPodBeFinished(types.UID) bool                                       { return false }
func (workers) IsPodTerminationRequested(types.UID) bool                                 { return false }
func (workers) ShouldPodContainersBeTerminating(types.UID) bool                          { return false }
func (workers) ShouldPodRuntimeBeRemoved(types.UID) bool                                 { return false }
func (workers) ShouldPodContentBeRemoved(types.UID) bool                                 { return false }
func (workers) IsPodForMirrorPodTerminatingByFullName(string) bool                       { return false }

// A node with a kubelet.
type node struct {
	folder   string
	story    *Story
	ctx      context.Context
	ready    bool
	blocked  bool
	synced   []string
	kubelet  *kubelet.Kubelet
	pods     kubepod.Manager
	statuses status.Manager
	manager  allocation.Manager
	recorder *record.FakeRecorder
	file     string
	known    map[types.UID]*v1.Pod
}

type gate struct{ node *node }

func (g gate) Admit(_ context.Context, attrs *lifecycle.PodAdmitAttributes) lifecycle.PodAdmitResult {
	if g.node.blocked {
		return lifecycle.PodAdmitResult{Reason: "Evicted", Message: "The node had condition: [DiskPressure]. "}
	}
	return lifecycle.PodAdmitResult{Admit: true}
}

func getNode(context.Context, bool) (*v1.Node, error) {
	all := v1.ResourceList{v1.ResourceCPU: resource.MustParse("4"), v1.ResourceMemory: resource.MustParse("4Gi"), v1.ResourcePods: resource.MustParse("40")}
	return &v1.Node{Status: v1.NodeStatus{Capacity: all, Allocatable: all}}, nil
}

func (n *node) start() {
	n.pods = kubepod.NewBasicPodManager()
	n.statuses = status.NewManager(&fake.Clientset{}, n.pods, &statustest.FakePodDeletionSafetyProvider{}, kubeletutil.NewPodStartupLatencyTracker())
	n.recorder = record.NewFakeRecorder(1000)
	ready := config.NewSourcesReady(func(sets.Set[string]) bool { return n.ready })
	n.kubelet = kubelet.Oracle(n.pods, n.statuses, workers{}, ready, n.recorder, func(kl *kubelet.Kubelet) allocation.Manager {
		sync := func(_ context.Context, pod *v1.Pod) { n.synced = append(n.synced, string(pod.UID)) }
		manager := allocation.NewManager(n.folder, n.statuses, sync, kl.GetActivePods, n.pods.GetPodByUID, ready, n.recorder, logr.Discard())
		settings := cm.NodeConfig{CPUManagerPolicy: "none", MemoryManagerPolicy: "None", CgroupVersion: 2}
		if n.story.Cpus {
			settings.CPUManagerPolicy = "static"
		}
		if n.story.Memory {
			settings.MemoryManagerPolicy = "Static"
		}
		containers := cm.NewFakeContainerManagerWithNodeConfig(settings)
		room := lifecycle.NewPredicateAdmitHandler(getNode, lifecycle.NewAdmissionFailureHandlerStub(), containers.UpdatePluginResources)
		resizes := allocation.NewPodResizesAdmitHandler(containers, &containertest.FakeRuntime{}, manager)
		manager.AddPodAdmitHandlers(lifecycle.PodAdmitHandlers{resizes, gate{n}, room})
		n.manager = manager
		return manager
	})
}

var random = rand.New(rand.NewSource(1))

func pick[T any](all ...T) T { return all[random.Intn(len(all))] }

func list(cpu, memory string) v1.ResourceList {
	out := v1.ResourceList{}
	if cpu != "" {
		out[v1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		out[v1.ResourceMemory] = resource.MustParse(memory)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func some() v1.ResourceRequirements {
	cpu := pick("100m", "200m", "500m", "1", "1500m", "2", "3")
	memory := pick("64Mi", "256Mi", "500M", "1Gi", "1536Mi", "2Gi")
	switch random.Intn(5) {
	case 0, 1:
		return v1.ResourceRequirements{Requests: list(cpu, memory), Limits: list(cpu, memory)}
	case 2:
		return v1.ResourceRequirements{Requests: list(cpu, ""), Limits: list("", memory)}
	case 3:
		return v1.ResourceRequirements{Requests: list(cpu, memory)}
	}
	return v1.ResourceRequirements{Requests: list("100m", "64Mi"), Limits: list(cpu, memory)}
}

var count int

func newPod() *v1.Pod {
	count++
	name := fmt.Sprintf("p%d", count)
	pod := &v1.Pod{ObjectMeta: meta.ObjectMeta{Name: name, Namespace: "n", UID: types.UID(name + "-uid"), Generation: 1, CreationTimestamp: meta.Unix(int64(count), 0),
		Annotations: map[string]string{kubetypes.ConfigSourceAnnotationKey: kubetypes.ApiserverSource}},
		Status: v1.PodStatus{Phase: v1.PodPending}}
	for i := range 1 + random.Intn(2) {
		pod.Spec.Containers = append(pod.Spec.Containers, v1.Container{Name: fmt.Sprintf("c%d", i), Resources: some()})
	}
	if random.Intn(3) == 0 {
		init := v1.Container{Name: "init", Resources: some()}
		if random.Intn(2) == 0 {
			always := v1.ContainerRestartPolicyAlways
			init.RestartPolicy = &always
		}
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, init)
	}
	if random.Intn(5) == 0 {
		level := some()
		pod.Spec.Resources = &level
	}
	if random.Intn(2) == 0 {
		priority := pick(int32(-5000), -7, 0, 10, 200000, 2000000000)
		pod.Spec.Priority = &priority
	}
	return pod
}

func (n *node) any() *v1.Pod {
	var all []string
	for uid := range n.known {
		all = append(all, string(uid))
	}
	if len(all) == 0 {
		return nil
	}
	sort.Strings(all)
	return n.known[types.UID(pick(all...))].DeepCopy()
}

// As the API server shows them: what the kubelet said goes into the pods.
func (n *node) shown(pod *v1.Pod) {
	pod.Status.Conditions = nil
	for _, c := range n.statuses.GetPodResizeConditions(pod.UID) {
		pod.Status.Conditions = append(pod.Status.Conditions, v1.PodCondition{Type: c.Type, Status: c.Status, Reason: c.Reason, Message: c.Message, ObservedGeneration: c.ObservedGeneration})
	}
}

func actuate(pod, allocated *v1.Pod) {
	pod.Status.Phase = v1.PodRunning
	pod.Status.ContainerStatuses = nil
	for _, c := range allocated.Spec.Containers {
		has := c.Resources.DeepCopy()
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, v1.ContainerStatus{Name: c.Name, Resources: has, AllocatedResources: c.Resources.Requests})
	}
}

func (n *node) step(op string) *Step {
	s := &Step{Op: op}
	switch op {
	case "add":
		s.Pods = []*v1.Pod{newPod()}
	case "update", "revert":
		pod := n.any()
		if pod == nil {
			return nil
		}
		pod.Generation++
		if op == "revert" {
			pod, _ = n.manager.UpdatePodFromAllocation(pod)
			pod = pod.DeepCopy()
		} else if pod.Spec.Resources != nil && random.Intn(2) == 0 {
			level := some()
			pod.Spec.Resources = &level
		} else {
			pod.Spec.Containers[random.Intn(len(pod.Spec.Containers))].Resources = some()
			if len(pod.Spec.InitContainers) > 0 && random.Intn(3) == 0 {
				pod.Spec.InitContainers[0].Resources = some()
			}
		}
		s.Pods = []*v1.Pod{pod}
	case "actuated", "ended":
		pod := n.any()
		if pod == nil {
			return nil
		}
		n.shown(pod)
		if op == "ended" {
			pod.Status.Phase = pick(v1.PodFailed, v1.PodSucceeded)
		} else {
			allocated, _ := n.manager.UpdatePodFromAllocation(pod)
			actuate(pod, allocated)
		}
		s.Pods = []*v1.Pod{pod}
	case "remove":
		pod := n.any()
		if pod == nil {
			return nil
		}
		s.Pods = []*v1.Pod{pod}
	case "restart":
		var names []string
		for uid := range n.known {
			names = append(names, string(uid))
		}
		sort.Slice(names, func(i, j int) bool {
			return n.known[types.UID(names[i])].CreationTimestamp.Before(&n.known[types.UID(names[j])].CreationTimestamp)
		})
		for _, uid := range names {
			pod := n.known[types.UID(uid)].DeepCopy()
			n.shown(pod)
			s.Pods = append(s.Pods, pod)
		}
	case "block", "ready":
		s.Flag = !map[string]bool{"block": n.blocked, "ready": n.ready}[op]
	}
	n.run(s)
	return s
}

func copies(all []*v1.Pod) (out []*v1.Pod) {
	for _, pod := range all {
		out = append(out, pod.DeepCopy())
	}
	return
}

func (n *node) run(s *Step) {
	n.synced = nil
	before := counters()
	for _, pod := range s.Pods {
		if s.Op == "remove" {
			delete(n.known, pod.UID)
		} else {
			n.known[pod.UID] = pod.DeepCopy()
		}
	}
	pods := copies(s.Pods)
	switch s.Op {
	case "add":
		n.kubelet.HandlePodAdditions(n.ctx, pods)
	case "update", "revert":
		n.kubelet.HandlePodUpdates(n.ctx, pods)
	case "actuated", "ended":
		n.kubelet.HandlePodReconcile(n.ctx, pods)
	case "remove":
		n.kubelet.HandlePodRemoves(n.ctx, pods)
	case "restart":
		n.start()
		n.ready = false
		n.kubelet.HandlePodAdditions(n.ctx, pods)
		n.ready = true
		remaining := sets.New[types.UID]()
		for uid := range n.known {
			remaining.Insert(uid)
		}
		n.manager.RemoveOrphanedPods(remaining)
	case "block":
		n.blocked = s.Flag
	case "tick":
		n.manager.RetryPendingResizes(n.ctx, "periodic_retry")
	}
	for len(n.recorder.Events) > 0 {
		// What the node declares is another handler's.
		if event := <-n.recorder.Events; !strings.Contains(event, "FailedNodeDeclaredFeaturesCheck") {
			s.Events = append(s.Events, event)
		}
	}
	s.Synced = n.synced
	var names []string
	for uid := range n.known {
		names = append(names, string(uid))
	}
	sort.Strings(names)
	for _, uid := range names {
		for _, c := range n.statuses.GetPodResizeConditions(types.UID(uid)) {
			s.Said = append(s.Said, fmt.Sprintf("%s %s %s %q %d", uid, c.Type, c.Reason, c.Message, c.ObservedGeneration))
		}
	}
	file, err := os.ReadFile(filepath.Join(n.folder, "allocated_pods_state"))
	if err != nil && !os.IsNotExist(err) {
		panic(err)
	}
	if string(file) != n.file {
		n.file, s.File = string(file), string(file)
	}
	for name, value := range counters() {
		if gauge := strings.Contains(name, "pending_resizes") || strings.Contains(name, "in_progress"); gauge && value != 0 {
			s.Metrics = append(s.Metrics, fmt.Sprintf("%s %v", name, value))
		} else if !gauge && value != before[name] {
			s.Metrics = append(s.Metrics, fmt.Sprintf("%s +%v", name, value-before[name]))
		}
	}
	sort.Strings(s.Metrics)
}

func counters() map[string]float64 {
	out := map[string]float64{}
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		panic(err)
	}
	for _, family := range families {
		name := family.GetName()
		if !strings.Contains(name, "resize") {
			continue
		}
		for _, m := range family.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			value := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			out[fmt.Sprintf("%s{%s}", name, strings.Join(labels, ","))] = value
		}
	}
	return out
}

func stories(out *json.Encoder) {
	metrics.Register()
	for i := range 30 {
		folder, err := os.MkdirTemp("", "allocation")
		if err != nil {
			panic(err)
		}
		story := &Story{Cpus: i%5 == 3, Memory: i%7 == 3}
		n := &node{folder: folder, story: story, ctx: klog.NewContext(context.Background(), logr.Discard()), ready: true, known: map[types.UID]*v1.Pod{}}
		n.start()
		for range 60 {
			op := pick("add", "add", "add", "update", "update", "update", "update", "update", "update", "revert", "actuated", "actuated", "actuated", "ended", "remove", "remove", "restart", "block", "tick")
			if n.blocked && random.Intn(2) == 0 {
				op = "block"
			}
			if s := n.step(op); s != nil {
				story.Steps = append(story.Steps, s)
			}
			time.Sleep(time.Millisecond)
		}
		if err := out.Encode(story); err != nil {
			panic(err)
		}
		// The next story's gauges begin at nothing.
		metrics.PodPendingResizes.Reset()
		metrics.PodInProgressResizes.Set(0)
		_ = os.RemoveAll(folder)
	}
}

func main() {
	to := bufio.NewWriter(os.Stdout)
	defer func() { _ = to.Flush() }()
	out := json.NewEncoder(to)
	out.SetEscapeHTML(false)
	switch os.Args[1] {
	case "stories":
		stories(out)
	case "changes":
		changes(out)
	}
}
