//go:build overlay

// Upstream's attempts to place groups of pods behind standard input: one cluster with one group (or group of groups) a
// line, what can come of it a line. Chance decides between equals, so every group is tried many times. What it calls is
// laid over upstream's package by the build: export.go.txt.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	schedulingv1alpha3 "k8s.io/api/scheduling/v1alpha3"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	"k8s.io/apimachinery/pkg/runtime"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/scheduler"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	configscheme "k8s.io/kubernetes/pkg/scheduler/apis/config/scheme"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/profile"
)

type question struct {
	Nodes      []*v1.Node                              `json:"nodes"`
	Pods       []*v1.Pod                               `json:"pods"`
	Groups     []*schedulingv1beta1.PodGroup           `json:"groups"`
	Composites []*schedulingv1alpha3.CompositePodGroup `json:"composites"`
	Slices     []*resourceapi.ResourceSlice            `json:"slices"`
	Classes    []*resourceapi.DeviceClass              `json:"deviceClasses"`
	Claims     []*resourceapi.ResourceClaim            `json:"resourceClaims"`
	Tries      int                                     `json:"tries"`
}

type answer struct {
	Error string                 `json:"error,omitempty"`
	Ends  [][]scheduler.GroupEnd `json:"ends,omitempty"`
}

func add[T runtime.Object](objects []runtime.Object, list []T) []runtime.Object {
	for _, o := range list {
		objects = append(objects, o)
	}
	return objects
}

func ask(q *question) answer {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var objects []runtime.Object
	objects = add(objects, q.Nodes)
	objects = add(objects, q.Pods)
	objects = add(objects, q.Groups)
	objects = add(objects, q.Composites)
	objects = add(objects, q.Slices)
	objects = add(objects, q.Classes)
	objects = add(objects, q.Claims)
	client := fake.NewSimpleClientset(objects...)
	factory := informers.NewSharedInformerFactory(client, 0)
	raw := []byte(`{"apiVersion":"kubescheduler.config.k8s.io/v1","kind":"KubeSchedulerConfiguration"}`)
	decoded, _, err := configscheme.Codecs.UniversalDecoder().Decode(raw, nil, nil)
	if err != nil {
		return answer{Error: err.Error()}
	}
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()})
	sched, err := scheduler.New(ctx, client, factory, nil, profile.NewRecorderFactory(broadcaster),
		scheduler.WithProfiles(decoded.(*config.KubeSchedulerConfiguration).Profiles...))
	if err != nil {
		return answer{Error: err.Error()}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	if err := sched.WaitForHandlersSync(ctx); err != nil {
		return answer{Error: err.Error()}
	}
	next := make(chan framework.QueuedEntityInfo, 1)
	go func() {
		entity, _ := sched.NextEntity(klog.FromContext(ctx))
		next <- entity
	}()
	select {
	case entity := <-next:
		ends, err := sched.TryGroup(ctx, entity, q.Tries)
		if err != nil {
			return answer{Error: err.Error()}
		}
		return answer{Ends: distinct(ends)}
	case <-time.After(time.Second):
		sched.SchedulingQueue.Close()
		return answer{Error: "nothing is ready"}
	}
}

// distinct leaves each end once, in the order in which they came up.
func distinct(all [][]scheduler.GroupEnd) [][]scheduler.GroupEnd {
	seen := map[string]bool{}
	var ends [][]scheduler.GroupEnd
	for _, end := range all {
		key := fmt.Sprint(end)
		if !seen[key] {
			seen[key] = true
			ends = append(ends, end)
		}
	}
	return ends
}

func main() {
	gates := "GenericWorkload=true,TopologyAwareWorkloadScheduling=true,CompositePodGroup=true,DRAWorkloadResourceClaims=true,OpportunisticBatching=false"
	if err := utilfeature.DefaultMutableFeatureGate.Set(gates); err != nil {
		panic(err)
	}
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
		text, err := json.Marshal(ask(&q))
		if err != nil {
			panic(err)
		}
		out.Write(append(text, '\n'))
		out.Flush()
	}
}
