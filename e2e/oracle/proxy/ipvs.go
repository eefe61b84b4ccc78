package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	sysctltest "k8s.io/component-helpers/node/util/sysctl/testing"
	"k8s.io/kubernetes/pkg/proxy/apis/config"
	"k8s.io/kubernetes/pkg/proxy/ipvs"
	"k8s.io/kubernetes/pkg/proxy/ipvs/ipset"
	ipsettest "k8s.io/kubernetes/pkg/proxy/ipvs/ipset/testing"
	netlinktest "k8s.io/kubernetes/pkg/proxy/ipvs/testing"
	utilipvs "k8s.io/kubernetes/pkg/proxy/ipvs/util"
	ipvstest "k8s.io/kubernetes/pkg/proxy/ipvs/util/testing"
	proxyutil "k8s.io/kubernetes/pkg/proxy/util"
	utiltest "k8s.io/kubernetes/pkg/proxy/util/testing"
	iptablestest "k8s.io/kubernetes/pkg/util/iptables/testing"
	"k8s.io/utils/exec"
	exectest "k8s.io/utils/exec/testing"
)

// ipvsKernel is the fakes together; it outlives a proxier that is started anew.
type ipvsKernel struct {
	setup    setup
	iptables *iptablestest.FakeIPTables
	servers  *ipvstest.FakeIPVS
	sets     *recordingSets
	device   *netlinktest.FakeNetlinkHandle
	proxier  *ipvs.Proxier
}

// recordingSets notes what the real code would give the program ipset to make a set.
type recordingSets struct {
	*ipsettest.FakeIPSet
	made map[string]string
}

func (r *recordingSets) CreateSet(set *ipset.IPSet, ignore bool) error {
	real := ipset.New()
	field(real, "exec").Set(reflect.ValueOf(recordingExec(func(args []string) {
		r.made[set.Name] = strings.TrimSuffix(strings.Join(args[2:], " "), " -exist")
	})))
	must(0, real.CreateSet(set, ignore))
	return r.FakeIPSet.CreateSet(set, ignore)
}

type recordingExec func(args []string)

func (r recordingExec) Command(_ string, args ...string) exec.Cmd {
	r(args)
	done := func() ([]byte, []byte, error) { return nil, nil, nil }
	return &exectest.FakeCmd{CombinedOutputScript: []exectest.FakeAction{done}}
}

func (r recordingExec) CommandContext(_ context.Context, name string, args ...string) exec.Cmd {
	return r.Command(name, args...)
}

func (recordingExec) LookPath(name string) (string, error) { return name, nil }

func newIPVSKernel(s setup) *ipvsKernel {
	v6 := s.Family == string(v1.IPv6Protocol)
	k := &ipvsKernel{setup: s, iptables: iptablestest.NewFake(), servers: ipvstest.NewFake(), sets: &recordingSets{ipsettest.NewFake("7.11"), map[string]string{}}, device: netlinktest.NewFakeNetlinkHandle(v6)}
	if v6 {
		k.iptables = iptablestest.NewIPv6Fake()
	}
	must(0, k.device.SetLocalAddresses("eth0", s.NodeAddresses...))
	for _, address := range s.Foreign {
		host, port, err := net.SplitHostPort(address)
		must(0, err)
		number := uint16(must(net.LookupPort("tcp", port)))
		must(0, k.servers.AddVirtualServer(&utilipvs.VirtualServer{Address: net.ParseIP(host), Port: number, Protocol: "TCP", Scheduler: "wlc"}))
	}
	return k
}

func (k *ipvsKernel) start(c *config.KubeProxyConfiguration, family v1.IPFamily, detector proxyutil.LocalTrafficDetector) proxier {
	c.IPVS = config.KubeProxyIPVSConfiguration{Scheduler: k.setup.Scheduler, ExcludeCIDRs: k.setup.ExcludeCIDRs}
	p := must(ipvs.NewProxier(context.Background(), c, family, k.iptables, k.servers, k.sets, sysctltest.NewFake(), detector, k.setup.Node, net.ParseIP(k.setup.NodeIP), nil, nil, false))
	// One that does not look at its servers by itself, which would be a race with the steps.
	field(p, "gracefuldeleteManager").Set(reflect.ValueOf(ipvs.NewGracefulTerminationManager(k.servers)))
	field(p, "netlinkHandle").Set(reflect.ValueOf(k.device))
	network := utiltest.NewFakeNetwork()
	var addresses []net.Addr
	for _, address := range k.setup.NodeAddresses {
		addresses = append(addresses, &net.IPNet{IP: net.ParseIP(address), Mask: net.CIDRMask(24, 32)})
	}
	network.AddInterfaceAddr(&net.Interface{Name: "eth0"}, addresses)
	field(p, "networkInterfacer").Set(reflect.ValueOf(network))
	k.proxier = p
	return p
}

// rules prints all that the fakes hold.
func (k *ipvsKernel) rules() []string {
	var b bytes.Buffer
	must(0, k.iptables.SaveInto("", &b))
	lines := iptablesLines(b.String())
	for key, server := range k.servers.Services {
		line := fmt.Sprintf("server %s %s %#x %d", server.String(), server.Scheduler, uint32(server.Flags), server.Timeout)
		lines = append(lines, line)
		for _, real := range k.servers.Destinations[key] {
			lines = append(lines, fmt.Sprintf("real %s %s %d", server.String(), real.String(), real.Weight))
		}
	}
	for name := range k.sets.Sets {
		lines = append(lines, fmt.Sprintf("set %s %s", name, k.sets.made[name]))
		for entry := range k.sets.Entries[name] {
			lines = append(lines, fmt.Sprintf("entry %s %s", name, entry))
		}
	}
	for _, address := range must(k.device.ListBindAddress("kube-ipvs0")) {
		lines = append(lines, "address "+address)
	}
	internal := field(k.proxier, "serviceNoLocalEndpointsInternal").Interface().(sets.Set[string])
	external := field(k.proxier, "serviceNoLocalEndpointsExternal").Interface().(sets.Set[string])
	lines = append(lines, fmt.Sprintf("nolocal %d %d", internal.Len(), external.Len()))
	return lines
}

// text is the last input of iptables-restore, with the rules of the one chain that is filled in the order of a map sorted.
func (k *ipvsKernel) text() []string {
	all := field(k.proxier, "iptablesData").Interface().(*bytes.Buffer).String()
	lines := strings.Split(strings.TrimSuffix(all, "\n"), "\n")
	barred := func(line string) bool { return strings.HasPrefix(line, "-A KUBE-IPVS-OUT-FILTER ") }
	if first := slices.IndexFunc(lines, barred); first >= 0 {
		last := first
		for last < len(lines) && barred(lines[last]) {
			last++
		}
		slices.Sort(lines[first:last])
	}
	return lines
}

// connect gives some real servers a connection and returns all that have one. Only where a virtual server lives as long
// as its Service: upstream does not forget the real servers of one that is gone.
func (k *ipvsKernel) connect(g *generator) []string {
	var all []string
	for key, server := range k.servers.Services {
		for _, real := range k.servers.Destinations[key] {
			if server.Port == 80 {
				all = append(all, server.String()+" "+real.String())
			}
		}
	}
	slices.Sort(all)
	var connected []string
	for _, name := range all {
		if g.chance(3) {
			connected = append(connected, name)
		}
	}
	for key, server := range k.servers.Services {
		for _, real := range k.servers.Destinations[key] {
			real.ActiveConn = 0
			if slices.Contains(connected, server.String()+" "+real.String()) {
				real.ActiveConn = 1
			}
		}
	}
	return connected
}
