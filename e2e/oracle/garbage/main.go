// Records which dead containers upstream's kubelet removes, by policy: those on the runtime, the pods that are gone, the
// policy, and the ids of what was removed.
//
//	go run ./garbage > ../../kubelet/src/runtime/testdata/garbage.jsonl
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"sort"
	"time"
	"unsafe"

	cadvisorapi "github.com/google/cadvisor/lib/model"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	apitest "k8s.io/cri-api/pkg/apis/testing"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	containertest "k8s.io/kubernetes/pkg/kubelet/container/testing"
	_ "k8s.io/kubernetes/pkg/kubelet/kuberuntime"
)

//go:linkname newManager k8s.io/kubernetes/pkg/kubelet/kuberuntime.newFakeKubeRuntimeManager
func newManager(ctx context.Context, runtimeService internalapi.RuntimeService, imageService internalapi.ImageManagerService, machineInfo *cadvisorapi.MachineInfo, osInterface kubecontainer.OSInterface, runtimeHelper kubecontainer.RuntimeHelper, tracer trace.Tracer, recorder *record.FakeRecorder) (unsafe.Pointer, error)

//go:linkname newContainerGC k8s.io/kubernetes/pkg/kubelet/kuberuntime.newContainerGC
func newContainerGC(client internalapi.RuntimeService, provider podStateProvider, manager unsafe.Pointer, tracer trace.Tracer) unsafe.Pointer

//go:linkname garbageCollect k8s.io/kubernetes/pkg/kubelet/kuberuntime.(*containerGC).GarbageCollect
func garbageCollect(it unsafe.Pointer, ctx context.Context, policy kubecontainer.GCPolicy, allSourcesReady bool, evictNonDeletedPods bool) error

type podStateProvider interface {
	IsPodTerminationRequested(types.UID) bool
	ShouldPodContentBeRemoved(types.UID) bool
	ShouldPodRuntimeBeRemoved(types.UID) bool
}

type gone map[types.UID]bool

func (g gone) IsPodTerminationRequested(uid types.UID) bool { return g[uid] }
func (g gone) ShouldPodContentBeRemoved(uid types.UID) bool { return g[uid] }
func (g gone) ShouldPodRuntimeBeRemoved(uid types.UID) bool { return g[uid] }

type container struct {
	Pod   string `json:"pod"`
	Name  string `json:"name"`
	ID    string `json:"id"`
	Age   int    `json:"age"`
	State int32  `json:"state"`
}

type found struct {
	Containers []container `json:"containers"`
	Gone       []string    `json:"gone"`
	MinAge     int         `json:"minAge"`
	Per        int         `json:"per"`
	Total      int         `json:"total"`
	Removed    []string    `json:"removed"`
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func one(random *rand.Rand) found {
	ctx, tracer := context.Background(), noop.NewTracerProvider().Tracer("")
	runtime := apitest.NewFakeRuntimeService()
	helper := &containertest.FakeRuntimeHelper{}
	manager := must(newManager(ctx, runtime, apitest.NewFakeImageService(), &cadvisorapi.MachineInfo{}, &containertest.FakeOS{}, helper, tracer, &record.FakeRecorder{}))
	out := found{Gone: []string{}, Removed: []string{}, Per: random.Intn(5) - 1, Total: random.Intn(12) - 1, MinAge: []int{0, 0, 0, 20, 200}[random.Intn(5)]}
	removed := gone{}
	for pod := 0; pod < 4; pod++ {
		if name := fmt.Sprintf("p%d", pod); random.Intn(4) == 0 {
			removed[types.UID(name)] = true
			out.Gone = append(out.Gone, name)
		}
	}
	ages := random.Perm(90)
	now := time.Now()
	var all []*apitest.FakeContainer
	for i := 0; i < random.Intn(16); i++ {
		// Ages are never at the limit, however long this takes.
		c := container{fmt.Sprintf("p%d", random.Intn(4)), string(rune('a' + random.Intn(3))), fmt.Sprintf("c%d", i), ages[i]*7 + 3, []int32{0, 1, 2, 2, 2, 2}[random.Intn(6)]}
		out.Containers = append(out.Containers, c)
		all = append(all, &apitest.FakeContainer{ContainerStatus: runtimeapi.ContainerStatus{
			Id: c.ID, Metadata: &runtimeapi.ContainerMetadata{Name: c.Name}, State: runtimeapi.ContainerState(c.State),
			CreatedAt: now.Add(-time.Duration(c.Age) * time.Second).UnixNano(),
			Labels:    map[string]string{"io.kubernetes.pod.uid": c.Pod, "io.kubernetes.container.name": c.Name, "io.kubernetes.pod.name": c.Pod, "io.kubernetes.pod.namespace": "n"},
		}})
	}
	runtime.SetFakeContainers(all)
	policy := kubecontainer.GCPolicy{MinAge: time.Duration(out.MinAge) * time.Second, MaxPerPodContainer: out.Per, MaxContainers: out.Total}
	it := newContainerGC(runtime, removed, manager, tracer)
	// The folder of logs does not exist; that is told last.
	_ = garbageCollect(it, ctx, policy, true, false)
	for _, c := range out.Containers {
		if _, left := runtime.Containers[c.ID]; !left {
			out.Removed = append(out.Removed, c.ID)
		}
	}
	sort.Strings(out.Removed)
	return out
}

func main() {
	random, out := rand.New(rand.NewSource(1)), json.NewEncoder(os.Stdout)
	for i := 0; i < 300; i++ {
		must(0, out.Encode(one(random)))
	}
}
