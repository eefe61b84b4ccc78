// Records checkpoints of devices as upstream's kubelet writes them.
//
//	go run ./devicemanager > ../../kubelet/src/devicemanager/testdata/checkpoints.jsonl
package main

import (
	"fmt"
	"os"

	"google.golang.org/protobuf/proto"
	plugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	"k8s.io/kubernetes/pkg/kubelet/cm/devicemanager/checkpoint"
)

func entry(pod, container, resource string, devices checkpoint.DevicesPerNUMA, answer *plugin.ContainerAllocateResponse) checkpoint.PodDevicesEntry {
	// Maps in order: what is compared is the file around them.
	bytes, err := proto.MarshalOptions{Deterministic: true}.Marshal(answer)
	if err != nil {
		panic(err)
	}
	return checkpoint.PodDevicesEntry{PodUID: pod, ContainerName: container, ResourceName: resource, DeviceIDs: devices, AllocResp: bytes}
}

func main() {
	none := &plugin.ContainerAllocateResponse{}
	full := &plugin.ContainerAllocateResponse{
		Envs:        map[string]string{"A": "1", "B": "ä"},
		Mounts:      []*plugin.Mount{{ContainerPath: "/c", HostPath: "/h", ReadOnly: true}},
		Devices:     []*plugin.DeviceSpec{{ContainerPath: "/dev/c", HostPath: "/dev/h", Permissions: "mrw"}},
		Annotations: map[string]string{"k": "v"},
		CdiDevices:  []*plugin.CDIDevice{{Name: "v/c=d"}},
	}
	cases := []struct {
		entries    []checkpoint.PodDevicesEntry
		registered map[string][]string
	}{
		{nil, map[string][]string{}},
		{nil, map[string][]string{"example.com/a": {"1", "2"}, "example.com/b": {}, "example.com/c": nil}},
		{[]checkpoint.PodDevicesEntry{entry("pod-1", "c", "example.com/a", checkpoint.DevicesPerNUMA{-1: {"d"}}, full)}, map[string][]string{}},
		{[]checkpoint.PodDevicesEntry{entry("pod-1", "c", "example.com/a", checkpoint.DevicesPerNUMA{0: {"x", "y"}, 2: {"y"}, 10: {"z"}, -1: {"n"}}, full)}, map[string][]string{}},
		{[]checkpoint.PodDevicesEntry{
			entry("pod-1", "a", "example.com/a", checkpoint.DevicesPerNUMA{0: {"<&>"}}, full),
			entry("pod-1", "a", "example.com/b", checkpoint.DevicesPerNUMA{-1: {"ä b"}}, none),
			entry("pod-2", "b", "example.com/a", checkpoint.DevicesPerNUMA{1: {"q"}}, full),
		}, map[string][]string{}},
	}
	for _, c := range cases {
		text, err := checkpoint.New(c.entries, c.registered).MarshalCheckpoint()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(string(text))
	}
}
