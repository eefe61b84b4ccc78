// Command flowcontrol records what upstream's priority and fairness does: `flowcontrol OUT` writes
// OUT/bootstrap.jsonl (the suggested and mandatory objects), OUT/queuesets.jsonl (random histories of a queue set with a
// fake clock, and its state after each step), OUT/hands.jsonl (shuffle sharding), OUT/allocations.jsonl (seats divided
// among levels) and OUT/matches.jsonl (which of the bootstrap flow schemas requests match).
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"time"
	_ "unsafe" // for go:linkname

	v1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/util/flowcontrol"
	fq "k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing"
	"k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing/queueset"
	testclock "k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing/testing/eventclock"
	"k8s.io/apiserver/pkg/util/flowcontrol/metrics"
	fcrequest "k8s.io/apiserver/pkg/util/flowcontrol/request"
	"k8s.io/apiserver/pkg/util/shufflesharding"
)

type item struct{ Target, Lower, Upper float64 }

//go:linkname allocate k8s.io/apiserver/pkg/util/flowcontrol.computeConcurrencyAllocation
func allocate(sum int, items []item) ([]float64, float64, error)

//go:linkname matches k8s.io/apiserver/pkg/util/flowcontrol.matchesFlowSchema
func matches(digest flowcontrol.RequestDigest, schema *v1.FlowSchema) bool

type step struct {
	Op      string `json:"op"`
	ID      int    `json:"id,omitempty"`
	Hash    uint64 `json:"hash,omitempty"`
	Initial uint64 `json:"initial,omitempty"`
	Final   uint64 `json:"final,omitempty"`
	Nanos   int64  `json:"nanos,omitempty"`
	Limit   int    `json:"limit,omitempty"`
	After   state  `json:"after"`
}

type state struct {
	Executing []int             `json:"executing"`
	Waiting   map[string][]int  `json:"waiting,omitempty"`
	NextR     map[string]string `json:"next,omitempty"`
	Seats     int               `json:"seats"`
	Refused   int               `json:"refused,omitempty"`
}

type scenario struct {
	Queues int    `json:"queues"`
	Hand   int    `json:"hand"`
	Length int    `json:"length"`
	Limit  int    `json:"limit"`
	Steps  []step `json:"steps"`
}

type running struct {
	cancel  context.CancelFunc
	release chan struct{}
	done    chan struct{}
}

type history struct {
	scenario
	rng     *rand.Rand
	clock   *testclock.Fake
	factory fq.QueueSetFactory
	set     fq.QueueSet
	live    map[int]*running
}

func (h *history) config() fq.QueuingConfig {
	return fq.QueuingConfig{Name: "test", DesiredNumQueues: h.Queues, QueueLengthLimit: h.Length, HandSize: h.Hand}
}

func (h *history) limit(limit int) {
	completer, err := h.set.BeginConfigChange(h.config())
	check(err)
	h.set = completer.Complete(fq.DispatchingConfig{ConcurrencyLimit: limit, ConcurrencyDenominator: max(limit, 1)})
}

func (h *history) arrive(s step) {
	ctx, cancel := context.WithCancel(context.Background())
	ctx = request.WithUser(ctx, &user.DefaultInfo{})
	work := &fcrequest.WorkEstimate{InitialSeats: s.Initial, FinalSeats: s.Final, AdditionalLatency: time.Duration(s.Nanos)}
	req, _ := h.set.StartRequest(ctx, work, s.Hash, strconv.Itoa(s.ID), "fs", nil, nil, nil)
	if req == nil {
		cancel()
		return
	}
	r := &running{cancel: cancel, release: make(chan struct{}), done: make(chan struct{})}
	h.live[s.ID] = r
	go func() {
		req.Finish(func() { <-r.release })
		close(r.done)
	}()
}

func ids(dumps []string) []int {
	all := []int{}
	for _, d := range dumps {
		n, err := strconv.Atoi(d)
		check(err)
		all = append(all, n)
	}
	return all
}

func (h *history) state() state {
	dump := h.set.Dump(false)
	s := state{Waiting: map[string][]int{}, NextR: map[string]string{}, Seats: dump.SeatsInUse, Refused: dump.Rejected}
	executing := []string{}
	for i, q := range dump.Queues {
		if len(q.Requests)+len(q.RequestsExecuting) == 0 {
			continue
		}
		waiting := []string{}
		for _, r := range q.Requests {
			waiting = append(waiting, r.FlowDistinguisher)
		}
		for _, r := range q.RequestsExecuting {
			executing = append(executing, r.FlowDistinguisher)
		}
		if len(waiting) > 0 {
			s.Waiting[strconv.Itoa(i)] = ids(waiting)
		}
		s.NextR[strconv.Itoa(i)] = q.NextDispatchR
	}
	s.Executing = ids(executing)
	sort.Ints(s.Executing)
	return s
}

