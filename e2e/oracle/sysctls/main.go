// Records which kernel parameters upstream lets pods set, and what it tells their sandboxes.
//
//	go run ./sysctls > ../../kubelet/src/testdata/sysctls.jsonl
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	_ "unsafe"

	v1 "k8s.io/api/core/v1"
	_ "k8s.io/kubernetes/pkg/kubelet/kuberuntime"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"
	"k8s.io/kubernetes/pkg/kubelet/sysctl"
)

//go:linkname applyPodSysctls k8s.io/kubernetes/pkg/kubelet/kuberuntime.applyPodSysctls
func applyPodSysctls(sysctls, podSysctls map[string]string, pod *v1.Pod)

var patterns = []string{
	"", "*", "a", "net", "net*", "net.*", "net/*", "net.ipv4.*", "net.ipv4.tcp*", "net.ipv4.tcp_*", "net.ipv4.tcp-*", "net.ipv4.*.a",
	"net..a", "net.*.*", "net.ipv4.**", "Net.a", "net.a.", "net._a", "net.a_", ".net", "/net", "net/ipv4/conf/eno2.100/rp_filter",
	"kernel.shm*", "kernel.shmx*", "kernel.shm", "kernel.shmmax", "kernel.msg*", "kernel.msgm*", "kernel.sem", "kernel.sem*", "kernel/sem",
	"kernel.*", "kernel.domainname", "kernel.hostname", "user.*", "user.max_user_namespaces", "user", "fs.mqueue.*", "fs.mqueue", "fs.*", "vm.swappiness",
}

var names = []string{
	"net.core.somaxconn", "net/core/somaxconn", "net/ipv4/conf/eno2.100/rp_filter", "net.ipv4.tcp_syncookies", "net.ipv4.ip_forward",
	"kernel.sem", "kernel.shm_rmid_forced", "kernel/shm_rmid_forced", "kernel.shmall", "kernel.shm", "kernel.msg", "kernel.msgmax", "kernel.msgfoo",
	"fs.mqueue.msg_max", "kernel.domainname", "kernel.hostname", "user.max_user_namespaces", "vm.swappiness", "net",
}

type pod struct {
	Spec v1.PodSpec `json:"spec"`
}

type record struct {
	Pod      pod               `json:"pod"`
	Defaults map[string]string `json:"defaults"`
	Allowed  []string          `json:"allowed"`
	Sysctls  map[string]string `json:"sysctls"`
	Refused  string            `json:"refused"`
}

type checked struct {
	Pattern string `json:"pattern"`
	Error   string `json:"error"`
}

func one(own []v1.Sysctl, defaults map[string]string, allowed []string, hosts int) (record, error) {
	users := hosts&4 == 0
	spec := v1.PodSpec{
		HostNetwork: hosts&1 != 0, HostIPC: hosts&2 != 0, HostUsers: &users,
		SecurityContext: &v1.PodSecurityContext{Sysctls: own},
	}
	out := record{Pod: pod{*spec.DeepCopy()}, Defaults: defaults, Allowed: allowed, Sysctls: map[string]string{}}
	list, err := sysctl.NewAllowlist(append(sysctl.SafeSysctlAllowlist(context.Background()), allowed...))
	if err != nil {
		return out, err
	}
	object := &v1.Pod{Spec: spec}
	out.Refused = list.Admit(context.Background(), &lifecycle.PodAdmitAttributes{Pod: object}).Message
	// As SyncPod and generatePodSandboxLinuxConfig do.
	sysctl.ConvertPodSysctlsVariableToDotsSeparator(object.Spec.SecurityContext)
	applyPodSysctls(out.Sysctls, defaults, object)
	for _, c := range object.Spec.SecurityContext.Sysctls {
		out.Sysctls[c.Name] = c.Value
	}
	return out, nil
}

func run() error {
	encoder := json.NewEncoder(os.Stdout)
	for _, pattern := range patterns {
		line := checked{Pattern: pattern}
		if _, err := sysctl.NewAllowlist([]string{pattern}); err != nil {
			line.Error = err.Error()
		}
		if err := encoder.Encode(line); err != nil {
			return err
		}
	}
	allowed := []string{"kernel.shm*", "kernel.msg*", "kernel.sem", "net.core.*", "net/ipv4/conf/eno2.100/rp_filter", "user.*", "fs.mqueue.*", "kernel.domainname"}
	all := map[string]string{}
	for _, name := range names {
		all[name] = "1"
	}
	// Two spellings of one parameter are refused as defaults.
	delete(all, "net/core/somaxconn")
	delete(all, "kernel/shm_rmid_forced")
	for hosts := 0; hosts < 8; hosts++ {
		for _, name := range names {
			for _, list := range [][]string{{}, allowed} {
				line, err := one([]v1.Sysctl{{Name: name, Value: "2"}}, map[string]string{name: "1"}, list, hosts)
				if err == nil {
					err = encoder.Encode(line)
				}
				if err != nil {
					return err
				}
			}
		}
		line, err := one([]v1.Sysctl{{Name: "net.core.somaxconn", Value: "2"}}, all, allowed, hosts)
		if err == nil {
			err = encoder.Encode(line)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
