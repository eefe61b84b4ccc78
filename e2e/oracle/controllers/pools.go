package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"reflect"
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	resourcev1alpha3 "k8s.io/api/resource/v1alpha3"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/kubernetes/pkg/controller/resourcepoolstatusrequest"
)

type poolCase struct {
	Request *resourcev1alpha3.ResourcePoolStatusRequest       `json:"request"`
	Slices  []*resourcev1.ResourceSlice                       `json:"slices"`
	Claims  []*resourcev1.ResourceClaim                       `json:"claims"`
	Rules   []*resourcev1.DeviceTaintRule                     `json:"rules"`
	Status  *resourcev1alpha3.ResourcePoolStatusRequestStatus `json:"status"`
}

func maybe(r *rand.Rand, one int, s string) *string {
	if r.Intn(one) == 0 {
		return &s
	}
	return nil
}

func device(r *rand.Rand, name string, kinds bool) resourcev1.Device {
	d := resourcev1.Device{Name: name}
	if r.Intn(5) == 0 {
		d.Taints = []resourcev1.DeviceTaint{{Key: "t", Effect: pick(r, resourcev1.DeviceTaintEffectNoSchedule, resourcev1.DeviceTaintEffectNoExecute, resourcev1.DeviceTaintEffectNone)}}
	}
	if kinds && r.Intn(4) > 0 {
		size := pick(r, "1", "2")
		d.ConsumesCounters = []resourcev1.DeviceCounterConsumption{{CounterSet: "set", Counters: map[string]resourcev1.Counter{
			"slices": {Value: resource.MustParse(size)}, "memory": {Value: resource.MustParse(map[string]string{"1": "1Gi", "2": pick(r, "2Gi", "2048Mi")}[size])},
		}}}
		if r.Intn(20) == 0 {
			d.ConsumesCounters[0].Counters["memory"] = resourcev1.Counter{Value: resource.MustParse("7Gi")}
		}
		kind := "size-" + size
		d.Attributes = map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{
			resourcev1.QualifiedName(pick(r, "kind", "gpu.example.com/kind")): {StringValue: &kind},
		}
		if r.Intn(30) == 0 {
			number := int64(1)
			d.Attributes = map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{"kind": {IntValue: &number}}
		}
	}
	if r.Intn(3) == 0 {
		yes := true
		d.AllowMultipleAllocations = &yes
		d.Capacity = map[resourcev1.QualifiedName]resourcev1.DeviceCapacity{"memory": {Value: resource.MustParse(pick(r, "10Gi", "1500Mi"))}}
		if r.Intn(2) == 0 {
			d.Capacity["bandwidth"] = resourcev1.DeviceCapacity{Value: resource.MustParse(pick(r, "10G", "500M"))}
		}
	}
	return d
}

