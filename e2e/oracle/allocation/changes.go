//go:build overlay

package main

import (
	"context"
	"encoding/json"
	"os"

	"github.com/go-logr/logr"
	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet/allocation"
	"k8s.io/kubernetes/pkg/kubelet/allocation/state"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/kuberuntime"
)

// Case is a pod that runs, the file that says what it has been given, and what is to be changed.
type Case struct {
	Pod     *v1.Pod             `json:"pod"`
	Running []string            `json:"running"`
	File    string              `json:"file"`
	Changes kuberuntime.Changes `json:"changes"`
}

func changes(out *json.Encoder) {
	ctx := klog.NewContext(context.Background(), logr.Discard())
	for range 300 {
		was := newPod()
		if len(was.Spec.InitContainers) > 0 && was.Spec.InitContainers[0].RestartPolicy == nil {
			was.Spec.InitContainers = nil
		}
		for i := range was.Spec.Containers {
			for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
				if random.Intn(4) == 0 {
					policy := v1.ContainerResizePolicy{ResourceName: name, RestartPolicy: pick(v1.NotRequired, v1.RestartContainer)}
					was.Spec.Containers[i].ResizePolicy = append(was.Spec.Containers[i].ResizePolicy, policy)
				}
			}
		}
		is := was.DeepCopy()
		for i := range is.Spec.Containers {
			if random.Intn(3) > 0 {
				is.Spec.Containers[i].Resources = some()
			}
		}
		if is.Spec.Resources != nil && random.Intn(2) == 0 {
			level := some()
			is.Spec.Resources = &level
		}
		folder, err := os.MkdirTemp("", "allocation")
		if err != nil {
			panic(err)
		}
		actuated, err := state.NewStateCheckpoint(logr.Discard(), folder, "actuated_pods_state")
		if err != nil {
			panic(err)
		}
		if random.Intn(10) > 0 {
			if err := actuated.SetPodResourceInfo(logr.Discard(), was.UID, allocation.ResourceInfoForPod(was)); err != nil {
				panic(err)
			}
		}
		status := &kubecontainer.PodStatus{ID: is.UID, Name: is.Name, Namespace: is.Namespace, SandboxStatuses: []*runtimeapi.PodSandboxStatus{{
			Id: "s", State: runtimeapi.PodSandboxState_SANDBOX_READY, Metadata: &runtimeapi.PodSandboxMetadata{Name: is.Name, Namespace: is.Namespace, Uid: string(is.UID)},
			Network: &runtimeapi.PodSandboxNetworkStatus{Ip: "10.0.0.1"}}}}
		c := Case{Pod: is}
		for _, container := range append(append([]v1.Container{}, is.Spec.InitContainers...), is.Spec.Containers...) {
			if random.Intn(6) > 0 || container.Name == "init" {
				c.Running = append(c.Running, container.Name)
				one := &kubecontainer.Status{Name: container.Name, ID: kubecontainer.ContainerID{Type: "r", ID: container.Name}, State: kubecontainer.ContainerStateRunning}
				status.ContainerStatuses = append(status.ContainerStatuses, one)
				status.ActiveContainerStatuses = append(status.ActiveContainerStatuses, one)
			}
		}
		c.Changes = kuberuntime.Oracle(ctx, is, status, actuated)
		file, err := os.ReadFile(folder + "/actuated_pods_state")
		if err != nil && !os.IsNotExist(err) {
			panic(err)
		}
		c.File = string(file)
		_ = os.RemoveAll(folder)
		if err := out.Encode(c); err != nil {
			panic(err)
		}
	}
}
