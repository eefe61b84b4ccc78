package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"
	_ "unsafe"

	"github.com/opencontainers/cgroups"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/klog/v2"
	_ "k8s.io/kubernetes/pkg/features"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/cm"
)

// Whether the hierarchy is of version 2; asked of the machine once.
//
//go:linkname isUnified github.com/opencontainers/cgroups.isUnified
var isUnified bool

// What a class's group is told.
type told struct {
	Shares  *uint64           `json:"shares,omitempty"`
	Memory  *int64            `json:"memory,omitempty"`
	Unified map[string]string `json:"unified,omitempty"`
}

// Takes note of what groups are told. The first updates of a round fail if it is to.
type groups struct {
	cm.CgroupManager
	lock  sync.Mutex
	calls int
	fail  int
	usage int64
	last  map[string]told
}

func (g *groups) note(config *cm.CgroupConfig) error {
	g.lock.Lock()
	defer g.lock.Unlock()
	g.calls++
	if g.fail > 0 {
		g.fail--
		return errors.New("refused")
	}
	p := config.ResourceParameters
	out := told{Shares: p.CPUShares, Unified: p.Unified}
	if p.Memory != nil {
		memory := *p.Memory
		out.Memory = &memory
	}
	g.last[config.Name[len(config.Name)-1]] = out
	return nil
}

func (g *groups) count() int {
	g.lock.Lock()
	defer g.lock.Unlock()
	return g.calls
}

func (g *groups) round(fail int) map[string]told {
	g.lock.Lock()
	defer g.lock.Unlock()
	before := g.last
	g.last, g.fail = map[string]told{}, fail
	return before
}

func (g *groups) Create(_ klog.Logger, config *cm.CgroupConfig) error { return g.note(config) }
func (g *groups) Update(_ klog.Logger, config *cm.CgroupConfig) error { return g.note(config) }
func (g *groups) Validate(cm.CgroupName) error                        { return nil }
func (g *groups) Exists(cm.CgroupName) bool                           { return false }
func (g *groups) MemoryUsage(cm.CgroupName) (int64, error)            { return g.usage, nil }

// One node: its policy, and what the groups are told first, then while there are these pods, and again if that
// was refused.
type node struct {
	Unified     bool            `json:"unified"`
	Gates       map[string]bool `json:"gates"`
	Policy      string          `json:"policy"`
	Percent     *int64          `json:"percent,omitempty"`
	Allocatable int64           `json:"allocatable"`
	Usage       int64           `json:"usage"`
	First       map[string]told `json:"first"`
	Told        map[string]told `json:"told"`
	Refused     map[string]told `json:"refused"`
	OfPods      []told          `json:"ofPods"`
}

type pod struct {
	Spec v1.PodSpec `json:"spec"`
}