func newPoolCase(r *rand.Rand) (c poolCase) {
	meta := func(kind string, n int) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", kind, n)}
	}
	c.Request = &resourcev1alpha3.ResourcePoolStatusRequest{ObjectMeta: meta("request", 0), Spec: resourcev1alpha3.ResourcePoolStatusRequestSpec{Driver: "gpu.example.com"}}
	c.Request.Spec.PoolName = maybe(r, 5, "pool-1")
	c.Request.Spec.DefaultPartitionTypeAttribute = maybe(r, 3, "gpu.example.com/kind")
	if r.Intn(5) == 0 {
		limit := int32(1 + r.Intn(2))
		c.Request.Spec.Limit = &limit
	}
	for pool := 0; pool < r.Intn(4); pool++ {
		name, number, old := fmt.Sprintf("pool-%d", pool), 1+r.Intn(3), r.Intn(3) == 0
		kinds, shared := r.Intn(3) > 0, r.Intn(5) > 0
		attribute := maybe(r, 3, "gpu.example.com/kind")
		there := number
		if r.Intn(12) == 0 {
			there--
		}
		node := maybe(r, 2, "node-1")
		for n := 0; n < there; n++ {
			s := &resourcev1.ResourceSlice{ObjectMeta: meta("slice", len(c.Slices)), Spec: resourcev1.ResourceSliceSpec{
				Driver: pick(r, "gpu.example.com", "gpu.example.com", "gpu.example.com", "other.example.com"), NodeName: node,
				Pool: resourcev1.ResourcePool{Name: name, Generation: 2, ResourceSliceCount: int64(number)},
			}}
			if n > 0 || r.Intn(10) > 0 {
				s.Spec.Driver = "gpu.example.com"
			}
			if r.Intn(10) == 0 {
				s.Spec.NodeName = nil
			}
			if attribute != nil && r.Intn(5) > 0 {
				full := resourcev1.FullyQualifiedName(*attribute)
				s.Spec.PartitionTypeAttribute = &full
			}
			for d := r.Intn(6); d > 0; d-- {
				s.Spec.Devices = append(s.Spec.Devices, device(r, fmt.Sprintf("dev-%d-%d", n, d), kinds))
			}
			if kinds && shared && n == 0 {
				s.Spec.SharedCounters = []resourcev1.CounterSet{{Name: "set", Counters: map[string]resourcev1.Counter{
					"slices": {Value: resource.MustParse(pick(r, "4", "8"))}, "memory": {Value: resource.MustParse("8Gi")},
				}}}
			}
			c.Slices = append(c.Slices, s)
		}
		if old {
			s := c.oldSlice(name, len(c.Slices))
			s.Spec.Devices = []resourcev1.Device{device(r, "old", false)}
			c.Slices = append(c.Slices, s)
		}
	}
	for n := r.Intn(5); n > 0; n-- {
		claim := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("claim-%d", n), Namespace: "ns"}}
		if r.Intn(6) > 0 {
			claim.Status.Allocation = &resourcev1.AllocationResult{}
			for i := 1 + r.Intn(3); i > 0; i-- {
				result := resourcev1.DeviceRequestAllocationResult{
					Request: "r", Driver: pick(r, "gpu.example.com", "gpu.example.com", "other.example.com"),
					Pool: fmt.Sprintf("pool-%d", r.Intn(3)), Device: fmt.Sprintf("dev-%d-%d", r.Intn(2), 1+r.Intn(4)),
				}
				if r.Intn(5) == 0 {
					yes := true
					result.AdminAccess = &yes
				}
				if r.Intn(3) == 0 {
					result.ConsumedCapacity = map[resourcev1.QualifiedName]resource.Quantity{"memory": resource.MustParse(pick(r, "1Gi", "500Mi", "40Gi"))}
				}
				claim.Status.Allocation.Devices.Results = append(claim.Status.Allocation.Devices.Results, result)
			}
		}
		c.Claims = append(c.Claims, claim)
	}
	for n := r.Intn(3); n > 0; n-- {
		rule := &resourcev1.DeviceTaintRule{ObjectMeta: meta("rule", n), Spec: resourcev1.DeviceTaintRuleSpec{
			Taint: resourcev1.DeviceTaint{Key: "t", Effect: pick(r, resourcev1.DeviceTaintEffectNoSchedule, resourcev1.DeviceTaintEffectNone)},
		}}
		if r.Intn(5) > 0 {
			rule.Spec.DeviceSelector = &resourcev1.DeviceTaintSelector{
				Driver: maybe(r, 2, "gpu.example.com"), Pool: maybe(r, 2, "pool-0"), Device: maybe(r, 2, "dev-0-1"),
			}
		}
		c.Rules = append(c.Rules, rule)
	}
	return c
}

func (c *poolCase) oldSlice(pool string, at int) *resourcev1.ResourceSlice {
	return &resourcev1.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("slice-%d", at)}, Spec: resourcev1.ResourceSliceSpec{
		Driver: "gpu.example.com", Pool: resourcev1.ResourcePool{Name: pool, Generation: 1, ResourceSliceCount: 1},
	}}
}

// answer runs the controller on the case until it has answered, or has surely given up: it tries six times, in 155 ms.
func (c *poolCase) answer() (*resourcev1alpha3.ResourcePoolStatusRequestStatus, error) {
	objects := []runtime.Object{c.Request.DeepCopy()}
	for _, s := range c.Slices {
		objects = append(objects, s.DeepCopy())
	}
	for _, s := range c.Claims {
		objects = append(objects, s.DeepCopy())
	}
	for _, s := range c.Rules {
		objects = append(objects, s.DeepCopy())
	}
	client := fake.NewClientset(objects...)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	factory := informers.NewSharedInformerFactory(client, 0)
	r := factory.Resource()
	controller, err := resourcepoolstatusrequest.NewController(ctx, client, r.V1alpha3().ResourcePoolStatusRequests(), r.V1().ResourceSlices(), r.V1().ResourceClaims(), r.V1().DeviceTaintRules())
	if err != nil {
		return nil, err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	go controller.Run(ctx, 1)
	for tries := 0; tries < 100; tries++ {
		request, err := client.ResourceV1alpha3().ResourcePoolStatusRequests().Get(ctx, c.Request.Name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		if request.Status != nil {
			for i := range request.Status.Conditions {
				request.Status.Conditions[i].LastTransitionTime = metav1.NewTime(now)
			}
			return request.Status, nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil, nil
}

// stable answers three times, as the order of slices is not upstream's to choose; unlike answers say nothing.
func (c *poolCase) stable() (bool, error) {
	for n := 0; n < 3; n++ {
		status, err := c.answer()
		if err != nil {
			return false, err
		}
		if n > 0 && !reflect.DeepEqual(status, c.Status) {
			return false, nil
		}
		c.Status = status
	}
	return true, nil
}

func pools(out *json.Encoder) error {
	r := rand.New(rand.NewSource(6))
	for n := 0; n < 150; {
		c := newPoolCase(r)
		stable, err := c.stable()
		if err != nil {
			return err
		}
		if !stable {
			continue
		}
		n++
		if err := out.Encode(c); err != nil {
			return err
		}
	}
	return nil
}
