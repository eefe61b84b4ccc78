// Records what upstream's manager of claimed devices does, step by step, and checkpoints as it writes them.
//
//	go run ./dra stories > ../../kubelet/src/dra/testdata/stories.jsonl
//	go run ./dra health > ../../kubelet/src/dra/testdata/health.json
//	go run ./dra checkpoints > ../../kubelet/src/dra/testdata/checkpoints.jsonl
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	_ "unsafe" // for go:linkname

	"github.com/go-logr/logr"
	core "k8s.io/api/core/v1"
	resource "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	feature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet/cm/dra"
	"k8s.io/kubernetes/pkg/kubelet/cm/dra/state"
)

//go:linkname reconcile k8s.io/kubernetes/pkg/kubelet/cm/dra.(*Manager).reconcileLoop
func reconcile(m *dra.Manager, ctx context.Context)

// Step is something that happens, and what came of it.
type Step struct {
	Op        string                  `json:"op"`
	Driver    *Driver                 `json:"driver,omitempty"`
	Claim     *resource.ResourceClaim `json:"claim,omitempty"`
	Pod       *core.Pod               `json:"pod,omitempty"`
	Container string                  `json:"container,omitempty"`
	Active    []string                `json:"active,omitempty"`
	Report    []Reported              `json:"report,omitempty"`

	Error string                 `json:"error,omitempty"`
	Calls []string               `json:"calls,omitempty"`
	Kept  []state.ClaimInfoState `json:"kept,omitempty"`
	File  string                 `json:"file,omitempty"`
	CDI   []string               `json:"cdi,omitempty"`
	Might bool                   `json:"might,omitempty"`
	Infos []string               `json:"infos,omitempty"`
	Told  []string               `json:"told,omitempty"`

	Status  []core.ResourceStatus `json:"status,omitempty"`
	Healths map[string]any        `json:"healths,omitempty"`
}

// Story is a row of steps, with feature gates.
type Story struct {
	Name  string `json:"name"`
	Gates string `json:"gates,omitempty"`
	Steps []Step `json:"steps"`
}

type ready struct{ all bool }

func (r *ready) AddSource(string) {}
func (r *ready) AllReady() bool   { return r.all }

// world is a node.
type world struct {
	ctx     context.Context
	dir     string
	client  *fake.Clientset
	manager *dra.Manager
	drivers map[string]*plugin
	sockets map[string]string
	streams map[string]*stream
	active  []string
	ready   *ready
}

func (w *world) start() {
	manager, err := dra.NewManager(logr.Discard(), w.client, w.dir)
	if err != nil {
		panic(err)
	}
	pods := func() []*core.Pod {
		var out []*core.Pod
		for _, uid := range w.active {
			out = append(out, &core.Pod{ObjectMeta: meta.ObjectMeta{UID: types.UID(uid)}})
		}
		return out
	}
	node := func(context.Context) (*core.Node, error) {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "nodes"}, "n")
	}
	w.ready = &ready{}
	if err := manager.Start(w.ctx, pods, node, w.ready); err != nil {
		panic(err)
	}
	w.manager = manager
}

func (w *world) register(driver Driver) error {
	known := w.drivers[driver.Name]
	if known == nil {
		known = &plugin{does: driver}
		w.drivers[driver.Name] = known
		w.sockets[driver.Name] = known.serve(w.dir)
	}
	return w.manager.GetWatcherHandler().RegisterPlugin(w.ctx, driver.Name, w.sockets[driver.Name], driver.Versions, nil)
}

func (w *world) put(claim *resource.ResourceClaim) error {
	claims := w.client.ResourceV1().ResourceClaims(claim.Namespace)
	_ = claims.Delete(w.ctx, claim.Name, meta.DeleteOptions{})
	_, err := claims.Create(w.ctx, claim, meta.CreateOptions{})
	return err
}

