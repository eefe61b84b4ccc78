package main

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// generator makes the objects of one case. Addresses and ports that must be unique in a cluster are: where two Services
// claim the same, upstream's answer depends on the order of a map.
type generator struct {
	*rand.Rand
	family   v1.IPFamily
	services []string
	slices   map[string][]string
	timeouts map[string]int32
	next     int
	// ipvs: a changed Service may keep its cluster address, for its virtual server to change.
	ipvs     bool
	clusters map[string]string
}

func generate(mode string, seed int64) (*testCase, *generator) {
	g := &generator{Rand: rand.New(rand.NewSource(seed)), slices: map[string][]string{}, timeouts: map[string]int32{}, clusters: map[string]string{}}
	g.ipvs = mode == "ipvs"
	g.family = pick(g, v1.IPv4Protocol, v1.IPv4Protocol, v1.IPv6Protocol)
	v4 := g.family == v1.IPv4Protocol
	s := setup{
		Mode: mode, Family: string(g.family), MasqueradeAll: g.chance(8), MasqueradeBit: pick(g, int32(14), 14, 14, 5, 31),
		LocalhostNodePorts: g.chance(2), Accounts: mode == "iptables" && seed%2 == 0, Node: "here", Zone: pick(g, "a", "a", "b", ""),
		NodeIP: choose(v4, "192.0.2.1", "2001:db8::1"),
	}
	s.Detect = pick(g, "", "cidr", "cidr", "bridge", "prefix")
	s.DetectBy = map[string]string{"cidr": choose(v4, "10.0.0.0/8", "fd00:10::/64"), "bridge": "cbr0", "prefix": "veth"}[s.Detect]
	if g.chance(4) {
		s.NodePortAddresses = pick(g, []string{"127.0.0.0/8", "::1/128"}, []string{"192.0.2.0/24", "2001:db8::/64"}, []string{"0.0.0.0/0", "::/0"})
	}
	if mode == "nftables" && g.chance(2) {
		s.ServiceCIDRs = []string{"172.30.0.0/16", "fd00:30::/112"}
	}
	if g.ipvs {
		s.Scheduler = pick(g, "", "rr", "mh", "lc")
		s.NodeAddresses = pick(g, []string{s.NodeIP}, []string{s.NodeIP, choose(v4, "192.0.2.2", "2001:db8:5::2"), choose(v4, "203.0.113.9", "2001:db8:e::9")}, nil)
		s.Foreign = choose(v4, []string{"10.9.9.9:99", "192.0.2.77:99"}, []string{"[fd00:9::9]:99", "[2001:db8::77]:99"})
		if g.chance(2) {
			s.ExcludeCIDRs = []string{"10.9.0.0/16", "fd00:9::/64"}
		}
	}
	c := &testCase{Seed: seed, Setup: s}
	first := step{}
	for range 1 + g.Intn(6) {
		g.add(&first)
	}
	c.Steps = append(c.Steps, first)
	for range g.Intn(choose(g.ipvs, 6, 3)) {
		s := step{Restart: g.ipvs && g.chance(3)}
		for range 1 + g.Intn(2) {
			g.change(&s)
		}
		c.Steps = append(c.Steps, s)
	}
	return c, g
}

func pick[T any](g *generator, of ...T) T { return of[g.Intn(len(of))] }

