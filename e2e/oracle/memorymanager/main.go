// Records which memory upstream gives to containers: pods one after the other, with the state file, alone and together
// with the processors that they get.
//
//	go run ./memorymanager ../../kubelet/src/memorymanager/testdata
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/go-logr/logr"
	cadvisor "github.com/google/cadvisor/lib/model"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/klog/v2"
	config "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/cm/containermap"
	"k8s.io/kubernetes/pkg/kubelet/cm/cpumanager"
	"k8s.io/kubernetes/pkg/kubelet/cm/memorymanager"
	"k8s.io/kubernetes/pkg/kubelet/cm/memorymanager/state"
	"k8s.io/kubernetes/pkg/kubelet/cm/topologymanager"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"
	"k8s.io/utils/cpuset"
)

const file = "memory_manager_state"

func must(err error) {
	if err != nil {
		panic(err)
	}
}

type node struct {
	// Mebibytes.
	Memory uint64 `json:"memory"`
	// Pages by size in kibibytes.
	Pages map[uint64]uint64 `json:"pages,omitempty"`
}

const cores = 4

var machines = [][]node{
	{{Memory: 8192}},
	{{Memory: 8192}, {Memory: 8192}},
	{{Memory: 4096, Pages: map[uint64]uint64{2048: 512}}, {Memory: 16384, Pages: map[uint64]uint64{2048: 512}}},
	{{Memory: 4096, Pages: map[uint64]uint64{2048: 256, 1 << 20: 1}}, {Memory: 4096, Pages: map[uint64]uint64{2048: 256, 1 << 20: 1}}, {Memory: 4096, Pages: map[uint64]uint64{2048: 0, 1 << 20: 0}}, {Memory: 4096, Pages: map[uint64]uint64{2048: 0, 1 << 20: 0}}},
	{{Memory: 4096}, {Memory: 0}, {Memory: 6144}},
}

func info(nodes []node) *cadvisor.MachineInfo {
	out := &cadvisor.MachineInfo{NumCores: cores * len(nodes), NumPhysicalCores: cores * len(nodes), NumSockets: len(nodes)}
	for id, n := range nodes {
		entry := cadvisor.Node{Id: id, Memory: n.Memory << 20}
		for other := range nodes {
			entry.Distances = append(entry.Distances, uint64(10+10*((id^other)%3)))
		}
		for size, count := range n.Pages {
			entry.HugePages = append(entry.HugePages, cadvisor.HugePagesInfo{PageSize: size, NumPages: count})
		}
		for c := range cores {
			entry.Cores = append(entry.Cores, cadvisor.Core{Id: id*cores + c, SocketID: id, Threads: []int{id*cores + c}})
		}
		out.Topology = append(out.Topology, entry)
	}
	return out
}

type container struct {
	Name    string            `json:"name"`
	Amounts map[string]string `json:"amounts"`
	Sidecar bool              `json:"sidecar,omitempty"`
	// Its limit of processors is not its request.
	Loose bool `json:"loose,omitempty"`
}

type step struct {
	Op         string      `json:"op"`
	Pod        string      `json:"pod,omitempty"`
	Container  string      `json:"container,omitempty"`
	Burstable  bool        `json:"burstable,omitempty"`
	Init       []container `json:"init,omitempty"`
	Containers []container `json:"containers,omitempty"`
	// What the pod as a whole asks for.
	Whole   map[string]string `json:"whole,omitempty"`
	Reason  string            `json:"reason,omitempty"`
	Message string            `json:"message,omitempty"`
	State   string            `json:"state,omitempty"`
	Nodes   string            `json:"nodes,omitempty"`
}

type reservation struct {
	Node   int32             `json:"numaNode"`
	Limits map[string]string `json:"limits"`
}

type story struct {
	Machine  int               `json:"machine"`
	Policy   string            `json:"policy"`
	Scope    string            `json:"scope"`
	Cpus     bool              `json:"cpus,omitempty"`
	Reserved []reservation     `json:"reserved"`
	Amounts  map[string]string `json:"amounts"`
	Error    string            `json:"error,omitempty"`
	Steps    []step            `json:"steps,omitempty"`
	// With the gate PodLevelResourceManagers.
	Whole bool `json:"whole,omitempty"`
}

func list(amounts map[string]string) v1.ResourceList {
	out := v1.ResourceList{}
	for name, amount := range amounts {
		out[v1.ResourceName(name)] = resource.MustParse(amount)
	}
	return out
}