func (w *world) run(step *Step) error {
	switch step.Op {
	case "register":
		return w.register(*step.Driver)
	case "driver":
		driver := w.drivers[step.Driver.Name]
		driver.mutex.Lock()
		defer driver.mutex.Unlock()
		driver.does = *step.Driver
		return nil
	case "gone":
		w.manager.GetWatcherHandler().DeRegisterPlugin(w.ctx, step.Driver.Name, w.sockets[step.Driver.Name])
		return nil
	case "claim":
		return w.put(step.Claim)
	case "prepare":
		return w.manager.PrepareResources(w.ctx, step.Pod)
	case "unprepare":
		return w.manager.UnprepareResources(w.ctx, step.Pod)
	case "resources", "infos":
		container := &core.Container{}
		for i := range step.Pod.Spec.Containers {
			if step.Pod.Spec.Containers[i].Name == step.Container {
				container = &step.Pod.Spec.Containers[i]
			}
		}
		if step.Op == "infos" {
			infos, err := w.manager.GetContainerClaimInfos(step.Pod, container)
			for _, info := range infos {
				step.Infos = append(step.Infos, info.Namespace+"/"+info.ClaimName)
			}
			return err
		}
		found, err := w.manager.GetResources(step.Pod, container)
		if found != nil {
			for _, device := range found.CDIDevices {
				step.CDI = append(step.CDI, device.Name)
			}
		}
		return err
	case "report":
		w.report(step.Driver.Name, step.Report)
		return nil
	case "silent":
		w.silence(step.Driver.Name)
		return nil
	case "status":
		step.Status = w.status(step.Pod)
		return nil
	case "restart":
		w.manager.Stop()
		w.start()
		return nil
	case "reconcile":
		w.active, w.ready.all = step.Active, true
		reconcile(w.manager, w.ctx)
		w.ready.all = false
		return nil
	}
	return errors.New("unknown " + step.Op)
}

// record notes what a step did.
func (w *world) record(step *Step, err error) {
	if err != nil {
		step.Error = strings.ReplaceAll(err.Error(), w.dir, "DIR")
	}
	var names []string
	for name := range w.drivers {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		driver := w.drivers[name]
		driver.mutex.Lock()
		step.Calls = append(step.Calls, driver.calls...)
		driver.calls = nil
		driver.mutex.Unlock()
	}
	step.Told, step.Healths = w.told(), w.healths()
	if step.Pod != nil {
		step.Might = w.manager.PodMightNeedToUnprepareResources(step.Pod.UID)
	}
	text, err := os.ReadFile(filepath.Join(w.dir, "dra_manager_state"))
	if err != nil {
		panic(err)
	}
	var file state.Checkpoint
	if err := file.UnmarshalCheckpoint(text); err != nil {
		panic(err)
	}
	if step.Kept, err = file.GetClaimInfoStateList(); err != nil {
		panic(err)
	}
	sort.Slice(step.Kept, func(i, j int) bool { return step.Kept[i].ClaimName < step.Kept[j].ClaimName })
	// The order of several claims is chance.
	if len(step.Kept) < 2 {
		step.File = string(text)
	}
}

func tell(story *Story) {
	dir, err := os.MkdirTemp("", "dra")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if story.Gates != "" {
		if err := feature.DefaultMutableFeatureGate.Set(story.Gates); err != nil {
			panic(err)
		}
		defer func() {
			if err := feature.DefaultMutableFeatureGate.Set(strings.ReplaceAll(story.Gates, "true", "false")); err != nil {
				panic(err)
			}
		}()
	}
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), logr.Discard()))
	defer cancel()
	w := &world{ctx: ctx, dir: dir, client: fake.NewClientset(), drivers: map[string]*plugin{}, sockets: map[string]string{}, streams: map[string]*stream{}}
	w.start()
	for i := range story.Steps {
		step := &story.Steps[i]
		w.record(step, w.run(step))
	}
	w.manager.Stop()
}

func stories() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for _, story := range told() {
		tell(&story)
		text, err := json.Marshal(story)
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(out, string(text))
	}
}

func checkpoints() {
	share := types.UID("s-1")
	lists := []state.ClaimInfoStateList{
		nil,
		{},
		{{ClaimUID: "u", ClaimName: "c", Namespace: "n", PodUIDs: sets.New[string](), DriverState: nil}},
		{{ClaimUID: "u", ClaimName: "c<&>", Namespace: "n", PodUIDs: sets.New("b", "a"), DriverState: map[string]state.DriverState{
			"d.example.com": {Devices: []state.Device{
				{PoolName: "p", DeviceName: "d", ShareID: &share, RequestNames: []string{"r", "s"}, CDIDeviceIDs: []string{"v/c=\"ä\""}},
				{PoolName: "p", DeviceName: "e\\"},
			}, SkipNodeOperations: []resource.SkipNodeOperation{"NodePrepareResources"}},
			"b.example.com": {},
		}}},
		{
			{ClaimUID: "u", ClaimName: "a", Namespace: "n", PodUIDs: sets.New("p"), DriverState: map[string]state.DriverState{"d": {}}},
			{ClaimUID: "v", ClaimName: "b", Namespace: "n", PodUIDs: sets.New("p"), DriverState: map[string]state.DriverState{"d": {}}},
		},
	}
	for _, list := range lists {
		checkpoint, err := state.NewCheckpoint(list)
		if err != nil {
			panic(err)
		}
		text, err := checkpoint.MarshalCheckpoint()
		if err != nil {
			panic(err)
		}
		fmt.Println(string(text))
	}
}

func main() {
	switch os.Args[1] {
	case "checkpoints":
		checkpoints()
	case "health":
		health()
	default:
		stories()
	}
}