func (h *history) pick(from []int) (int, bool) {
	if len(from) == 0 {
		return 0, false
	}
	return from[h.rng.Intn(len(from))], true
}

func (h *history) next(n int, now state) (step, bool) {
	waiting := []int{}
	for i := 0; i < h.Queues; i++ {
		waiting = append(waiting, now.Waiting[strconv.Itoa(i)]...)
	}
	switch draw := h.rng.Intn(20); {
	case draw < 8:
		s := step{Op: "arrive", ID: n, Hash: h.rng.Uint64(), Initial: uint64(1 + h.rng.Intn(3))}
		if h.rng.Intn(3) == 0 {
			s.Hash = uint64(h.rng.Intn(3))
		}
		if h.rng.Intn(3) == 0 {
			s.Final, s.Nanos = uint64(1+h.rng.Intn(5)), int64(1+h.rng.Intn(9_000_000))
		}
		return s, true
	case draw < 13:
		id, ok := h.pick(now.Executing)
		return step{Op: "finish", ID: id}, ok
	case draw < 14:
		id, ok := h.pick(waiting)
		return step{Op: "cancel", ID: id}, ok
	case draw < 15 && h.rng.Intn(4) == 0:
		return step{Op: "limit", Limit: 1 + h.rng.Intn(6)}, true
	default:
		return step{Op: "pass", Nanos: int64(h.rng.Intn(8_000_000))}, true
	}
}

func (h *history) run(length int) {
	completer, err := h.factory.BeginConstruction(h.config(),
		metrics.RatioedGaugeVecPhasedElementPair(metrics.PriorityLevelConcurrencyGaugeVec, 1, 1, []string{"test"}),
		metrics.PriorityLevelExecutionSeatsGaugeVec.NewForLabelValuesSafe(0, 1, []string{"test"}),
		fq.NewNamedIntegrator(h.clock, "test"))
	check(err)
	h.set = completer.Complete(fq.DispatchingConfig{ConcurrencyLimit: h.Limit, ConcurrencyDenominator: h.Limit})
	now := h.state()
	for n := 1; n <= length; {
		s, ok := h.next(n, now)
		if !ok {
			continue
		}
		n++
		switch s.Op {
		case "arrive":
			h.arrive(s)
		case "finish":
			close(h.live[s.ID].release)
			<-h.live[s.ID].done
		case "cancel":
			h.live[s.ID].cancel()
			<-h.live[s.ID].done
		case "limit":
			h.limit(s.Limit)
		case "pass":
			until := h.clock.Now().Add(time.Duration(s.Nanos))
			h.clock.Run(&until)
			h.clock.SetTime(until)
		}
		now = h.state()
		s.After = now
		h.Steps = append(h.Steps, s)
	}
}

func queuesets(out *json.Encoder) {
	rng := rand.New(rand.NewSource(7))
	for i := 0; i < 24; i++ {
		clock, _ := testclock.NewFake(time.Unix(1_000_000, 0), 0, nil)
		h := &history{rng: rng, clock: clock, factory: queueset.NewQueueSetFactory(clock), live: map[int]*running{}}
		queues := 1 + rng.Intn(8)
		h.scenario = scenario{Queues: queues, Hand: 1 + rng.Intn(min(queues, 3)), Length: 1 + rng.Intn(4), Limit: 1 + rng.Intn(5)}
		h.run(100)
		check(out.Encode(h.scenario))
	}
}

func hands(out *json.Encoder) {
	rng := rand.New(rand.NewSource(3))
	for _, size := range [][2]int{{64, 6}, {16, 4}, {128, 6}, {1, 1}, {15, 15}, {50, 10}, {5, 5}} {
		dealer, err := shufflesharding.NewDealer(size[0], size[1])
		check(err)
		for i := 0; i < 30; i++ {
			hash := rng.Uint64()
			check(out.Encode(map[string]any{"deck": size[0], "hand": size[1], "hash": hash, "cards": dealer.DealIntoHand(hash, nil)}))
		}
	}
}

func allocations(out *json.Encoder) {
	rng := rand.New(rand.NewSource(5))
	for i := 0; i < 300; i++ {
		items := make([]item, 1+rng.Intn(7))
		low, high := 0, 0
		for j := range items {
			lower, more, room := rng.Intn(40), rng.Intn(60), rng.Intn(90)
			items[j] = item{Target: float64(lower) + float64(more)/2, Lower: float64(lower), Upper: float64(lower + room)}
			low, high = low+lower, high+lower+room
		}
		sum := low + rng.Intn(high-low+1)
		shares, fair, err := allocate(sum, items)
		check(err)
		check(out.Encode(map[string]any{"sum": sum, "items": items, "shares": shares, "fair": fair}))
	}
}

