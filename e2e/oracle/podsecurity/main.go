// Command podsecurity records what upstream's checks of the pod security standards say of generated pods: one JSON line
// per pod, with the minor versions from which the answer of a level is another one. The argument is how many pods.
package main

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"reflect"
	"strconv"

	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

var rng = rand.New(rand.NewSource(37))

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func one[T any](of ...T) T { return of[rng.Intn(len(of))] }

func rarely() bool { return rng.Intn(6) == 0 }

func maybe[T any](of ...T) *T {
	if !rarely() {
		return nil
	}
	value := one(of...)
	return &value
}

func seLinux() *core.SELinuxOptions {
	if !rarely() {
		return nil
	}
	o := &core.SELinuxOptions{Type: one("", "container_t", "container_kvm_t", "container_engine_t", "foo", "bar")}
	if rarely() {
		o.User = "u"
	}
	if rarely() {
		o.Role = "r"
	}
	return o
}

func seccomp() *core.SeccompProfile {
	if !rarely() {
		return nil
	}
	return &core.SeccompProfile{Type: one(core.SeccompProfileTypeRuntimeDefault, core.SeccompProfileTypeRuntimeDefault, core.SeccompProfileTypeLocalhost, core.SeccompProfileTypeUnconfined, "x")}
}

func appArmor() *core.AppArmorProfile {
	if !rarely() {
		return nil
	}
	return &core.AppArmorProfile{Type: one(core.AppArmorProfileTypeRuntimeDefault, core.AppArmorProfileTypeLocalhost, core.AppArmorProfileTypeUnconfined, "x")}
}

func windows() *core.WindowsSecurityContextOptions {
	if !rarely() {
		return nil
	}
	return &core.WindowsSecurityContextOptions{HostProcess: maybe(true, false)}
}

func probe() *core.Probe {
	if !rarely() {
		return nil
	}
	p := &core.Probe{}
	if rng.Intn(2) == 0 {
		p.HTTPGet = &core.HTTPGetAction{Host: one("", "h1", "h2")}
	} else {
		p.TCPSocket = &core.TCPSocketAction{Host: one("", "h3")}
	}
	return p
}

func handler() *core.LifecycleHandler {
	p := probe()
	if p == nil {
		return nil
	}
	return &core.LifecycleHandler{HTTPGet: p.HTTPGet, TCPSocket: p.TCPSocket}
}

func capabilities() *core.Capabilities {
	if rng.Intn(2) == 0 {
		return nil
	}
	c := &core.Capabilities{}
	for rarely() {
		c.Add = append(c.Add, one[core.Capability]("CHOWN", "NET_BIND_SERVICE", "NET_RAW", "SYS_ADMIN", "ALL"))
	}
	for rng.Intn(2) == 0 {
		c.Drop = append(c.Drop, one[core.Capability]("ALL", "ALL", "NET_RAW"))
	}
	return c
}

// A context that mostly keeps to the strictest standard, so that single faults are seen, too.
func context() *core.SecurityContext {
	if rarely() {
		return nil
	}
	c := &core.SecurityContext{Capabilities: &core.Capabilities{Drop: []core.Capability{"ALL"}}, SeccompProfile: seccomp(),
		SELinuxOptions: seLinux(), AppArmorProfile: appArmor(), WindowsOptions: windows(), RunAsUser: maybe[int64](0, 1),
		RunAsNonRoot: maybe(true, true, false), Privileged: maybe(true, false), ProcMount: maybe(core.DefaultProcMount, core.UnmaskedProcMount, "x")}
	if rarely() {
		c.Capabilities = capabilities()
	}
	escalates := rarely()
	c.AllowPrivilegeEscalation = &escalates
	if rarely() {
		c.AllowPrivilegeEscalation = nil
	}
	return c
}

func container(name string) core.Container {
	c := core.Container{Name: name, SecurityContext: context(), LivenessProbe: probe(), ReadinessProbe: probe(), StartupProbe: probe()}
	if rarely() {
		c.Lifecycle = &core.Lifecycle{PostStart: handler(), PreStop: handler()}
	}
	for rarely() {
		c.Ports = append(c.Ports, core.ContainerPort{ContainerPort: 1, HostPort: one[int32](0, 80, 443, 8080)})
	}
	return c
}

