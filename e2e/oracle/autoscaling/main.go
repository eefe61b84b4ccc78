// Command autoscaling records upstream's conversions between autoscaling/v1 and v2: one JSON line per autoscaler, as v2,
// that as v1, and that as v2 again; then v1 objects with annotations of their own, as v2.
package main

import (
	"encoding/json"
	"math/rand"
	"os"
	"time"

	v1 "k8s.io/api/autoscaling/v1"
	v2 "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kubernetes/pkg/apis/autoscaling"
	"k8s.io/kubernetes/pkg/apis/autoscaling/install"
)

var (
	rng    = rand.New(rand.NewSource(11))
	scheme = runtime.NewScheme()
	out    = json.NewEncoder(os.Stdout)
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func maybe[T any](value T) *T {
	if rng.Intn(2) == 0 {
		return nil
	}
	return &value
}

func quantity() resource.Quantity {
	all := []string{"0", "100m", "3", "1Gi", "2500k"}
	return resource.MustParse(all[rng.Intn(len(all))])
}

func identifier() v2.MetricIdentifier {
	id := v2.MetricIdentifier{Name: "requests<per&second>"}
	switch rng.Intn(3) {
	case 0:
		id.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"b": "2", "a": "1"}}
	case 1:
		id.Selector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: "k", Operator: metav1.LabelSelectorOpIn, Values: []string{"x", "y"}}, {Key: "l", Operator: metav1.LabelSelectorOpExists}}}
	}
	return id
}

func target(kinds ...v2.MetricTargetType) v2.MetricTarget {
	t := v2.MetricTarget{Type: kinds[rng.Intn(len(kinds))]}
	q := quantity()
	switch t.Type {
	case v2.UtilizationMetricType:
		n := int32(rng.Intn(100))
		t.AverageUtilization = &n
	case v2.ValueMetricType:
		t.Value = &q
	default:
		t.AverageValue = &q
	}
	return t
}

func current() v2.MetricValueStatus {
	return v2.MetricValueStatus{Value: maybe(quantity()), AverageValue: maybe(quantity()), AverageUtilization: maybe(int32(rng.Intn(100)))}
}

func name() core.ResourceName { return []core.ResourceName{"cpu", "memory"}[rng.Intn(2)] }

var reference = v2.CrossVersionObjectReference{Kind: "Deployment", Name: "d", APIVersion: "apps/v1"}

func metric() v2.MetricSpec {
	switch rng.Intn(5) {
	case 0:
		return v2.MetricSpec{Type: v2.ObjectMetricSourceType, Object: &v2.ObjectMetricSource{DescribedObject: reference, Metric: identifier(), Target: target(v2.ValueMetricType, v2.AverageValueMetricType)}}
	case 1:
		return v2.MetricSpec{Type: v2.PodsMetricSourceType, Pods: &v2.PodsMetricSource{Metric: identifier(), Target: target(v2.AverageValueMetricType)}}
	case 2:
		return v2.MetricSpec{Type: v2.ContainerResourceMetricSourceType, ContainerResource: &v2.ContainerResourceMetricSource{Name: name(), Container: "c", Target: target(v2.UtilizationMetricType, v2.AverageValueMetricType)}}
	case 3:
		return v2.MetricSpec{Type: v2.ExternalMetricSourceType, External: &v2.ExternalMetricSource{Metric: identifier(), Target: target(v2.ValueMetricType, v2.AverageValueMetricType)}}
	default:
		return v2.MetricSpec{Type: v2.ResourceMetricSourceType, Resource: &v2.ResourceMetricSource{Name: name(), Target: target(v2.UtilizationMetricType, v2.AverageValueMetricType)}}
	}
}

func status() v2.MetricStatus {
	switch rng.Intn(5) {
	case 0:
		return v2.MetricStatus{Type: v2.ObjectMetricSourceType, Object: &v2.ObjectMetricStatus{DescribedObject: reference, Metric: identifier(), Current: current()}}
	case 1:
		return v2.MetricStatus{Type: v2.PodsMetricSourceType, Pods: &v2.PodsMetricStatus{Metric: identifier(), Current: current()}}
	case 2:
		return v2.MetricStatus{Type: v2.ContainerResourceMetricSourceType, ContainerResource: &v2.ContainerResourceMetricStatus{Name: name(), Container: "c", Current: current()}}
	case 3:
		return v2.MetricStatus{Type: v2.ExternalMetricSourceType, External: &v2.ExternalMetricStatus{Metric: identifier(), Current: current()}}
	default:
		return v2.MetricStatus{Type: v2.ResourceMetricSourceType, Resource: &v2.ResourceMetricStatus{Name: name(), Current: current()}}
	}
}