func (s step) object() *v1.Pod {
	one := func(c container) v1.Container {
		out := v1.Container{Name: c.Name, Resources: v1.ResourceRequirements{Requests: list(c.Amounts), Limits: list(c.Amounts)}}
		if s.Burstable {
			delete(out.Resources.Limits, "memory")
		}
		if c.Loose {
			out.Resources.Limits["cpu"] = resource.MustParse("9")
		}
		if c.Sidecar {
			always := v1.ContainerRestartPolicyAlways
			out.RestartPolicy = &always
		}
		return out
	}
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: s.Pod, Namespace: "default", UID: types.UID(s.Pod)}}
	if s.Whole != nil {
		pod.Spec.Resources = &v1.ResourceRequirements{Requests: list(s.Whole), Limits: list(s.Whole)}
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
	sum := v1.ResourceList{}
	add := func(all []container) {
		for at := range all {
			all[at].Loose = random.Intn(3) == 0
			for name, amount := range list(all[at].Amounts) {
				old := sum[name]
				old.Add(amount)
				sum[name] = old
			}
		}
	}
	add(s.Init)
	add(s.Containers)
	s.Whole = map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(sum)) {
		amount := sum[name]
		if name == "cpu" {
			amount = *resource.NewQuantity(amount.Value(), resource.DecimalSI)
		} else if random.Intn(2) == 0 {
			amount.Add(resource.MustParse("128Mi"))
		}
		s.Whole[string(name)] = amount.String()
	}
}

type world struct{ pods []*v1.Pod }

func (w *world) active() []*v1.Pod { return append([]*v1.Pod{}, w.pods...) }

func (w *world) remove(uid string) {
	var left []*v1.Pod
	for _, pod := range w.pods {
		if string(pod.UID) != uid {
			left = append(left, pod)
		}
	}
	w.pods = left
}

func (w *world) find(uid string) *v1.Pod {
	for _, pod := range w.pods {
		if string(pod.UID) == uid {
			return pod
		}
	}
	return nil
}

type noStatus struct{}

func (noStatus) GetPodStatus(types.UID) (v1.PodStatus, bool) { return v1.PodStatus{}, false }

type ready struct{}

func (ready) AddSource(string) {}
func (ready) AllReady() bool   { return true }

// Upstream writes a container's blocks in any order.
func normal(dir string) string {
	raw, err := os.ReadFile(filepath.Join(dir, file))
	must(err)
	checkpoint := &state.MemoryManagerCheckpoint{}
	must(checkpoint.UnmarshalCheckpoint(raw))
	must(checkpoint.VerifyChecksum())
	for _, containers := range checkpoint.CheckpointData.Entries {
		for _, blocks := range containers {
			sort.Slice(blocks, func(a, b int) bool { return blocks[a].Type < blocks[b].Type })
		}
	}
	for _, entry := range checkpoint.CheckpointData.PodEntries {
		blocks := entry.MemoryBlocks
		sort.Slice(blocks, func(a, b int) bool { return blocks[a].Type < blocks[b].Type })
	}
	_, err = checkpoint.MarshalCheckpoint()
	must(err)
	return checkpoint.Data
}

type session struct {
	manager topologymanager.Manager
	memory  memorymanager.Manager
}

func (s *story) open(dir string, w *world) (*session, error) {
	machine, logger := info(machines[s.Machine]), logr.Discard()
	manager, err := topologymanager.NewManager(logger, machine.Topology, s.Policy, s.Scope, nil)
	must(err)
	amounts := list(s.Amounts)
	if s.Cpus {
		amounts["cpu"] = resource.MustParse("1")
		cpus, err := cpumanager.NewManager(logger, "static", nil, time.Hour, machine, cpuset.New(), amounts, dir, manager)
		must(err)
		must(cpus.Start(context.Background(), w.active, ready{}, noStatus{}, nil, containermap.NewContainerMap()))
		manager.AddHintProvider(logger, cpus)
	}
	var reserved []config.MemoryReservation
	for _, r := range s.Reserved {
		reserved = append(reserved, config.MemoryReservation{NumaNode: r.Node, Limits: list(r.Limits)})
	}
	memory, err := memorymanager.NewManager(logger, "Static", machine, amounts, reserved, dir, manager)
	if err != nil {
		return nil, err
	}
	if err := memory.Start(context.Background(), w.active, ready{}, noStatus{}, nil, containermap.NewContainerMap()); err != nil {
		return nil, err
	}
	manager.AddHintProvider(logger, memory)
	return &session{manager, memory}, nil
}