func volume(name string) core.Volume {
	sources := []core.VolumeSource{
		{HostPath: &core.HostPathVolumeSource{}}, {HostPath: &core.HostPathVolumeSource{}}, {NFS: &core.NFSVolumeSource{}}, {RBD: &core.RBDVolumeSource{}}, {GitRepo: &core.GitRepoVolumeSource{}},
		{StorageOS: &core.StorageOSVolumeSource{}}, {ScaleIO: &core.ScaleIOVolumeSource{}}, {FC: &core.FCVolumeSource{}}, {},
		{EmptyDir: &core.EmptyDirVolumeSource{}}, {ConfigMap: &core.ConfigMapVolumeSource{}}, {Secret: &core.SecretVolumeSource{}}, {Image: &core.ImageVolumeSource{}},
		{CSI: &core.CSIVolumeSource{}}, {Projected: &core.ProjectedVolumeSource{}}, {Ephemeral: &core.EphemeralVolumeSource{}},
	}
	return core.Volume{Name: name, VolumeSource: one(sources...)}
}

func annotations(names []string) map[string]string {
	all := map[string]string{}
	for rarely() {
		key := one("seccomp.security.alpha.kubernetes.io/pod", "container.seccomp.security.alpha.kubernetes.io/", "container.apparmor.security.beta.kubernetes.io/")
		if key[len(key)-1] == '/' {
			key += one(append(names, "none")...)
		}
		all[key] = one("", "runtime/default", "docker/default", "localhost/x", "unconfined", "a\"b")
	}
	return all
}

func pod() *core.Pod {
	p := &core.Pod{Spec: core.PodSpec{HostNetwork: rarely(), HostPID: rarely(), HostIPC: rarely(), HostUsers: maybe(true, false, false)}}
	names := []string{"a", "b\"", "c"}[:1+rng.Intn(3)]
	for _, name := range names {
		p.Spec.Containers = append(p.Spec.Containers, container(name))
	}
	for rarely() {
		p.Spec.InitContainers = append(p.Spec.InitContainers, container("i"))
	}
	for rarely() {
		p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, core.EphemeralContainer{EphemeralContainerCommon: core.EphemeralContainerCommon(container("e"))})
	}
	for i := 0; rng.Intn(2) == 0; i++ {
		p.Spec.Volumes = append(p.Spec.Volumes, volume(fmt.Sprintf("v%d", i)))
	}
	if rarely() {
		p.Spec.OS = &core.PodOS{Name: one(core.Windows, core.Windows, core.Linux)}
	}
	if rng.Intn(3) > 0 {
		p.Spec.SecurityContext = &core.PodSecurityContext{RunAsUser: maybe[int64](0, 1), RunAsNonRoot: maybe(true, true, false), SeccompProfile: seccomp(),
			SELinuxOptions: seLinux(), AppArmorProfile: appArmor(), WindowsOptions: windows()}
		for rarely() {
			name := one("kernel.shm_rmid_forced", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_rmem", "net.ipv4.tcp_notsent_lowat", "kernel.msgmax")
			p.Spec.SecurityContext.Sysctls = append(p.Spec.SecurityContext.Sysctls, core.Sysctl{Name: name})
		}
	}
	p.ObjectMeta = metav1.ObjectMeta{Annotations: annotations(names)}
	return p
}

func main() {
	pods, err := strconv.Atoi(os.Args[1])
	check(err)
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	check(err)
	out := json.NewEncoder(os.Stdout)
	for range pods {
		p := pod()
		answers := map[api.Level][]any{}
		for _, level := range []api.Level{api.LevelBaseline, api.LevelRestricted} {
			var last [][2]string
			for minor := 0; minor <= 40; minor++ {
				found := [][2]string{}
				standard := api.LevelVersion{Level: level, Version: api.MajorMinorVersion(1, minor)}
				for _, result := range evaluator.EvaluatePod(standard, &p.ObjectMeta, &p.Spec) {
					if !result.Allowed {
						found = append(found, [2]string{result.ForbiddenReason, result.ForbiddenDetail})
					}
				}
				if minor == 0 || !reflect.DeepEqual(found, last) {
					answers[level] = append(answers[level], []any{minor, found})
				}
				last = found
			}
		}
		check(out.Encode(map[string]any{"pod": p, "answers": answers}))
	}
}