func choose[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

func (g *generator) chance(of int) bool { return g.Intn(of) == 0 }

// unique numbers within a case.
func (g *generator) unique() int {
	g.next++
	return g.next
}

func (g *generator) address(v4, v6 string) string {
	return fmt.Sprintf(choose(g.family == v1.IPv4Protocol, v4, v6), g.unique())
}

func (g *generator) add(s *step) {
	name := fmt.Sprintf("svc%d", g.unique())
	g.services = append(g.services, name)
	service := g.service(name)
	s.Services = append(s.Services, service)
	for i := range pick(g, 0, 1, 1, 1, 2) {
		slice := fmt.Sprintf("%s-%d", name, i)
		g.slices[name] = append(g.slices[name], slice)
		s.Slices = append(s.Slices, g.slice(name, slice, service.Spec.Ports))
	}
}

func (g *generator) change(s *step) {
	if len(g.services) == 0 || g.chance(4) {
		g.add(s)
		return
	}
	name := pick(g, g.services...)
	touched := slices.ContainsFunc(s.Services, func(o *v1.Service) bool { return o.Name == name }) ||
		slices.ContainsFunc(s.Slices, func(o *discovery.EndpointSlice) bool { return o.Labels[discovery.LabelServiceName] == name })
	if touched {
		return
	}
	switch g.Intn(4) {
	case 0:
		g.services = slices.DeleteFunc(g.services, func(o string) bool { return o == name })
		s.Gone = append(s.Gone, "service/"+name)
		for _, slice := range g.slices[name] {
			s.Gone = append(s.Gone, "slice/"+slice)
		}
		delete(g.slices, name)
	case 1:
		s.Services = append(s.Services, g.service(name))
	default:
		for _, slice := range g.slices[name] {
			s.Slices = append(s.Slices, g.slice(name, slice, ports()))
		}
	}
}

func ports() []v1.ServicePort {
	return []v1.ServicePort{
		{Name: "p80", Port: 80, Protocol: v1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)},
		{Name: "dns", Port: 53, Protocol: v1.ProtocolUDP, TargetPort: intstr.FromInt32(53)},
		{Name: "sig", Port: 99, Protocol: v1.ProtocolSCTP, TargetPort: intstr.FromInt32(99)},
	}
}

func (g *generator) service(name string) *v1.Service {
	cluster := g.address("172.30.0.%d", "fd00:30::%x")
	if known := g.clusters[name]; g.ipvs && known != "" && !g.chance(3) {
		cluster = known
	}
	g.clusters[name] = cluster
	local, all := v1.ServiceInternalTrafficPolicyLocal, v1.ServiceInternalTrafficPolicyCluster
	service := &v1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns"}}
	spec := &service.Spec
	spec.Type = pick(g, v1.ServiceTypeClusterIP, v1.ServiceTypeNodePort, v1.ServiceTypeLoadBalancer, v1.ServiceTypeLoadBalancer)
	spec.ClusterIP, spec.ClusterIPs, spec.IPFamilies = cluster, []string{cluster}, []v1.IPFamily{g.family}
	if g.chance(20) {
		spec.Type = v1.ServiceTypeExternalName
	} else if g.chance(20) {
		spec.ClusterIP, spec.ClusterIPs = v1.ClusterIPNone, []string{v1.ClusterIPNone}
	} else if g.chance(6) {
		other := choose(g.family == v1.IPv4Protocol, "fd00:30::ff", "172.30.0.255")
		spec.ClusterIPs, spec.IPFamilies = append(spec.ClusterIPs, other), append(spec.IPFamilies, choose(g.family == v1.IPv4Protocol, v1.IPv6Protocol, v1.IPv4Protocol))
	} else if g.chance(6) {
		spec.IPFamilies = nil
	}
	spec.InternalTrafficPolicy = pick(g, nil, &all, &local)
	for _, port := range ports()[:1+g.Intn(3)] {
		if spec.Type != v1.ServiceTypeClusterIP && !g.chance(6) {
			port.NodePort = int32(30000 + g.unique())
		}
		spec.Ports = append(spec.Ports, port)
	}
	if spec.Type != v1.ServiceTypeClusterIP || g.chance(3) {
		spec.ExternalTrafficPolicy = pick(g, v1.ServiceExternalTrafficPolicyCluster, v1.ServiceExternalTrafficPolicyLocal)
	}
	if g.chance(4) {
		seconds := pick(g, int32(10800), 60)
		// Upstream cannot change the timeout of a set; we make it anew.
		if first, known := g.timeouts[name]; known && !g.ipvs {
			seconds = first
		}
		g.timeouts[name] = seconds
		spec.SessionAffinity = v1.ServiceAffinityClientIP
		spec.SessionAffinityConfig = &v1.SessionAffinityConfig{ClientIP: &v1.ClientIPConfig{TimeoutSeconds: &seconds}}
	}
	for range pick(g, 0, 0, 1, 2) {
		spec.ExternalIPs = append(spec.ExternalIPs, g.address("203.0.113.%d", "2001:db8:e::%x"))
	}
	if spec.Type == v1.ServiceTypeLoadBalancer {
		g.balancer(service)
	}
	return service
}

