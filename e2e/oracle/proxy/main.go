// Command proxy runs upstream's proxiers against fakes of iptables, nftables and IPVS.
//
// It makes cases by itself (generate.go) and prints one JSON object per line and case: the configuration, and per step
// the objects that changed and the rules that upstream would then have in the kernel, in a form that does not depend on
// the order of Go's maps. Run it in a network namespace of its own (unshare -n), as upstream's code lists interfaces and
// connections: proxy <iptables|nftables|ipvs> <first seed> <cases>.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
	"unsafe"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	sysctltest "k8s.io/component-helpers/node/util/sysctl/testing"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/proxy"
	"k8s.io/kubernetes/pkg/proxy/apis/config"
	"k8s.io/kubernetes/pkg/proxy/iptables"
	"k8s.io/kubernetes/pkg/proxy/metrics"
	"k8s.io/kubernetes/pkg/proxy/nftables"
	proxyutil "k8s.io/kubernetes/pkg/proxy/util"
	iptablestest "k8s.io/kubernetes/pkg/util/iptables/testing"
	"sigs.k8s.io/knftables"
)

type setup struct {
	Mode               string   `json:"mode"`
	Family             string   `json:"family"`
	MasqueradeAll      bool     `json:"masqueradeAll,omitempty"`
	MasqueradeBit      int32    `json:"masqueradeBit"`
	Detect             string   `json:"detect,omitempty"` // cidr, bridge, prefix
	DetectBy           string   `json:"detectBy,omitempty"`
	NodePortAddresses  []string `json:"nodePortAddresses,omitempty"`
	LocalhostNodePorts bool     `json:"localhostNodePorts,omitempty"`
	Accounts           bool     `json:"accounts,omitempty"` // the kernel counts packets by name (nfacct)
	Node               string   `json:"node"`
	Zone               string   `json:"zone,omitempty"`
	NodeIP             string   `json:"nodeIP"`
	ServiceCIDRs       []string `json:"serviceCIDRs,omitempty"`
	Scheduler          string   `json:"scheduler,omitempty"` // ipvs, as the next ones
	ExcludeCIDRs       []string `json:"excludeCIDRs,omitempty"`
	NodeAddresses      []string `json:"nodeAddresses,omitempty"`
	Foreign            []string `json:"foreign,omitempty"`
}

type step struct {
	Services []*v1.Service              `json:"services,omitempty"`
	Slices   []*discovery.EndpointSlice `json:"slices,omitempty"`
	Gone     []string                   `json:"gone,omitempty"` // service/name or slice/name
	Rules    []string                   `json:"rules"`
	// ipvs: the proxier is started anew before the step; iptables-restore's input; real servers that have a connection
	// after the step, as "virtual real".
	Restart   bool     `json:"restart,omitempty"`
	Text      []string `json:"text,omitempty"`
	Connected []string `json:"connected,omitempty"`
}

type testCase struct {
	Seed  int64  `json:"seed"`
	Setup setup  `json:"setup"`
	Steps []step `json:"steps"`
}

// proxier is what both of upstream's have.
type proxier interface {
	proxy.Provider
	OnServiceSynced()
	OnEndpointSlicesSynced()
	OnServiceAdd(*v1.Service)
	OnEndpointSliceAdd(*discovery.EndpointSlice)
}

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

// start makes the proxier of a case; kernel is used by mode ipvs alone.
func start(s setup, kernel *ipvsKernel) (proxier, func() []string) {
	family := v1.IPFamily(s.Family)
	detector := proxyutil.NewNoOpLocalDetector()
	switch s.Detect {
	case "cidr":
		detector = proxyutil.NewDetectLocalByCIDR(s.DetectBy)
	case "bridge":
		detector = proxyutil.NewDetectLocalByBridgeInterface(s.DetectBy)
	case "prefix":
		detector = proxyutil.NewDetectLocalByInterfaceNamePrefix(s.DetectBy)
	}
	c := &config.KubeProxyConfiguration{
		SyncPeriod:        metav1.Duration{Duration: 30 * time.Second},
		MinSyncPeriod:     metav1.Duration{Duration: time.Second},
		NodePortAddresses: s.NodePortAddresses,
		IPTables:          config.KubeProxyIPTablesConfiguration{MasqueradeBit: &s.MasqueradeBit, LocalhostNodePorts: &s.LocalhostNodePorts},
		NFTables:          config.KubeProxyNFTablesConfiguration{MasqueradeBit: &s.MasqueradeBit},
		Linux:             config.KubeProxyLinuxConfiguration{MasqueradeAll: s.MasqueradeAll},
	}
	ctx := context.Background()
	if s.Mode == "ipvs" {
		return kernel.start(c, family, detector), kernel.rules
	}
	if s.Mode == "iptables" {
		fake := iptablestest.NewFake()
		if family == v1.IPv6Protocol {
			fake = iptablestest.NewIPv6Fake()
		}
		sysctl := sysctltest.NewFake()
		sysctl.Settings["net/ipv4/conf/all/route_localnet"] = 1
		p := must(iptables.NewProxier(ctx, c, family, fake, sysctl, detector, s.Node, net.ParseIP(s.NodeIP), nil, nil, false))
		// Whether the kernel has nfacct is the case's to say, not this machine's.
		field(p, "nfacct").SetZero()
		field(p, "nfAcctCounters").Set(reflect.ValueOf(map[string]bool{
			metrics.IPTablesCTStateInvalidDroppedNFAcctCounter: s.Accounts, metrics.LocalhostNodePortAcceptedNFAcctCounter: s.Accounts}))
		return p, func() []string {
			var b bytes.Buffer
			must(0, fake.SaveInto("", &b))
			return iptablesLines(b.String())
		}
	}
	p := must(nftables.NewProxier(ctx, c, family, detector, s.Node, net.ParseIP(s.NodeIP), nil, nil, false))
	fake := knftables.NewFake(map[v1.IPFamily]knftables.Family{v1.IPv4Protocol: knftables.IPv4Family, v1.IPv6Protocol: knftables.IPv6Family}[family], "kube-proxy")
	field(p, "nftables").Set(reflect.ValueOf(fake))
	return p, func() []string { return nftablesLines(fake.Dump()) }
}