func (s *story) tell(random *rand.Rand) {
	dir, err := os.MkdirTemp("", "memorymanager")
	must(err)
	defer os.RemoveAll(dir)
	w := &world{}
	now, err := s.open(dir, w)
	if err != nil {
		s.Error = strings.ReplaceAll(err.Error(), dir, "DIR")
		return
	}
	pages := s.Machine == 2 || s.Machine == 3
	sizes := []string{"256Mi", "512Mi", "1Gi", "1Gi", "1536Mi", "2Gi", "3Gi", "5Gi", "9Gi"}
	some := func(prefix string, n int, sidecars bool) []container {
		var out []container
		for i := range n {
			c := container{Name: fmt.Sprintf("%s%d", prefix, i), Sidecar: sidecars && random.Intn(3) == 0}
			c.Amounts = map[string]string{"cpu": []string{"1", "1", "2", "500m"}[random.Intn(4)], "memory": sizes[random.Intn(len(sizes))]}
			if pages && random.Intn(2) == 0 {
				c.Amounts["hugepages-2Mi"] = []string{"128Mi", "256Mi", "512Mi", "1Gi"}[random.Intn(4)]
			}
			if s.Machine == 3 && random.Intn(4) == 0 {
				c.Amounts["hugepages-1Gi"] = "1Gi"
			}
			out = append(out, c)
		}
		return out
	}
	var names []string
	last := ""
	record := func(next step) {
		// Only what has changed.
		if now := normal(dir); now != last {
			next.State, last = now, now
		}
		s.Steps = append(s.Steps, next)
	}
	for n := range 12 {
		if len(names) > 0 && random.Intn(3) == 0 {
			at := random.Intn(len(names))
			w.remove(names[at])
			record(step{Op: "remove", Pod: names[at]})
			names = append(names[:at], names[at+1:]...)
		}
		if len(names) > 0 && random.Intn(3) == 0 {
			pod := w.find(names[random.Intn(len(names))])
			all := append(append([]v1.Container{}, pod.Spec.InitContainers...), pod.Spec.Containers...)
			c := &all[random.Intn(len(all))]
			now.memory.AddContainer(logr.Discard(), pod, c, string(pod.UID)+c.Name)
			nodes := now.memory.GetMemoryNUMANodes(logr.Discard(), pod, c).UnsortedList()
			record(step{Op: "start", Pod: string(pod.UID), Container: c.Name, Nodes: cpuset.New(nodes...).String()})
		}
		if random.Intn(8) == 0 {
			again, err := s.open(dir, w)
			if err != nil {
				record(step{Op: "restart", Message: strings.ReplaceAll(err.Error(), dir, "DIR")})
				return
			}
			now = again
			record(step{Op: "restart"})
		}
		next := step{Op: "admit", Pod: fmt.Sprintf("pod-%d", n), Burstable: random.Intn(8) == 0}
		if random.Intn(3) == 0 {
			next.Init = some("i", 1+random.Intn(2), true)
		}
		next.Containers = some("c", 1+random.Intn(2), false)
		if s.Whole {
			next.whole(random)
		}
		pod := next.object()
		w.pods = append(w.pods, pod)
		result := now.manager.Admit(context.Background(), &lifecycle.PodAdmitAttributes{Pod: pod, Operation: lifecycle.AddOperation})
		next.Reason, next.Message = result.Reason, result.Message
		if result.Admit {
			names = append(names, next.Pod)
		} else {
			w.remove(next.Pod)
		}
		record(next)
	}
}

func stories(out *json.Encoder) {
	random := rand.New(rand.NewSource(5))
	for at, nodes := range machines {
		for _, policy := range []string{"none", "best-effort", "restricted", "single-numa-node"} {
			for n := range 2 {
				s := story{Machine: at, Policy: policy, Scope: []string{"container", "pod"}[n], Cpus: random.Intn(2) == 0}
				s.Reserved = []reservation{{0, map[string]string{"memory": "512Mi"}}}
				s.Amounts = map[string]string{"memory": "512Mi"}
				if len(nodes) > 1 && random.Intn(2) == 0 {
					last := int32(len(nodes) - 1)
					s.Reserved = append(s.Reserved, reservation{last, map[string]string{"memory": "256Mi"}})
					s.Amounts["memory"] = "768Mi"
				}
				s.tell(random)
				must(out.Encode(s))
			}
		}
	}
	one := func(node int32, limits map[string]string) []reservation { return []reservation{{node, limits}} }
	for _, bad := range []story{
		{Reserved: one(0, map[string]string{"memory": "1Gi"}), Amounts: map[string]string{"memory": "1000Mi"}},
		{Reserved: one(7, map[string]string{"memory": "1Gi"}), Amounts: map[string]string{"memory": "1Gi"}},
		{Amounts: map[string]string{}},
		{Amounts: map[string]string{"memory": "100M"}},
		{Reserved: one(0, map[string]string{"hugepages-2Mi": "2Mi"}), Amounts: map[string]string{}},
		{Reserved: one(0, map[string]string{"memory": "1500m"}), Amounts: map[string]string{"memory": "1500m"}},
	} {
		bad.Policy, bad.Scope = "none", "container"
		bad.tell(random)
		bad.Steps = nil
		must(out.Encode(bad))
	}
}

