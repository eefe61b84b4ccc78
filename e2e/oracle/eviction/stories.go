package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"slices"
	"sort"
	"time"
	"unsafe"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/kubernetes/pkg/kubelet/eviction"
	evictionapi "k8s.io/kubernetes/pkg/kubelet/eviction/api"
	testingclock "k8s.io/utils/clock/testing"
)

// A story is a configuration, pods, and what happened over time. Steps have levels by signal, and what is gained if
// containers or images are removed; answers are what the manager then did.

//go:linkname synchronize k8s.io/kubernetes/pkg/kubelet/eviction.(*managerImpl).synchronize
func synchronize(m unsafe.Pointer, ctx context.Context, disks eviction.DiskInfoProvider, pods eviction.ActivePodsFunc) ([]*v1.Pod, error)

type level struct {
	Available int64 `json:"available"`
	Capacity  int64 `json:"capacity"`
}

type container struct {
	Name        string `json:"name"`
	Memory      uint64 `json:"memory"`
	LayerBytes  uint64 `json:"layerBytes"`
	LayerInodes uint64 `json:"layerInodes"`
	LogBytes    uint64 `json:"logBytes"`
	LogInodes   uint64 `json:"logInodes"`
}

type figures struct {
	Memory       uint64      `json:"memory"`
	Processes    uint64      `json:"processes"`
	VolumeBytes  uint64      `json:"volumeBytes"`
	VolumeInodes uint64      `json:"volumeInodes"`
	Containers   []container `json:"containers"`
}

type pod struct {
	Pod   *v1.Pod  `json:"pod"`
	Stats *figures `json:"stats,omitempty"`
}