// field makes a private field settable.
func field(of any, name string) reflect.Value {
	f := reflect.ValueOf(of).Elem().FieldByName(name)
	return reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem()
}

// iptablesLines sorts chains, and the rules of the chains that upstream fills in the order of a map.
func iptablesLines(save string) []string {
	anyOrder := []string{"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL"}
	table := ""
	var lines []string
	for _, line := range strings.Split(save, "\n") {
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
		case strings.HasPrefix(line, ":"):
			lines = append(lines, table+" :"+strings.Fields(line[1:])[0])
		case strings.HasPrefix(line, "-A "):
			lines = append(lines, table+" "+line[3:])
		}
	}
	last := "NOTE: this must be the last rule in this chain"
	return sorted(lines, func(line string) string {
		chain := strings.Join(strings.Fields(line)[:2], " ")
		switch {
		case strings.Contains(line, last):
			return chain + " ~" + line
		case slices.Contains(anyOrder, strings.Fields(line)[1]):
			return line
		}
		return chain
	})
}

// nftablesLines sorts all but the rules within a chain, and leaves out emptied chains that wait for their removal.
func nftablesLines(dump string) []string {
	filled := map[string]bool{}
	var lines []string
	for _, line := range strings.Split(strings.TrimSpace(dump), "\n") {
		if words := strings.Fields(line); words[1] == "rule" {
			filled[words[4]] = true
		}
		lines = append(lines, line)
	}
	lines = slices.DeleteFunc(lines, func(line string) bool {
		words := strings.Fields(line)
		return words[1] == "chain" && strings.Contains(words[4], "/") && !filled[words[4]]
	})
	return sorted(lines, func(line string) string {
		if words := strings.Fields(line); words[1] == "rule" {
			return strings.Join(words[:5], " ")
		}
		return line
	})
}

func sorted(lines []string, key func(string) string) []string {
	sort.SliceStable(lines, func(i, j int) bool { return key(lines[i]) < key(lines[j]) })
	return lines
}

func run(c *testCase, g *generator) {
	var kernel *ipvsKernel
	if c.Setup.Mode == "ipvs" {
		kernel = newIPVSKernel(c.Setup)
	}
	p, rules := start(c.Setup, kernel)
	settle := func() {
		p.OnServiceCIDRsChanged(c.Setup.ServiceCIDRs)
		p.OnTopologyChange(map[string]string{v1.LabelTopologyZone: c.Setup.Zone})
	}
	settle()
	services := map[string]*v1.Service{}
	endpoints := map[string]*discovery.EndpointSlice{}
	for i := range c.Steps {
		s := &c.Steps[i]
		if s.Restart {
			p, rules = start(c.Setup, kernel)
			settle()
			for _, service := range services {
				p.OnServiceAdd(service)
			}
			for _, slice := range endpoints {
				p.OnEndpointSliceAdd(slice)
			}
		}
		for _, name := range s.Gone {
			if kind, name, _ := strings.Cut(name, "/"); kind == "service" {
				p.OnServiceDelete(services[name])
				delete(services, name)
			} else {
				p.OnEndpointSliceDelete(endpoints[name])
				delete(endpoints, name)
			}
		}
		for _, service := range s.Services {
			p.OnServiceUpdate(services[service.Name], service)
			services[service.Name] = service
		}
		for _, slice := range s.Slices {
			p.OnEndpointSliceUpdate(endpoints[slice.Name], slice)
			endpoints[slice.Name] = slice
		}
		p.OnServiceSynced()
		if i == 0 || s.Restart {
			p.OnEndpointSlicesSynced()
		}
		if kernel != nil {
			s.Text = kernel.text()
			s.Rules = sorted(rules(), ipvsKey)
			s.Connected = kernel.connect(g)
		} else {
			s.Rules = rules()
		}
	}
}

// ipvsKey keeps the order of iptables rules and sorts everything else.
func ipvsKey(line string) string {
	words := strings.Fields(line)
	if words[0] != "nat" && words[0] != "filter" || words[1] == "KUBE-IPVS-OUT-FILTER" {
		return line
	}
	return strings.Join(words[:2], " ")
}

func main() {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	mode, seed, count := os.Args[1], must(strconv.ParseInt(os.Args[2], 10, 64)), must(strconv.ParseInt(os.Args[3], 10, 64))
	out := bufio.NewWriter(os.Stdout)
	for i := seed; i < seed+count; i++ {
		c, g := generate(mode, i)
		run(c, g)
		out.Write(must(json.Marshal(c)))
		out.WriteByte('\n')
	}
	must(0, out.Flush())
}
