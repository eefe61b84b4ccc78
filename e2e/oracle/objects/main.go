// Records what upstream's kubelet asks of the API server for ConfigMaps and Secrets that it keeps for a while, and what
// it answers.
//
//	go run ./objects > ../../kubelet/src/volume/objects/testdata/cached.jsonl
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/kubernetes/pkg/kubelet/util/manager"
	testingclock "k8s.io/utils/clock/testing"
)

type step struct {
	Do      string   `json:"do"`
	Pod     string   `json:"pod,omitempty"`
	Names   []string `json:"names,omitempty"`
	Name    string   `json:"name,omitempty"`
	State   string   `json:"state,omitempty"`
	Seconds *int     `json:"seconds,omitempty"`
	Asked   *string  `json:"asked,omitempty"`
	Answer  string   `json:"answer,omitempty"`
}

var names = []string{"a", "b", "c"}

// story tells a manager of its own what happens.
type story struct {
	random *rand.Rand
	clock  *testingclock.FakeClock
	api    map[string]string
	ttl    *time.Duration
	asked  *string
	it     manager.Manager
	steps  []step
	newest int
}

func (s *story) get(_, name string, options metav1.GetOptions) (runtime.Object, error) {
	version := options.ResourceVersion
	s.asked = &version
	switch state := s.api[name]; state {
	case "", "absent":
		return &v1.ConfigMap{}, apierrors.NewNotFound(v1.Resource("configmaps"), name)
	case "down":
		return &v1.ConfigMap{}, errors.New("down")
	default:
		return &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{ResourceVersion: state}}, nil
	}
}

func (s *story) holds() (time.Duration, bool) {
	if s.ttl == nil {
		return 0, false
	}
	return *s.ttl, true
}

func pod(name string, names []string) *v1.Pod {
	out := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "n", UID: types.UID(name)}}
	for _, name := range names {
		out.Spec.ImagePullSecrets = append(out.Spec.ImagePullSecrets, v1.LocalObjectReference{Name: name})
	}
	return out
}

func referenced(pod *v1.Pod) sets.Set[string] {
	out := sets.New[string]()
	for _, reference := range pod.Spec.ImagePullSecrets {
		out.Insert(reference.Name)
	}
	return out
}

func (s *story) some() []string {
	var out []string
	for _, name := range names {
		if s.random.Intn(2) == 0 {
			out = append(out, name)
		}
	}
	return out
}

func (s *story) state() string {
	switch s.random.Intn(5) {
	case 0:
		return "absent"
	case 1:
		return "down"
	case 2: // An old state, as caches may have.
		return strconv.Itoa(1 + s.random.Intn(s.newest+1))
	default:
		s.newest++
		return strconv.Itoa(s.newest)
	}
}

func (s *story) ask(name string) {
	s.asked = nil
	object, err := s.it.GetObject("n", name)
	next := step{Do: "get", Name: name, Asked: s.asked}
	switch {
	case apierrors.IsNotFound(err):
		next.Answer = "absent"
	case err != nil:
		next.Answer = err.Error()
	default:
		next.Answer = object.(*v1.ConfigMap).ResourceVersion
	}
	s.steps = append(s.steps, next)
}

func (s *story) next() {
	name := names[s.random.Intn(len(names))]
	who := fmt.Sprintf("p%d", s.random.Intn(3))
	switch s.random.Intn(12) {
	case 0, 1:
		some := s.some()
		s.it.RegisterPod(pod(who, some))
		s.steps = append(s.steps, step{Do: "register", Pod: who, Names: some})
	case 2:
		s.it.UnregisterPod(pod(who, nil))
		s.steps = append(s.steps, step{Do: "forget", Pod: who})
	case 3, 4:
		state := s.state()
		s.api[name] = state
		s.steps = append(s.steps, step{Do: "api", Name: name, State: state})
	case 5:
		seconds := []int{1, 10, 29, 30, 59, 60, 61}[s.random.Intn(7)]
		s.clock.Step(time.Duration(seconds) * time.Second)
		s.steps = append(s.steps, step{Do: "pass", Seconds: &seconds})
	case 6:
		if seconds := []int{0, 30, 60, -1}[s.random.Intn(4)]; seconds < 0 {
			s.ttl = nil
			s.steps = append(s.steps, step{Do: "ttl"})
		} else {
			ttl := time.Duration(seconds) * time.Second
			s.ttl = &ttl
			s.steps = append(s.steps, step{Do: "ttl", Seconds: &seconds})
		}
	default:
		s.ask(name)
	}
}

func main() {
	out := json.NewEncoder(os.Stdout)
	for seed := int64(0); seed < 60; seed++ {
		s := &story{random: rand.New(rand.NewSource(seed)), clock: testingclock.NewFakeClock(time.Unix(1e9, 0)), api: map[string]string{}, newest: 5}
		store := manager.NewObjectStore(s.get, s.clock, s.holds, time.Minute)
		s.it = manager.NewCacheBasedManager(store, referenced)
		for len(s.steps) < 80 {
			s.next()
		}
		if err := out.Encode(s.steps); err != nil {
			panic(err)
		}
	}
}
