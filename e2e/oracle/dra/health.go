package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	core "k8s.io/api/core/v1"
	healthpb "k8s.io/kubelet/pkg/apis/dra-health/v1"
	"k8s.io/kubernetes/pkg/kubelet/cm/dra/state"
)

// Reported is how a driver says that a device is.
type Reported struct {
	Pool    string `json:"pool"`
	Device  string `json:"device"`
	Health  string `json:"health"`
	Timeout int64  `json:"timeout,omitempty"`
	Message string `json:"message,omitempty"`
}

// stream is what the manager hears of a driver.
type stream struct {
	grpc.ClientStream
	says  chan *healthpb.NodeWatchResourcesResponse
	asked chan struct{}
	ended chan struct{}
}

func (s *stream) Recv() (*healthpb.NodeWatchResourcesResponse, error) {
	s.asked <- struct{}{}
	if said, ok := <-s.says; ok {
		return said, nil
	}
	return nil, io.EOF
}

// report has a driver say something; the manager has taken it when it asks for more.
func (w *world) report(driver string, all []Reported) {
	heard := w.streams[driver]
	if heard == nil {
		heard = &stream{says: make(chan *healthpb.NodeWatchResourcesResponse), asked: make(chan struct{}), ended: make(chan struct{})}
		w.streams[driver] = heard
		manager := w.manager
		go func() {
			_ = manager.HandleWatchResourcesStream(w.ctx, heard, driver)
			close(heard.ended)
		}()
		<-heard.asked
	}
	said := &healthpb.NodeWatchResourcesResponse{}
	for _, r := range all {
		said.Devices = append(said.Devices, &healthpb.DeviceHealth{
			Device: &healthpb.DeviceIdentifier{PoolName: r.Pool, DeviceName: r.Device},
			Health: healthpb.HealthStatus(healthpb.HealthStatus_value[r.Health]), HealthCheckTimeoutSeconds: r.Timeout, Message: r.Message,
		})
	}
	heard.says <- said
	<-heard.asked
}

// silence ends what a driver says.
func (w *world) silence(driver string) {
	close(w.streams[driver].says)
	<-w.streams[driver].ended
	delete(w.streams, driver)
}

// told gives the pods that are to be looked at.
func (w *world) told() []string {
	var out []string
	for {
		select {
		case update := <-w.manager.Updates():
			out = append(out, update.PodUIDs...)
		default:
			sort.Strings(out)
			return out
		}
	}
}

// status is what the manager adds to a pod's status; the order of its entries is chance.
func (w *world) status(pod *core.Pod) []core.ResourceStatus {
	status := pod.Status.DeepCopy()
	w.manager.UpdateAllocatedResourcesStatus(logr.Discard(), pod, status)
	out := status.ContainerStatuses[0].AllocatedResourcesStatus
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// healths is what the manager keeps, without the times.
func (w *world) healths() map[string]any {
	text, err := os.ReadFile(filepath.Join(w.dir, "dra_health_state"))
	if err != nil {
		return nil
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		panic(err)
	}
	for _, driver := range out {
		for _, device := range driver.(map[string]any)["Devices"].(map[string]any) {
			delete(device.(map[string]any), "LastUpdated")
		}
	}
	return out
}

// health prints such a file.
func health() {
	at := time.Date(2026, 11, 30, 8, 9, 10, 120_000_000, time.UTC)
	device := state.DeviceHealth{PoolName: "p", DeviceName: "d", Health: "Healthy", LastUpdated: at, HealthCheckTimeout: 30 * time.Second, Message: "<ä>"}
	text, err := json.Marshal(state.DevicesHealthMap{"d.example.com": {Devices: map[string]state.DeviceHealth{"p/d": device}}, "e.example.com": {Devices: map[string]state.DeviceHealth{}}})
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}