type answer struct {
	Conditions  []string          `json:"conditions"`
	Event       string            `json:"event,omitempty"`
	Removed     []string          `json:"removed"`
	Evicted     string            `json:"evicted,omitempty"`
	Grace       int64             `json:"grace,omitempty"`
	Message     string            `json:"message,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type stepTold struct {
	Second     int64            `json:"second"`
	Levels     map[string]level `json:"levels"`
	Containers int64            `json:"containers"`
	Images     int64            `json:"images"`
	Answer     answer           `json:"answer"`
}

type story struct {
	Layout     string            `json:"layout"`
	Hard       map[string]string `json:"hard"`
	Soft       map[string]string `json:"soft"`
	Grace      map[string]string `json:"grace"`
	Reclaim    map[string]string `json:"reclaim"`
	MaxGrace   int64             `json:"maxGrace"`
	Transition int64             `json:"transition"`
	Pods       []pod             `json:"pods"`
	Steps      []stepTold        `json:"steps"`
}

// What the manager sees and does.
type world struct {
	layout  string
	now     time.Time
	levels  map[string]level
	step    *stepTold
	pods    []pod
	answer  *answer
	updates int
}

func (w *world) HasDedicatedImageFs(context.Context) (bool, error) { return w.layout != "shared", nil }
func (w *world) HasDedicatedContainerFs(context.Context) (bool, error) {
	return w.layout == "split", nil
}
func (w *world) gain(amount int64, signals ...string) {
	for _, signal := range signals {
		at := w.levels[signal]
		at.Available += at.Capacity * amount / 100
		w.levels[signal] = at
	}
}
func (w *world) DeleteAllUnusedContainers(context.Context) error {
	w.answer.Removed = append(w.answer.Removed, "containers")
	if w.layout != "apart" {
		w.gain(w.step.Containers, "nodefs.available", "nodefs.inodesFree")
	}
	if w.layout != "split" {
		w.gain(w.step.Containers, "imagefs.available", "imagefs.inodesFree")
	}
	return nil
}
func (w *world) DeleteUnusedImages(context.Context) error {
	w.answer.Removed = append(w.answer.Removed, "images")
	if w.layout == "shared" {
		w.gain(w.step.Images, "nodefs.available", "nodefs.inodesFree")
	}
	w.gain(w.step.Images, "imagefs.available", "imagefs.inodesFree")
	return nil
}
func (w *world) Event(runtime.Object, string, string, string) { panic("not expected") }
func (w *world) Eventf(_ runtime.Object, _, reason, format string, args ...any) {
	w.answer.Event = reason + ": " + fmt.Sprintf(format, args...)
}
func (w *world) AnnotatedEventf(_ runtime.Object, annotations map[string]string, _, _, format string, args ...any) {
	w.answer.Annotations = annotations
}
func (w *world) kill(pod *v1.Pod, _ bool, grace *int64, fn func(*v1.PodStatus)) error {
	status := v1.PodStatus{}
	fn(&status)
	w.answer.Evicted, w.answer.Grace, w.answer.Message = pod.Name, *grace, status.Message
	condition := status.Conditions[0]
	if condition.Type != v1.DisruptionTarget || condition.Message != status.Message || status.Reason != "Evicted" {
		panic(fmt.Sprintf("%+v", status))
	}
	return nil
}

func (w *world) files(bytes, inodes string) *statsapi.FsStats {
	space, nodes := w.levels[bytes], w.levels[inodes]
	unsigned := func(n int64) *uint64 { u := uint64(n); return &u }
	return &statsapi.FsStats{
		Time: metav1.NewTime(w.now), AvailableBytes: unsigned(space.Available), CapacityBytes: unsigned(space.Capacity),
		InodesFree: unsigned(nodes.Available), Inodes: unsigned(nodes.Capacity),
	}
}
func (w *world) GetCPUAndMemoryStats(context.Context) (*statsapi.Summary, error) { panic("not expected") }
func (w *world) Get(context.Context, bool) (*statsapi.Summary, error) {
	at := metav1.NewTime(w.now)
	memory, pids := w.levels["memory.available"], w.levels["pid.available"]
	available, used := uint64(memory.Available), uint64(memory.Capacity-memory.Available)
	running := pids.Capacity - pids.Available
	node := w.files("nodefs.available", "nodefs.inodesFree")
	images := w.files("imagefs.available", "imagefs.inodesFree")
	layers := images
	if w.layout != "apart" {
		layers = node
	}
	out := &statsapi.Summary{Node: statsapi.NodeStats{
		Memory:  &statsapi.MemoryStats{Time: at, AvailableBytes: &available, WorkingSetBytes: &used},
		Fs:      node,
		Runtime: &statsapi.RuntimeStats{ImageFs: images, ContainerFs: layers},
		Rlimit:  &statsapi.RlimitStats{Time: at, MaxPID: &pids.Capacity, NumOfRunningProcesses: &running},
	}}
	for _, pod := range w.pods {
		if pod.Stats == nil {
			continue
		}
		s := pod.Stats
		told := statsapi.PodStats{
			PodRef:       statsapi.PodReference{UID: string(pod.Pod.UID)},
			Memory:       &statsapi.MemoryStats{WorkingSetBytes: &s.Memory},
			ProcessStats: &statsapi.ProcessStats{ProcessCount: &s.Processes},
			VolumeStats:  []statsapi.VolumeStats{{Name: "scratch", FsStats: statsapi.FsStats{UsedBytes: &s.VolumeBytes, InodesUsed: &s.VolumeInodes}}},
		}
		for i := range s.Containers {
			c := &s.Containers[i]
			told.Containers = append(told.Containers, statsapi.ContainerStats{
				Name:   c.Name,
				Memory: &statsapi.MemoryStats{WorkingSetBytes: &c.Memory},
				Rootfs: &statsapi.FsStats{UsedBytes: &c.LayerBytes, InodesUsed: &c.LayerInodes},
				Logs:   &statsapi.FsStats{UsedBytes: &c.LogBytes, InodesUsed: &c.LogInodes},
			})
		}
		out.Pods = append(out.Pods, told)
	}
	return out, nil
}

var signals = []string{"memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree", "pid.available"}

func pick[T any](random *rand.Rand, all ...T) T { return all[random.Intn(len(all))] }

func configure(random *rand.Rand) story {
	out := story{
		Layout: pick(random, "shared", "shared", "apart", "split"), Hard: map[string]string{}, Soft: map[string]string{}, Grace: map[string]string{},
		Reclaim: map[string]string{}, MaxGrace: int64(random.Intn(60)), Transition: pick[int64](random, 10, 20, 60),
	}
	for _, signal := range signals {
		values := []string{"5%", "10%", "12.5%", "100M", "1000Mi", "3e8"}
		if signal == "nodefs.inodesFree" || signal == "imagefs.inodesFree" || signal == "pid.available" {
			values = []string{"5%", "10%", "5k", "12345", "1Ki"}
		}
		if random.Intn(2) == 0 {
			out.Hard[signal] = pick(random, values...)
		}
		if random.Intn(4) == 0 {
			out.Soft[signal], out.Grace[signal] = pick(random, "15%", "20%"), pick(random, "10s", "30s", "1m")
		}
		if random.Intn(3) == 0 {
			out.Reclaim[signal] = pick(random, "3%", "100", "50M")
		}
	}
	return out
}

func quantities(random *rand.Rand) v1.ResourceList {
	out := v1.ResourceList{}
	if random.Intn(2) == 0 {
		out[v1.ResourceMemory] = resource.MustParse(pick(random, "10Mi", "64M", "128Mi", "1500k", "0.1Gi"))
	}
	if random.Intn(2) == 0 {
		out[v1.ResourceEphemeralStorage] = resource.MustParse(pick(random, "10Mi", "64M", "1Gi", "5k"))
	}
	return out
}

func makePod(random *rand.Rand, i int) pod {
	grace := int64(random.Intn(60))
	name := fmt.Sprintf("p%d", i)
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "n", UID: types.UID(name)}}
	priority := pick[int32](random, 0, 0, 10, 100, 2000001000)
	p.Spec.Priority = &priority
	if random.Intn(2) == 0 {
		p.Spec.TerminationGracePeriodSeconds = &grace
	}
	p.Spec.Volumes = []v1.Volume{{Name: "scratch", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}
	if random.Intn(4) == 0 {
		p.Spec.Resources = &v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceMemory: resource.MustParse(pick(random, "1Mi", "300M"))}}
	}
	always := v1.ContainerRestartPolicyAlways
	for j := 0; j < 1+random.Intn(2); j++ {
		p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: fmt.Sprintf("c%d", j), Resources: v1.ResourceRequirements{Requests: quantities(random)}})
	}
	if random.Intn(3) == 0 {
		p.Spec.InitContainers = []v1.Container{{Name: "side", RestartPolicy: &always, Resources: v1.ResourceRequirements{Requests: quantities(random)}}}
	}
	if random.Intn(8) == 0 {
		return pod{Pod: p}
	}
	amount := func(most int) uint64 { return uint64(pick(random, 0, random.Intn(4096), random.Intn(most), random.Intn(most/1024)*1024)) }
	s := &figures{Processes: amount(100000), VolumeBytes: amount(1 << 30), VolumeInodes: amount(100000)}
	for _, c := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
		one := container{c.Name, amount(1 << 28), amount(1 << 30), amount(100000), amount(1 << 28), amount(2048)}
		s.Containers = append(s.Containers, one)
		s.Memory += one.Memory
	}
	s.Memory += uint64(random.Intn(1 << 20))
	return pod{p, s}
}

func levelsNow(random *rand.Rand, layout string) map[string]level {
	out := map[string]level{}
	for _, signal := range signals {
		capacity := int64(10<<30) + 12345
		if signal == "nodefs.inodesFree" || signal == "imagefs.inodesFree" || signal == "pid.available" {
			capacity = 655360
		}
		out[signal] = level{capacity * pick[int64](random, 1, 4, 6, 9, 11, 14, 17, 30, 60, 60) / 100, capacity}
	}
	if layout == "shared" {
		out["imagefs.available"], out["imagefs.inodesFree"] = out["nodefs.available"], out["nodefs.inodesFree"]
	}
	return out
}

func tell(random *rand.Rand) story {
	out := configure(random)
	for i := 0; i < 5; i++ {
		out.Pods = append(out.Pods, makePod(random, i))
	}
	thresholds := must(eviction.ParseThresholdConfig(nil, out.Hard, out.Soft, out.Grace, out.Reclaim))
	// They come from maps; the order decides which of several is acted upon.
	sort.SliceStable(thresholds, func(i, j int) bool {
		a, b := thresholds[i], thresholds[j]
		at := func(t evictionapi.Threshold) int { return slices.Index(signals, string(t.Signal)) }
		return at(a) < at(b) || at(a) == at(b) && a.GracePeriod < b.GracePeriod
	})
	w := &world{layout: out.Layout, pods: out.Pods}
	clock := testingclock.NewFakeClock(time.Unix(1000, 0))
	config := eviction.Config{Thresholds: thresholds, MaxPodGracePeriodSeconds: out.MaxGrace, PressureTransitionPeriod: time.Duration(out.Transition) * time.Second}
	manager, _ := eviction.NewManager(w, config, w.kill, w, w, w, &v1.ObjectReference{}, clock, false)
	it := (*[2]unsafe.Pointer)(unsafe.Pointer(&manager))[1]
	active := func() []*v1.Pod {
		var all []*v1.Pod
		for _, pod := range out.Pods {
			all = append(all, pod.Pod)
		}
		return all
	}
	for i := 0; i < 8; i++ {
		clock.Step(time.Duration(1+random.Intn(30)) * time.Second)
		told := stepTold{Second: clock.Now().Unix(), Levels: levelsNow(random, out.Layout), Containers: pick[int64](random, 0, 3, 30), Images: pick[int64](random, 0, 5, 90)}
		told.Answer.Removed = []string{}
		w.now, w.step, w.answer = clock.Now(), &told, &told.Answer
		w.levels = map[string]level{}
		for signal, at := range told.Levels {
			w.levels[signal] = at
		}
		must(synchronize(it, context.Background(), w, active))
		told.Answer.Conditions = []string{}
		for name, is := range map[string]bool{"MemoryPressure": manager.IsUnderMemoryPressure(), "DiskPressure": manager.IsUnderDiskPressure(), "PIDPressure": manager.IsUnderPIDPressure()} {
			if is {
				told.Answer.Conditions = append(told.Answer.Conditions, name)
			}
		}
		sort.Strings(told.Answer.Conditions)
		out.Steps = append(out.Steps, told)
	}
	return out
}

func stories() {
	random, out := rand.New(rand.NewSource(1)), json.NewEncoder(os.Stdout)
	for i := 0; i < 1000; i++ {
		must(0, out.Encode(tell(random)))
	}
}