func schemas() []*v1.FlowSchema {
	all := append([]*v1.FlowSchema{}, bootstrap.SuggestedFlowSchemas...)
	return append(all, bootstrap.MandatoryFlowSchemas...)
}

func requests(out *json.Encoder) {
	users := []*user.DefaultInfo{
		{Name: "admin", Groups: []string{"system:masters", "system:authenticated"}},
		{Name: "system:node:n1", Groups: []string{"system:nodes", "system:authenticated"}},
		{Name: "system:kube-scheduler", Groups: []string{"system:authenticated"}},
		{Name: "system:kube-controller-manager", Groups: []string{"system:authenticated"}},
		{Name: "system:serviceaccount:kube-system:x", Groups: []string{"system:serviceaccounts", "system:authenticated"}},
		{Name: "system:serviceaccount:kube-system2:x", Groups: []string{"system:serviceaccounts", "system:authenticated"}},
		{Name: "system:anonymous", Groups: []string{"system:unauthenticated"}},
		{Name: "nobody"},
	}
	infos := []*request.RequestInfo{
		{Verb: "get", Path: "/healthz"},
		{Verb: "get", Path: "/livez/ping"},
		{Verb: "get", Path: "/healthzx"},
		{Verb: "post", Path: "/readyz"},
		{Verb: "get", Path: "/metrics"},
		{IsResourceRequest: true, Verb: "update", APIGroup: "coordination.k8s.io", Resource: "leases", Namespace: "kube-system"},
		{IsResourceRequest: true, Verb: "list", APIGroup: "coordination.k8s.io", Resource: "leases", Namespace: "kube-system"},
		{IsResourceRequest: true, Verb: "get", APIGroup: "coordination.k8s.io", Resource: "leases"},
		{IsResourceRequest: true, Verb: "patch", Resource: "nodes", Subresource: "status", Name: "n1"},
		{IsResourceRequest: true, Verb: "get", Resource: "nodes", Subresource: "proxy", Name: "n1"},
		{IsResourceRequest: true, Verb: "create", Resource: "pods", Namespace: "default"},
	}
	own := &v1.FlowSchema{ObjectMeta: metav1.ObjectMeta{Name: "own"}, Spec: v1.FlowSchemaSpec{Rules: []v1.PolicyRulesWithSubjects{{
		Subjects: []v1.Subject{
			{Kind: "User", User: &v1.UserSubject{Name: "nobody"}},
			{Kind: "ServiceAccount", ServiceAccount: &v1.ServiceAccountSubject{Namespace: "kube-system", Name: "x"}},
			{Kind: "Group"},
		},
		ResourceRules: []v1.ResourcePolicyRule{
			{Verbs: []string{"get", "create"}, APIGroups: []string{""}, Resources: []string{"pods", "nodes/proxy"}, Namespaces: []string{"default"}},
			{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"nodes/status", "leases"}, ClusterScope: true},
		},
		NonResourceRules: []v1.NonResourcePolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/livez/*", "/healthz"}}},
	}}}}
	check(out.Encode(own))
	for _, u := range users {
		for _, info := range infos {
			matched := []string{}
			for _, fs := range append(schemas(), own) {
				if matches(flowcontrol.RequestDigest{RequestInfo: info, User: u}, fs) {
					matched = append(matched, fs.Name)
				}
			}
			check(out.Encode(map[string]any{"user": u.Name, "groups": u.Groups, "isResource": info.IsResourceRequest,
				"verb": info.Verb, "path": info.Path, "group": info.APIGroup, "resource": info.Resource,
				"subresource": info.Subresource, "namespace": info.Namespace, "matched": matched}))
		}
	}
}

func objects(out *json.Encoder) {
	put := func(kind, of string, object any) {
		check(out.Encode(map[string]any{"kind": kind, "of": of, "object": object}))
	}
	for _, o := range bootstrap.SuggestedPriorityLevelConfigurations {
		put("PriorityLevelConfiguration", "suggested", o)
	}
	for _, o := range bootstrap.SuggestedFlowSchemas {
		put("FlowSchema", "suggested", o)
	}
	for _, o := range bootstrap.MandatoryPriorityLevelConfigurations {
		put("PriorityLevelConfiguration", "mandatory", o)
	}
	for _, o := range bootstrap.MandatoryFlowSchemas {
		put("FlowSchema", "mandatory", o)
	}
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: flowcontrol OUT")
		os.Exit(2)
	}
	metrics.Register()
	for name, write := range map[string]func(*json.Encoder){
		"bootstrap": objects, "queuesets": queuesets, "hands": hands, "allocations": allocations, "matches": requests,
	} {
		file, err := os.Create(filepath.Join(os.Args[1], name+".jsonl"))
		check(err)
		buffer := bufio.NewWriter(file)
		write(json.NewEncoder(buffer))
		check(buffer.Flush())
		check(file.Close())
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
