// Records what upstream's kubelet does when something runs short.
//
//	go run ./eviction crossings > ../../kubelet/src/eviction/testdata/crossings.txt
//	go run ./eviction stories > ../../kubelet/src/eviction/testdata/stories.jsonl
//
// Crossings: at which usage of memory the kernel wakes it: what is available, the working set, the usage, the threshold, and
// the answer. Stories: see stories.go.
package main

import (
	"context"
	"fmt"
	"math/rand"
	"os"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/klog/v2"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/kubernetes/pkg/kubelet/eviction"
	evictionapi "k8s.io/kubernetes/pkg/kubelet/eviction/api"
)

type recorder struct{ threshold int64 }

func (r *recorder) NewCgroupNotifier(_ klog.Logger, _, _ string, threshold int64) (eviction.CgroupNotifier, error) {
	r.threshold = threshold
	return r, nil
}
func (*recorder) Start(context.Context, chan<- struct{}) {}
func (*recorder) Stop()                                  {}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "stories" {
		stories()
		return
	}
	random := rand.New(rand.NewSource(1))
	for i := 0; i < 200; i++ {
		available, working := random.Uint64()%(64<<30), random.Uint64()%(64<<30)
		usage := working + random.Uint64()%(8<<30)
		text, value := "", evictionapi.ThresholdValue{}
		if i%2 == 0 {
			bytes := random.Int63n(4 << 30)
			text, value.Quantity = fmt.Sprint(bytes), resource.NewQuantity(bytes, resource.BinarySI)
		} else {
			share := []string{"50", "25", "12.5", "10", "15", "5", "33.3", "99.9", "0.01"}[random.Intn(9)]
			thresholds := must(eviction.ParseThresholdConfig(nil, map[string]string{"memory.available": share + "%"}, nil, nil, nil))
			text, value = share+"%", thresholds[0].Value
		}
		it := &recorder{}
		threshold := evictionapi.Threshold{Signal: evictionapi.SignalMemoryAvailable, Operator: evictionapi.OpLessThan, Value: value}
		notifier := must(eviction.NewMemoryThresholdNotifier(logr.Discard(), threshold, "/kubepods", it, nil))
		memory := statsapi.MemoryStats{AvailableBytes: &available, WorkingSetBytes: &working, UsageBytes: &usage}
		must(0, notifier.UpdateThreshold(context.Background(), &statsapi.Summary{Node: statsapi.NodeStats{Memory: &memory}}))
		fmt.Println(available, working, usage, text, it.threshold)
	}
}
