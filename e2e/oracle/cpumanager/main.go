// Records which processors upstream gives to containers: the choice alone, and pods one after the other with the state file.
//
//	go run ./cpumanager ../../kubelet/src/cpumanager/testdata
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"sync"
	"time"
	_ "unsafe"

	"github.com/go-logr/logr"
	cadvisor "github.com/google/cadvisor/lib/model"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet/cm/containermap"
	"k8s.io/kubernetes/pkg/kubelet/cm/cpumanager"
	"k8s.io/kubernetes/pkg/kubelet/cm/cpumanager/state"
	"k8s.io/kubernetes/pkg/kubelet/cm/cpumanager/topology"
	"k8s.io/kubernetes/pkg/kubelet/cm/topologymanager"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"
	"k8s.io/utils/cpuset"
)

//go:linkname packed k8s.io/kubernetes/pkg/kubelet/cm/cpumanager.takeByTopologyNUMAPacked
func packed(logger klog.Logger, topo *topology.CPUTopology, available cpuset.CPUSet, n int, sorting cpumanager.CPUSortingStrategy, uncore bool) (cpuset.CPUSet, error)

//go:linkname distributed k8s.io/kubernetes/pkg/kubelet/cm/cpumanager.takeByTopologyNUMADistributed
func distributed(logger klog.Logger, topo *topology.CPUTopology, available cpuset.CPUSet, n int, group int, sorting cpumanager.CPUSortingStrategy, bySocket bool) (cpuset.CPUSet, error)

// A machine: sockets, nodes in a socket (negative: sockets in a node), cores in a node, threads in a core, cores that share a cache.
type shape struct {
	Sockets, Nodes, Cores, Threads, Cache int
	// Threads of a core are neighbours, not half of the machine apart.
	Neighbours bool
}

var shapes = []shape{
	{1, 1, 4, 2, 0, false}, {1, 1, 8, 1, 0, false}, {2, 1, 6, 2, 0, false}, {2, 2, 4, 2, 0, false},
	{2, 4, 4, 2, 0, true}, {1, 4, 2, 2, 0, false}, {4, -2, 4, 2, 0, false}, {1, 1, 16, 2, 4, false},
	{2, 1, 12, 2, 3, true}, {2, 4, 3, 1, 0, false}, {1, 1, 6, 4, 2, false}, {1, 8, 2, 1, 0, true},
}

func (s shape) machine() *cadvisor.MachineInfo {
	nodes, perNode := s.Sockets*max(s.Nodes, 1), 1
	if s.Nodes < 0 {
		nodes, perNode = s.Sockets/-s.Nodes, -s.Nodes
	}
	total := nodes * perNode * s.Cores
	info := &cadvisor.MachineInfo{NumCores: total * s.Threads, NumPhysicalCores: total, NumSockets: s.Sockets}
	core := 0
	for n := range nodes {
		node := cadvisor.Node{Id: n}
		for other := range nodes {
			distance := uint64(10)
			if other != n {
				distance = uint64(20 + 3*((n^other)%3))
			}
			node.Distances = append(node.Distances, distance)
		}
		for at := range perNode {
			socket := n*perNode + at
			if s.Nodes > 0 {
				socket = n / s.Nodes
			}
			for range s.Cores {
				c := cadvisor.Core{Id: core, SocketID: socket}
				for t := range s.Threads {
					if s.Neighbours {
						c.Threads = append(c.Threads, core*s.Threads+t)
					} else {
						c.Threads = append(c.Threads, core+t*total)
					}
				}
				if s.Cache > 0 {
					c.UncoreCaches = []cadvisor.Cache{{Id: core / s.Cache, Level: 3}}
				}
				node.Cores = append(node.Cores, c)
				core++
			}
		}
		info.Topology = append(info.Topology, node)
	}
	return info
}

type machineRecord struct {
	Cpus    [][5]int         `json:"cpus"`
	Sockets int              `json:"sockets"`
	Cores   int              `json:"cores"`
	Nodes   map[int][]uint64 `json:"nodes"`
}

