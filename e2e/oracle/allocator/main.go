// Upstream's allocator of devices behind standard input: a node with what there is and what is asked for a line, the
// allocations or the error a line.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"
	"k8s.io/klog/v2"
)

type question struct {
	Features structured.Features          `json:"features"`
	Node     *v1.Node                     `json:"node"`
	Slices   []*resourceapi.ResourceSlice `json:"slices"`
	Classes  []*resourceapi.DeviceClass   `json:"classes"`
	Held     []*resourceapi.ResourceClaim `json:"held"`
	Claims   []*resourceapi.ResourceClaim `json:"claims"`
}

type answer struct {
	Error   string                         `json:"error,omitempty"`
	Results []resourceapi.AllocationResult `json:"results,omitempty"`
}

type classes []*resourceapi.DeviceClass

func (c classes) List() ([]*resourceapi.DeviceClass, error) { return c, nil }

func (c classes) Get(name string) (*resourceapi.DeviceClass, error) {
	for _, class := range c {
		if class.Name == name {
			return class, nil
		}
	}
	return nil, fmt.Errorf("deviceclass.resource.k8s.io %q not found", name)
}

// held is what the plugin gathers (allocateddevices.go, GatherAllocatedState).
func held(q *question) structured.AllocatedState {
	state := structured.AllocatedState{
		AllocatedDevices:         sets.New[structured.DeviceID](),
		AllocatedSharedDeviceIDs: sets.New[structured.SharedDeviceID](),
		AggregatedCapacity:       structured.NewConsumedCapacityCollection(),
	}
	for _, claim := range q.Held {
		for _, r := range claim.Status.Allocation.Devices.Results {
			id := structured.MakeDeviceID(r.Driver, r.Pool, r.Device)
			switch {
			case r.AdminAccess != nil && *r.AdminAccess:
			case q.Features.ConsumableCapacity && r.ShareID != nil:
				state.AllocatedSharedDeviceIDs.Insert(structured.MakeSharedDeviceID(id, r.ShareID))
				if r.ConsumedCapacity != nil {
					state.AggregatedCapacity.Insert(structured.NewDeviceConsumedCapacity(id, r.ConsumedCapacity))
				}
			default:
				state.AllocatedDevices.Insert(id)
			}
		}
	}
	return state
}

func ask(q *question) answer {
	ctx := context.Background()
	cache := cel.NewCache(10, cel.Features{
		EnableConsumableCapacity: q.Features.ConsumableCapacity,
		EnableListTypeAttributes: q.Features.ListTypeAttributes,
	})
	allocator, err := structured.NewAllocator(ctx, q.Features, held(q), classes(q.Classes), q.Slices, cache)
	if err != nil {
		return answer{Error: err.Error()}
	}
	results, err := allocator.Allocate(ctx, q.Node, q.Claims)
	if err != nil {
		return answer{Error: err.Error()}
	}
	fixed := types.UID("share")
	for i := range results {
		devices := results[i].Devices.Results
		for j := range devices {
			if devices[j].ShareID != nil {
				devices[j].ShareID = &fixed
			}
		}
	}
	return answer{Results: results}
}

func main() {
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