// Pods with resources of their own.
func whole(out *json.Encoder) {
	must(utilfeature.DefaultMutableFeatureGate.Set("PodLevelResourceManagers=true"))
	random := rand.New(rand.NewSource(6))
	for at := range machines {
		for _, policy := range []string{"none", "best-effort", "restricted", "single-numa-node"} {
			for _, scope := range []string{"container", "pod", "pod"} {
				s := story{Whole: true, Machine: at, Policy: policy, Scope: scope}
				// Without hints a pod that processors are missing for is refused before memory of others is taken back.
				s.Cpus = random.Intn(2) == 0 && policy != "none"
				s.Reserved = []reservation{{0, map[string]string{"memory": "512Mi"}}}
				s.Amounts = map[string]string{"memory": "512Mi"}
				s.tell(random)
				must(out.Encode(s))
			}
		}
	}
}

type checkpoint struct {
	Policy string `json:"policy"`
	File   string `json:"file"`
	Error  string `json:"error,omitempty"`
	// As it is written after it was read.
	Again string `json:"again,omitempty"`
}

// Files of all versions, whole and damaged.
func checkpoints(out *json.Encoder) {
	machine := state.NUMANodeMap{
		0: {NumberOfAssignments: 3, Cells: []int{0}, MemoryMap: map[v1.ResourceName]*state.MemoryTable{
			"memory": {TotalMemSize: 4096, SystemReserved: 512, Allocatable: 3584, Reserved: 1024, Free: 2560}, "hugepages-2Mi": {TotalMemSize: 1 << 21},
		}},
		1:  {MemoryMap: map[v1.ResourceName]*state.MemoryTable{}, Cells: []int{}},
		10: {MemoryMap: map[v1.ResourceName]*state.MemoryTable{"memory": {}}, Cells: []int{2, 10}},
	}
	entries := state.ContainerMemoryAssignments{
		"pod-1": {"c1": {{NUMAAffinity: []int{0, 1}, Type: "memory", Size: 1024}, {NUMAAffinity: []int{0}, Type: "hugepages-2Mi", Size: 0}}, "a": {}},
		"pod-2": {"b": {{NUMAAffinity: []int{10}, Type: "memory", Size: 7}}},
	}
	v1 := state.MemoryManagerCheckpointV1{PolicyName: "Static", MachineState: machine, Entries: entries}
	v2 := state.MemoryManagerCheckpointV2{PolicyName: "Static", MachineState: machine, Entries: entries}
	whole := state.MemoryManagerCheckpointV2{PolicyName: "Static", MachineState: machine, Entries: entries, PodEntries: state.PodMemoryAssignments{
		"pod-1": {MemoryBlocks: []state.Block{{NUMAAffinity: []int{0, 1}, Type: "memory", Size: 4}, {NUMAAffinity: []int{0}, Type: "hugepages-2Mi", Size: 1024}}}, "pod-3": {},
	}}
	pods := state.MemoryManagerCheckpointV2{PolicyName: "Static", MachineState: machine, Entries: entries, PodEntries: state.PodMemoryAssignments{}}
	v3 := state.MemoryManagerCheckpoint{CheckpointData: state.MemoryManagerCheckpointData{PolicyName: "Static", MachineState: machine, Entries: entries}}
	none := state.MemoryManagerCheckpoint{CheckpointData: state.MemoryManagerCheckpointData{PolicyName: "None", MachineState: state.NUMANodeMap{}}}
	files := []string{"", "{", "[]", "{}", `{"policyName":"Static","machineState":{},"checksum":1}`, `{"policyName":"Static","machineState":{},"entries":{},"checksum":0}`}
	for _, version := range []interface{ MarshalCheckpoint() ([]byte, error) }{&v1, &v2, &pods, &v3, &none, &whole} {
		raw, err := version.MarshalCheckpoint()
		must(err)
		files = append(files, string(raw), strings.ReplaceAll(string(raw), "1024", "1025"))
	}
	for _, content := range files {
		for _, policy := range []string{"Static", "None"} {
			dir, err := os.MkdirTemp("", "memorymanager")
			must(err)
			must(os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600))
			c := checkpoint{Policy: policy, File: content}
			if s, err := state.NewCheckpointState(logr.Discard(), dir, file, policy); err != nil {
				c.Error = strings.ReplaceAll(err.Error(), dir, "DIR")
			} else {
				s.Delete("none", "none")
				raw, err := os.ReadFile(filepath.Join(dir, file))
				must(err)
				c.Again = string(raw)
			}
			must(os.RemoveAll(dir))
			must(out.Encode(c))
		}
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
	dir := os.Args[1]
	write(filepath.Join(dir, "machines.jsonl"), func(out *json.Encoder) {
		for _, nodes := range machines {
			must(out.Encode(nodes))
		}
	})
	write(filepath.Join(dir, "checkpoints.jsonl"), checkpoints)
	write(filepath.Join(dir, "stories.jsonl"), stories)
	write(filepath.Join(dir, "whole.jsonl"), whole)
}