func described(info *cadvisor.MachineInfo) machineRecord {
	topo, err := topology.Discover(logr.Discard(), info)
	must(err)
	out := machineRecord{Sockets: info.NumSockets, Cores: info.NumPhysicalCores, Nodes: map[int][]uint64{}}
	for _, cpu := range topo.CPUDetails.CPUs().List() {
		d := topo.CPUDetails[cpu]
		out.Cpus = append(out.Cpus, [5]int{cpu, d.CoreID, d.SocketID, d.NUMANodeID, d.UncoreCacheID})
	}
	for _, node := range info.Topology {
		out.Nodes[node.Id] = node.Distances
	}
	return out
}

type take struct {
	Machine   int    `json:"machine"`
	Available string `json:"available"`
	Wanted    int    `json:"wanted"`
	Spread    bool   `json:"spread,omitempty"`
	Uncore    bool   `json:"uncore,omitempty"`
	// Zero for the packed choice.
	Group    int    `json:"group,omitempty"`
	BySocket bool   `json:"bySocket,omitempty"`
	Result   string `json:"result"`
	Error    string `json:"error,omitempty"`
}

func (t *take) answer(topo *topology.CPUTopology, available cpuset.CPUSet) bool {
	sorting := cpumanager.CPUSortingStrategyPacked
	if t.Spread {
		sorting = cpumanager.CPUSortingStrategySpread
	}
	type answer struct {
		cpus cpuset.CPUSet
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		var a answer
		if t.Group == 0 {
			a.cpus, a.err = packed(logr.Discard(), topo, available, t.Wanted, sorting, t.Uncore)
		} else {
			a.cpus, a.err = distributed(logr.Discard(), topo, available, t.Wanted, t.Group, sorting, t.BySocket)
		}
		done <- a
	}()
	select {
	case a := <-done:
		t.Result = a.cpus.String()
		if a.err != nil {
			t.Error = a.err.Error()
		}
		return true
	case <-time.After(2 * time.Second):
		// Upstream goes round in circles here.
		fmt.Fprintf(os.Stderr, "no answer: %+v\n", *t)
		return false
	}
}

func takes(out *json.Encoder) {
	random := rand.New(rand.NewSource(1))
	for at, s := range shapes {
		topo, err := topology.Discover(logr.Discard(), s.machine())
		must(err)
		all := topo.CPUDetails.CPUs().List()
		for range 250 {
			var free []int
			part := random.Intn(5)
			for _, cpu := range all {
				if part == 0 || random.Intn(part+1) > 0 {
					free = append(free, cpu)
				}
			}
			available := cpuset.New(free...)
			t := take{Machine: at, Available: available.String(), Wanted: random.Intn(len(all) + 2)}
			switch random.Intn(5) {
			case 0:
				t.Spread = true
			case 1:
				t.Uncore = true
			case 2:
				t.Group = 1
			case 3:
				t.Group = topo.CPUsPerCore()
			}
			t.BySocket = t.Group > 0 && random.Intn(2) == 0
			if t.answer(topo, available) {
				must(out.Encode(t))
			}
		}
	}
}

type container struct {
	Name    string `json:"name"`
	Cpu     string `json:"cpu"`
	Sidecar bool   `json:"sidecar,omitempty"`
	// Its limit of memory is not its request.
	Loose bool `json:"loose,omitempty"`
}