func rules() *v2.HPAScalingRules {
	if rng.Intn(3) == 0 {
		return nil
	}
	policy := v2.MinChangePolicySelect
	r := &v2.HPAScalingRules{StabilizationWindowSeconds: maybe(int32(30)), SelectPolicy: maybe(policy), Tolerance: maybe(quantity())}
	for i := rng.Intn(3); i > 0; i-- {
		r.Policies = append(r.Policies, v2.HPAScalingPolicy{Type: v2.PercentScalingPolicy, Value: int32(i), PeriodSeconds: 15})
	}
	return r
}

func autoscaler() *v2.HorizontalPodAutoscaler {
	h := &v2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "h"}}
	if rng.Intn(3) == 0 {
		h.Annotations = map[string]string{"own": "x", autoscaling.MetricSpecsAnnotation: "stale"}
	}
	h.Spec = v2.HorizontalPodAutoscalerSpec{ScaleTargetRef: reference, MinReplicas: maybe(int32(2)), MaxReplicas: 9}
	for i := rng.Intn(4); i > 0; i-- {
		h.Spec.Metrics = append(h.Spec.Metrics, metric())
	}
	if rng.Intn(2) == 0 {
		h.Spec.Behavior = &v2.HorizontalPodAutoscalerBehavior{ScaleUp: rules(), ScaleDown: rules()}
	}
	at := metav1.NewTime(time.Unix(1_700_000_000, 0).UTC())
	for i := rng.Intn(3); i > 0; i-- {
		h.Status.CurrentMetrics = append(h.Status.CurrentMetrics, status())
	}
	for i := rng.Intn(3); i > 0; i-- {
		c := v2.HorizontalPodAutoscalerCondition{Type: v2.AbleToScale, Status: core.ConditionTrue, Reason: "R", Message: "\"m\" <x>"}
		if rng.Intn(2) == 0 {
			c.LastTransitionTime = at
		}
		h.Status.Conditions = append(h.Status.Conditions, c)
	}
	return h
}

func convert[T any](from any) *T {
	internal, to := &autoscaling.HorizontalPodAutoscaler{}, new(T)
	check(scheme.Convert(from, internal, nil))
	check(scheme.Convert(internal, to, nil))
	return to
}

func main() {
	install.Install(scheme)
	for i := 0; i < 120; i++ {
		given := autoscaler()
		text, err := json.Marshal(given)
		check(err)
		old := convert[v1.HorizontalPodAutoscaler](given)
		oldText, err := json.Marshal(old)
		check(err)
		back := convert[v2.HorizontalPodAutoscaler](old)
		check(out.Encode(map[string]any{"v2": json.RawMessage(text), "v1": json.RawMessage(oldText), "back": back}))
	}
	for _, annotations := range []map[string]string{
		nil,
		{"own": "x"},
		{autoscaling.MetricSpecsAnnotation: "{"},
		{autoscaling.MetricSpecsAnnotation: "[]"},
		{autoscaling.MetricSpecsAnnotation: `[{"type":"Pods","pods":{"metricName":"m","targetAverageValue":"1000m"}}]`},
		{autoscaling.BehaviorSpecsAnnotation: `{"scaleDown":{"policies":[{"type":"Pods","value":1,"periodSeconds":2}]}}`},
		{autoscaling.BehaviorSpecsAnnotation: "null"},
		{autoscaling.HorizontalPodAutoscalerConditionsAnnotation: `[{"type":"X"}]`, autoscaling.ToleranceScaleUpAnnotation: "1"},
		{autoscaling.MetricStatusesAnnotation: `[{"type":"Resource","resource":{"name":"cpu","currentAverageUtilization":7}}]`},
	} {
		percent := int32(50)
		for _, target := range []*int32{nil, &percent} {
			given := &v1.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "h", Annotations: annotations}}
			given.Spec = v1.HorizontalPodAutoscalerSpec{MaxReplicas: 3, TargetCPUUtilizationPercentage: target,
				ScaleTargetRef: v1.CrossVersionObjectReference{Kind: "Deployment", Name: "d"}}
			given.Status.CurrentCPUUtilizationPercentage = target
			text, err := json.Marshal(given)
			check(err)
			check(out.Encode(map[string]any{"v1": json.RawMessage(text), "back": convert[v2.HorizontalPodAutoscaler](given)}))
		}
	}
}