func (g *generator) balancer(service *v1.Service) {
	proxy, vip := v1.LoadBalancerIPModeProxy, v1.LoadBalancerIPModeVIP
	for range pick(g, 0, 1, 1, 2) {
		in := v1.LoadBalancerIngress{IP: g.address("198.51.100.%d", "2001:db8:b::%x"), IPMode: pick(g, nil, nil, &vip, &proxy)}
		service.Status.LoadBalancer.Ingress = append(service.Status.LoadBalancer.Ingress, in)
	}
	ranges := []string{"192.0.2.0/24", "2001:db8::/64", " 198.18.0.0/15 ", "2001:db8:7::/48", "10.1.2.3/32"}
	if g.chance(8) {
		ranges = append(ranges, "0.0.0.0/0", "::/0")
	}
	if g.chance(2) {
		g.Shuffle(len(ranges), func(i, j int) { ranges[i], ranges[j] = ranges[j], ranges[i] })
		service.Spec.LoadBalancerSourceRanges = ranges[:1+g.Intn(3)]
	}
	if service.Spec.ExternalTrafficPolicy == v1.ServiceExternalTrafficPolicyLocal && !g.chance(6) {
		service.Spec.HealthCheckNodePort = int32(31000 + g.unique())
	}
}

func (g *generator) slice(service, name string, of []v1.ServicePort) *discovery.EndpointSlice {
	slice := &discovery.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Namespace: "ns", Labels: map[string]string{discovery.LabelServiceName: service}},
		AddressType: discovery.AddressType(g.family),
	}
	for _, port := range of {
		number := port.TargetPort.IntVal
		slice.Ports = append(slice.Ports, discovery.EndpointPort{Name: &port.Name, Protocol: &port.Protocol, Port: &number})
	}
	yes, no := true, false
	hinted := g.Intn(4)
	for range pick(g, 0, 1, 2, 3, 5, 12) {
		node := pick(g, "here", "there", "there")
		endpoint := discovery.Endpoint{Addresses: []string{g.address("10.0.0.%d", "fd00:10::%x")}, NodeName: &node}
		// Some pods serve two Services. In two slices of one, upstream's answer would depend on the order of a map.
		if strings.HasSuffix(name, "-0") && g.chance(8) {
			endpoint.Addresses[0] = choose(g.family == v1.IPv4Protocol, "10.0.9.9", "fd00:10::9999")
		}
		switch g.Intn(6) {
		case 0:
			endpoint.Conditions = discovery.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}
		case 1:
			endpoint.Conditions = discovery.EndpointConditions{Ready: &no, Serving: &no, Terminating: pick(g, &yes, &no, nil)}
		case 2:
			endpoint.Conditions = discovery.EndpointConditions{Ready: &yes}
		}
		if hinted >= 2 && !g.chance(15) {
			endpoint.Hints = &discovery.EndpointHints{ForZones: []discovery.ForZone{{Name: pick(g, "a", "b", "c")}}}
			if hinted == 3 {
				endpoint.Hints.ForNodes = []discovery.ForNode{{Name: node}}
			}
		}
		if slices.ContainsFunc(slice.Endpoints, func(o discovery.Endpoint) bool { return o.Addresses[0] == endpoint.Addresses[0] }) {
			continue
		}
		slice.Endpoints = append(slice.Endpoints, endpoint)
	}
	return slice
}