type step struct {
	Pod        string      `json:"pod"`
	Remove     bool        `json:"remove,omitempty"`
	Burstable  bool        `json:"burstable,omitempty"`
	Init       []container `json:"init,omitempty"`
	Containers []container `json:"containers,omitempty"`
	// Processors of the pod as a whole.
	Whole   string `json:"whole,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	State   string `json:"state,omitempty"`
}

type story struct {
	Machine  int               `json:"machine"`
	Policy   string            `json:"policy"`
	Scope    string            `json:"scope"`
	Topology map[string]string `json:"topologyOptions,omitempty"`
	Options  map[string]string `json:"options,omitempty"`
	Reserved string            `json:"reserved,omitempty"`
	Amount   string            `json:"amount"`
	Error    string            `json:"error,omitempty"`
	Steps    []step            `json:"steps,omitempty"`
	// With the gate PodLevelResourceManagers.
	Whole bool `json:"whole,omitempty"`
}

func (s step) object() *v1.Pod {
	one := func(c container) v1.Container {
		list := v1.ResourceList{"cpu": resource.MustParse(c.Cpu), "memory": resource.MustParse("1Mi")}
		out := v1.Container{Name: c.Name, Resources: v1.ResourceRequirements{Requests: list, Limits: list.DeepCopy()}}
		if s.Burstable {
			out.Resources.Limits = nil
		}
		if c.Loose {
			out.Resources.Limits["memory"] = resource.MustParse("2Mi")
		}
		if c.Sidecar {
			always := v1.ContainerRestartPolicyAlways
			out.RestartPolicy = &always
		}
		return out
	}
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: s.Pod, Namespace: "default", UID: types.UID(s.Pod)}}
	if s.Whole != "" {
		list := v1.ResourceList{"cpu": resource.MustParse(s.Whole), "memory": resource.MustParse("64Mi")}
		pod.Spec.Resources = &v1.ResourceRequirements{Requests: list, Limits: list.DeepCopy()}
	}
	for _, c := range s.Init {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, one(c))
	}
	for _, c := range s.Containers {
		pod.Spec.Containers = append(pod.Spec.Containers, one(c))
	}
	return pod
}

// Makes most pods ones with resources of their own, some of them with nothing left for those that share.
func (s *step) whole(random *rand.Rand) {
	if s.Burstable || random.Intn(5) == 0 {
		return
	}
	var sum, init resource.Quantity
	for kind, list := range [][]container{s.Init, s.Containers} {
		for at := range list {
			c := &list[at]
			c.Loose = random.Intn(3) == 0
			cpu := resource.MustParse(c.Cpu)
			if kind == 1 || c.Sidecar {
				sum.Add(cpu)
			} else if cpu.Cmp(init) > 0 {
				init = cpu
			}
		}
	}
	if init.Cmp(sum) > 0 {
		sum = init
	}
	s.Whole = fmt.Sprint(sum.Value() + int64(random.Intn(3)))
	if random.Intn(8) == 0 {
		s.Whole += "500m"
	}
}

type world struct {
	mu   sync.Mutex
	pods []*v1.Pod
}

func (w *world) active() []*v1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*v1.Pod{}, w.pods...)
}

func (w *world) remove(uid string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var left []*v1.Pod
	for _, pod := range w.pods {
		if string(pod.UID) != uid {
			left = append(left, pod)
		}
	}
	w.pods = left
}

type noStatus struct{}

func (noStatus) GetPodStatus(types.UID) (v1.PodStatus, bool) { return v1.PodStatus{}, false }

type ready struct{}

func (ready) AddSource(string) {}
func (ready) AllReady() bool   { return true }

func (s *story) tell(random *rand.Rand) {
	info := shapes[s.Machine].machine()
	dir, err := os.MkdirTemp("", "cpumanager")
	must(err)
	defer os.RemoveAll(dir)
	logger := logr.Discard()
	manager, err := topologymanager.NewManager(logger, info.Topology, s.Policy, s.Scope, s.Topology)
	if err != nil {
		s.Error = err.Error()
		return
	}
	reserved, err := cpuset.Parse(s.Reserved)
	must(err)
	reservation := v1.ResourceList{"cpu": resource.MustParse(s.Amount)}
	cpus, err := cpumanager.NewManager(logger, "static", s.Options, time.Hour, info, reserved, reservation, dir, manager)
	if err != nil {
		s.Error = err.Error()
		return
	}
	w := &world{}
	must(cpus.Start(context.Background(), w.active, ready{}, noStatus{}, nil, containermap.NewContainerMap()))
	manager.AddHintProvider(logger, cpus)
	amounts := []string{"1", "1", "2", "2", "2", "3", "4", "4", "6", "8", "500m", "1500m"}
	some := func(prefix string, n int, sidecars bool) []container {
		var out []container
		for i := range n {
			out = append(out, container{Name: fmt.Sprintf("%s%d", prefix, i), Cpu: amounts[random.Intn(len(amounts))], Sidecar: sidecars && random.Intn(2) == 0})
		}
		return out
	}
	var names []string
	for n := range 12 {
		if len(names) > 0 && random.Intn(3) == 0 {
			at := random.Intn(len(names))
			w.remove(names[at])
			s.Steps = append(s.Steps, step{Pod: names[at], Remove: true})
			names = append(names[:at], names[at+1:]...)
		}
		next := step{Pod: fmt.Sprintf("pod-%d", n), Burstable: random.Intn(6) == 0}
		if random.Intn(3) == 0 {
			next.Init = some("i", 1+random.Intn(2), true)
		}
		next.Containers = some("c", 1+random.Intn(2), false)
		if s.Whole {
			next.whole(random)
		}
		pod := next.object()
		w.mu.Lock()
		w.pods = append(w.pods, pod)
		w.mu.Unlock()
		done := make(chan lifecycle.PodAdmitResult, 1)
		go func() {
			done <- manager.Admit(context.Background(), &lifecycle.PodAdmitAttributes{Pod: pod, Operation: lifecycle.AddOperation})
		}()
		var result lifecycle.PodAdmitResult
		select {
		case result = <-done:
		case <-time.After(5 * time.Second):
			// Upstream goes round in circles here.
			fmt.Fprintf(os.Stderr, "no answer: %+v\n", next)
			return
		}
		next.Reason, next.Message = result.Reason, result.Message
		if result.Admit {
			names = append(names, next.Pod)
		} else {
			w.remove(next.Pod)
		}
		bytes, err := os.ReadFile(filepath.Join(dir, "cpu_manager_state"))
		must(err)
		next.State = string(bytes)
		s.Steps = append(s.Steps, next)
	}
}

func stories(out *json.Encoder) {
	random := rand.New(rand.NewSource(2))
	options := []map[string]string{
		nil, nil, {"full-pcpus-only": "true"}, {"distribute-cpus-across-numa": "true"}, {"align-by-socket": "true"},
		{"distribute-cpus-across-cores": "true"}, {"strict-cpu-reservation": "true"}, {"prefer-align-cpus-by-uncorecache": "true"},
		{"full-pcpus-only": "true", "distribute-cpus-across-numa": "true"},
	}
	policies := []string{"none", "best-effort", "restricted", "single-numa-node"}
	for at := range shapes {
		for _, policy := range policies {
			for range 3 {
				s := story{Machine: at, Policy: policy, Scope: "container", Amount: "1", Options: options[random.Intn(len(options))]}
				if random.Intn(2) == 0 {
					s.Scope = "pod"
				}
				if random.Intn(3) == 0 {
					s.Amount = "1500m"
				} else if random.Intn(3) == 0 {
					s.Reserved = "1"
				}
				if random.Intn(4) == 0 {
					s.Topology = map[string]string{"prefer-closest-numa-nodes": "true"}
				}
				s.tell(random)
				must(out.Encode(s))
			}
		}
	}
	for _, bad := range []story{
		{Options: map[string]string{"x": "true"}}, {Options: map[string]string{"full-pcpus-only": "x"}},
		{Options: map[string]string{"full-pcpus-only": "true", "distribute-cpus-across-cores": "true"}},
		{Options: map[string]string{"distribute-cpus-across-numa": "true", "distribute-cpus-across-cores": "true"}},
		{Options: map[string]string{"prefer-align-cpus-by-uncorecache": "true", "distribute-cpus-across-cores": "1"}},
		{Options: map[string]string{"prefer-align-cpus-by-uncorecache": "true", "distribute-cpus-across-numa": "T"}},
		{Policy: "single-numa-node", Options: map[string]string{"align-by-socket": "true"}}, {Machine: 6, Options: map[string]string{"align-by-socket": "true"}},
		{Amount: "0"}, {Amount: "9"}, {Amount: "1", Reserved: "0-1"}, {Amount: "1", Reserved: "99"},
		{Policy: "x"}, {Policy: "restricted", Scope: "x"}, {Policy: "restricted", Topology: map[string]string{"max-allowable-numa-nodes": "7"}},
		{Policy: "restricted", Topology: map[string]string{"max-allowable-numa-nodes": "x"}}, {Policy: "restricted", Topology: map[string]string{"y": "x"}},
		{Policy: "restricted", Topology: map[string]string{"prefer-closest-numa-nodes": "x"}},
	} {
		if bad.Policy == "" {
			bad.Policy = "best-effort"
		}
		if bad.Scope == "" {
			bad.Scope = "container"
		}
		if bad.Amount == "" {
			bad.Amount = "1"
		}
		bad.tell(random)
		bad.Steps = nil
		must(out.Encode(bad))
	}
}

// Pods with resources of their own.
func whole(out *json.Encoder) {
	must(utilfeature.DefaultMutableFeatureGate.Set("PodLevelResourceManagers=true"))
	random := rand.New(rand.NewSource(3))
	options := []map[string]string{nil, nil, {"full-pcpus-only": "true"}, {"distribute-cpus-across-numa": "true"}, {"strict-cpu-reservation": "true"}}
	for at := range shapes {
		for _, policy := range []string{"none", "best-effort", "restricted", "single-numa-node"} {
			s := story{Whole: true, Machine: at, Policy: policy, Scope: "pod", Amount: "1", Options: options[random.Intn(len(options))]}
			if random.Intn(4) == 0 {
				s.Scope = "container"
			}
			s.tell(random)
			must(out.Encode(s))
		}
	}
}

type checkpoint struct {
	Version int    `json:"version"`
	File    string `json:"file"`
}

// Files of the versions that are read.
func checkpoints(out *json.Encoder) {
	entries := map[string]map[string]string{"pod-1": {"c1": "4,6", "a": "5"}, "pod-2": {"b": "7"}}
	v2 := state.CPUManagerCheckpointV2{PolicyName: "static", DefaultCPUSet: "0-3", Entries: entries}
	v3 := state.CPUManagerCheckpointV3{PolicyName: "static", DefaultCPUSet: "0-3", Entries: entries, PodEntries: state.PodCPUAssignments{}}
	v4 := state.CPUManagerCheckpoint{CheckpointData: state.CPUManagerCheckpointData{PolicyName: "static", DefaultCPUSet: "0-3", Entries: entries}}
	v3Pods := v3
	v3Pods.PodEntries = state.PodCPUAssignments{"pod-1": {CPUSet: cpuset.New(4, 5, 6)}}
	for at, file := range []interface{ MarshalCheckpoint() ([]byte, error) }{&v2, &v3, &v4, &v3Pods} {
		bytes, err := file.MarshalCheckpoint()
		must(err)
		must(out.Encode(checkpoint{[]int{2, 3, 4, 3}[at], string(bytes)}))
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(path string, fill func(*json.Encoder)) {
	file, err := os.Create(path)
	must(err)
	buffer := bufio.NewWriter(file)
	encoder := json.NewEncoder(buffer)
	encoder.SetEscapeHTML(false)
	fill(encoder)
	must(buffer.Flush())
	must(file.Close())
}

func main() {
	klog.SetOutput(io.Discard)
	klog.LogToStderr(false)
	must(utilfeature.DefaultMutableFeatureGate.Set("CPUManagerPolicyAlphaOptions=true"))
	dir := os.Args[1]
	write(filepath.Join(dir, "machines.jsonl"), func(out *json.Encoder) {
		for _, s := range shapes {
			must(out.Encode(described(s.machine())))
		}
	})
	write(filepath.Join(dir, "checkpoints.jsonl"), checkpoints)
	write(filepath.Join(dir, "stories.jsonl"), stories)
	write(filepath.Join(dir, "takes.jsonl"), takes)
	write(filepath.Join(dir, "whole.jsonl"), whole)
}
