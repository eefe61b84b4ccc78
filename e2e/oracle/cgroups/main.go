// Records how upstream names control groups, which properties of systemd units it sets for their limits, and what service
// classes get.
//
//	go run ./cgroups ../../kubelet/src/cgroup/testdata
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	_ "unsafe"

	systemdDbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/systemd"
	"k8s.io/kubernetes/pkg/kubelet/cm"
)

//go:linkname genV1 github.com/opencontainers/cgroups/systemd.genV1ResourcesProperties
func genV1(r *cgroups.Resources, manager *struct{}) ([]systemdDbus.Property, error)

//go:linkname genV2 github.com/opencontainers/cgroups/systemd.genV2ResourcesProperties
func genV2(dir string, r *cgroups.Resources, manager *struct{}) ([]systemdDbus.Property, error)

//go:linkname getCPUWeight k8s.io/kubernetes/pkg/kubelet/cm.getCPUWeight
func getCPUWeight(shares *uint64) uint64

//go:linkname version github.com/opencontainers/cgroups/systemd.version
var version int

//go:linkname versionOnce github.com/opencontainers/cgroups/systemd.versionOnce
var versionOnce sync.Once

type limits struct {
	Shares  *uint64           `json:"shares,omitempty"`
	Quota   *int64            `json:"quota,omitempty"`
	Period  *uint64           `json:"period,omitempty"`
	Memory  *int64            `json:"memory,omitempty"`
	Pids    *int64            `json:"pids,omitempty"`
	Cpus    *string           `json:"cpus,omitempty"`
	Unified map[string]string `json:"unified,omitempty"`
}

type record struct {
	limits
	UnifiedMode bool     `json:"unifiedMode"`
	Version     int      `json:"version"`
	Properties  [][2]any `json:"properties"`
	QuotaAfter  int64    `json:"quotaAfter"`
	Error       string   `json:"error,omitempty"`
}

func p[T any](v T) *T { return &v }

func cases() []limits {
	out := []limits{{}}
	for _, shares := range []uint64{2, 3, 102, 512, 1024, 4096, 262143, 262144} {
		out = append(out, limits{Shares: p(shares)})
	}
	for _, period := range []uint64{0, 1000, 100000, 33333} {
		for _, quota := range []int64{-1, 0, 1000, 5000, 10001, 12345, 100000, 1234567} {
			out = append(out, limits{Quota: p(quota), Period: p(period)})
		}
	}
	for _, memory := range []int64{-1, 0, 1, 1 << 30} {
		out = append(out, limits{Memory: p(memory)})
	}
	for _, pids := range []int64{-1, 0, 1, 4096} {
		out = append(out, limits{Pids: p(pids)})
	}
	for _, cpus := range []string{"", "0", "0-3", "0-3,8", "7,9,15-16", " 1 , 2 ", "63-65", "3-1", "a", "1-", "-1", ",", "200"} {
		out = append(out, limits{Cpus: p(cpus)})
	}
	for _, value := range []string{"0", "max", "4096", "x", " 7 ", "-1"} {
		for _, file := range []string{"memory.high", "memory.low", "memory.min"} {
			out = append(out, limits{Unified: map[string]string{file: value}})
		}
	}
	out = append(out, limits{Unified: map[string]string{"memory.oom.group": "1"}})
	out = append(out, limits{
		Shares: p(uint64(2048)), Quota: p(int64(150500)), Period: p(uint64(100000)), Memory: p(int64(6 << 30)),
		Pids: p(int64(1000)), Cpus: p("0-1"), Unified: map[string]string{"memory.min": "0"},
	})
	return out
}

func resources(in limits, unified bool) *cgroups.Resources {
	r := &cgroups.Resources{SkipDevices: true, SkipFreezeOnSet: true}
	if in.Shares != nil && unified {
		r.CpuWeight = getCPUWeight(in.Shares)
	} else if in.Shares != nil {
		r.CpuShares = *in.Shares
	}
	if in.Quota != nil {
		r.CpuQuota = *in.Quota
	}
	if in.Period != nil {
		r.CpuPeriod = *in.Period
	}
	if in.Memory != nil {
		r.Memory = *in.Memory
	}
	r.PidsLimit = in.Pids
	if in.Cpus != nil {
		r.CpusetCpus = *in.Cpus
	}
	if unified {
		r.Unified = in.Unified
	}
	return r
}

func shown(properties []systemdDbus.Property) [][2]any {
	out := [][2]any{}
	for _, property := range properties {
		value := property.Value.Value()
		switch v := value.(type) {
		case uint64:
			value = fmt.Sprint(v)
		case []byte:
			numbers := []int{}
			for _, b := range v {
				numbers = append(numbers, int(b))
			}
			value = numbers
		}
		out = append(out, [2]any{property.Name, value})
	}
	return out
}

func properties(dir string) error {
	versionOnce.Do(func() {})
	out, err := os.Create(filepath.Join(dir, "properties.jsonl"))
	if err != nil {
		return err
	}
	defer out.Close()
	encoder := json.NewEncoder(out)
	for _, at := range []int{-1, 241, 243, 257} {
		version = at
		for _, unified := range []bool{false, true} {
			for i, in := range cases() {
				// Only what depends on the version is worth every version.
				if at != 257 && in.Quota == nil && in.Cpus == nil || at != 257 && i%2 == 0 {
					continue
				}
				r := resources(in, unified)
				var found []systemdDbus.Property
				var err error
				if unified {
					found, err = genV2("", r, nil)
				} else {
					found, err = genV1(r, nil)
				}
				line := record{limits: in, UnifiedMode: unified, Version: at, Properties: shown(found), QuotaAfter: r.CpuQuota}
				if err != nil {
					line.Error = err.Error()
				}
				if err := encoder.Encode(line); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func names(dir string) error {
	var out strings.Builder
	for _, parts := range [][]string{
		{}, {"kubepods"}, {"kubepods", "burstable"}, {"kubepods", "besteffort", "pod1234-abcd-5678-efgh"},
		{"kubepods", "pod8f2a6e3c-1d4b-4a55-9c3e-0c6f3f1c2d10"}, {"system"}, {"a-b", "c"}, {"x", "kubepods", "burstable", "pod-"},
	} {
		name := cm.NewCgroupName(cm.RootCgroupName, parts...)
		systemd := name.ToSystemd()
		back := cm.ParseSystemdToCgroupName(systemd)
		fmt.Fprintf(&out, "%s\t%s\t%s\t%s\n", strings.Join(parts, " "), name.ToCgroupfs(), systemd, strings.Trim(strings.Join(back, " "), " /"))
	}
	return os.WriteFile(filepath.Join(dir, "names.txt"), []byte(out.String()), 0o644)
}

func main() {
	dir := os.Args[1]
	for _, record := range []func(string) error{names, properties, classes, reserved} {
		if err := record(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