func list(pairs ...string) v1.ResourceList {
	out := v1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[v1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func of(requests, limits v1.ResourceList, whole ...v1.ResourceList) pod {
	container := v1.Container{Name: "c", Resources: v1.ResourceRequirements{Requests: requests, Limits: limits}}
	spec := v1.PodSpec{Containers: []v1.Container{container}}
	if len(whole) > 0 {
		spec.Resources = &v1.ResourceRequirements{Requests: whole[0]}
	}
	return pod{spec}
}

func (n *node) run() error {
	isUnified = n.Unified
	if err := utilfeature.DefaultMutableFeatureGate.SetFromMap(n.Gates); err != nil {
		return err
	}
	fake := &groups{last: map[string]told{}, usage: n.Usage}
	policy := kubeletconfig.MemoryReservationPolicy(n.Policy)
	config := cm.NodeConfig{CgroupsPerQOS: true, MemoryReservationPolicy: policy}
	if n.Percent != nil {
		config.QOSReserved = map[v1.ResourceName]int64{v1.ResourceMemory: *n.Percent}
	}
	manager, err := cm.NewQOSContainerManager(nil, cm.NewCgroupName(cm.RootCgroupName, "kubepods"), config, fake)
	if err != nil {
		return err
	}
	pods := []*v1.Pod{}
	for _, pod := range some {
		pods = append(pods, &v1.Pod{Spec: *pod.Spec.DeepCopy()})
	}
	begun := make(chan struct{})
	active := func() []*v1.Pod { <-begun; return pods }
	allocatable := func() v1.ResourceList {
		return v1.ResourceList{v1.ResourceMemory: *resource.NewQuantity(n.Allocatable, resource.BinarySI)}
	}
	if err := manager.Start(context.Background(), allocatable, active); err != nil {
		return err
	}
	n.First = fake.round(0)
	// The manager itself begins with a round, which waits until now.
	before := fake.count()
	close(begun)
	for fake.count() < before+3 {
		time.Sleep(time.Millisecond)
	}
	fake.round(0)
	if err := manager.UpdateCgroups(klog.Background()); err != nil {
		return err
	}
	n.Told = fake.round(3)
	if err := manager.UpdateCgroups(klog.Background()); err == nil {
		n.Refused = fake.round(0)
	}
	enforce := n.Gates["MemoryQoS"] && n.Unified
	for _, pod := range pods {
		found := cm.ResourceConfigForPod(pod, true, 100000, enforce, policy)
		n.OfPods = append(n.OfPods, told{Unified: found.Unified})
	}
	return nil
}

// The pods of every node.
var some = []pod{
	of(nil, nil),
	of(list("cpu", "1", "memory", "1Gi"), list("cpu", "1", "memory", "1Gi")),
	of(list("cpu", "500m", "memory", "2Gi"), list("memory", "4Gi")),
	of(list("cpu", "1500m"), nil),
	of(list("memory", "100Mi"), nil, list("memory", "300Mi")),
}

func nodes() []*node {
	var out []*node
	for _, unified := range []bool{false, true} {
		for _, qos := range []bool{false, true} {
			for _, policy := range []string{"None", "TieredReservation"} {
				gates := map[string]bool{"MemoryQoS": qos, "QOSReserved": false}
				out = append(out, &node{Unified: unified, Gates: gates, Policy: policy, Allocatable: 8 << 30})
			}
		}
	}
	for _, percent := range []int64{0, 33, 50, 100} {
		for _, allocatable := range []int64{0, 2 << 30, 8<<30 + 1} {
			for _, usage := range []int64{1, 3 << 30, 9 << 30} {
				gates := map[string]bool{"MemoryQoS": true, "QOSReserved": true}
				out = append(out, &node{
					Unified: usage == 1, Gates: gates, Policy: "TieredReservation", Percent: &percent,
					Allocatable: allocatable, Usage: usage,
				})
			}
		}
	}
	off := map[string]bool{"MemoryQoS": true, "QOSReserved": false}
	return append(out, &node{Gates: off, Policy: "None", Percent: p(int64(50)), Allocatable: 8 << 30})
}

func classes(dir string) error {
	// So that the machine is not asked.
	cgroups.IsCgroup2UnifiedMode()
	out, err := os.Create(filepath.Join(dir, "classes.jsonl"))
	if err != nil {
		return err
	}
	defer out.Close()
	encoder := json.NewEncoder(out)
	if err := encoder.Encode(map[string]any{"pods": some}); err != nil {
		return err
	}
	for _, n := range nodes() {
		if err := n.run(); err != nil {
			return err
		}
		if err := encoder.Encode(n); err != nil {
			return err
		}
	}
	return nil
}

func reserved(dir string) error {
	out, err := os.Create(filepath.Join(dir, "reserved.jsonl"))
	if err != nil {
		return err
	}
	defer out.Close()
	encoder := json.NewEncoder(out)
	for _, text := range []string{"", "%", "50", "50%", "0%", "100%", "101%", "-1%", "+7%", "007%", "5.5%", " 5%", "5 %", "5%%", "1_0%", "99999999999999999999%"} {
		if err := encoder.Encode(parsed(map[string]string{"memory": text})); err != nil {
			return err
		}
	}
	for _, other := range []map[string]string{{}, {"cpu": "50%"}, {"": ""}} {
		if err := encoder.Encode(parsed(other)); err != nil {
			return err
		}
	}
	return nil
}

func parsed(in map[string]string) map[string]any {
	line := map[string]any{"reserved": in}
	found, err := cm.ParseQOSReserved(in)
	if err != nil {
		line["error"] = err.Error()
		return line
	}
	for _, percent := range *found {
		line["percent"] = percent
	}
	return line
}
