package main

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"strconv"
	"sync"

	"corten/apiserver/server"
)

const (
	maps       = "/api/v1/namespaces/crash/configmaps"
	writers    = 8
	keysOfEach = 5
)

var (
	jsonBody  = map[string]string{"Content-Type": "application/json"}
	mergeBody = map[string]string{"Content-Type": "application/merge-patch+json"}
)

type outcome int

const (
	acknowledged outcome = iota
	// The connection ended first: applied or not.
	cutOff
	// Cut off, and found not to have been applied.
	refused
)

// One write of a key: a value, or none for a deletion.
type write struct {
	value   string
	outcome outcome
	// The revision, where the answer said it.
	revision int64
}

type history struct {
	sync.Mutex
	writes            map[string][]*write
	counter           int
	acknowledged, cut int
}

func newHistory() *history { return &history{writes: map[string][]*write{}} }

// What a key has after its last write that took effect.
func (h *history) state(key string) *write {
	all := h.writes[key]
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].outcome == acknowledged {
			return all[i]
		}
	}
	return &write{}
}

// Starts writers that work until the server is gone.
func (h *history) load(s *server.Server, stop chan struct{}) *sync.WaitGroup {
	var done sync.WaitGroup
	for w := range writers {
		done.Add(1)
		go func() {
			defer done.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if !h.write(s, fmt.Sprintf("key-%d-%d", w, rand.Intn(keysOfEach))) {
					return
				}
			}
		}()
	}
	return &done
}

// One write; whether the server still answers.
func (h *history) write(s *server.Server, key string) bool {
	h.Lock()
	before := h.state(key).value
	h.counter++
	next := &write{value: strconv.Itoa(h.counter)}
	if before != "" && rand.Intn(5) == 0 {
		next.value = ""
	}
	h.writes[key] = append(h.writes[key], next)
	h.Unlock()
	body := fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q},"data":{"v":%q}}`, key, next.value)
	var revision int64
	var err error
	switch {
	case next.value == "":
		_, err = send(s, "DELETE", maps+"/"+key, jsonBody, "")
	case before == "":
		revision, err = send(s, "POST", maps, jsonBody, body)
	default:
		revision, err = send(s, "PATCH", maps+"/"+key, mergeBody, fmt.Sprintf(`{"data":{"v":%q}}`, next.value))
	}
	h.Lock()
	defer h.Unlock()
	if err != nil {
		next.outcome = cutOff
		h.cut++
		return false
	}
	next.revision = revision
	h.acknowledged++
	return true
}

// The resource version of the answer.
func send(s *server.Server, method, path string, headers map[string]string, body string) (int64, error) {
	response, err := s.Open(s.Client, method, path, headers, []byte(body))
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	var object configMap
	if err := json.NewDecoder(response.Body).Decode(&object); err != nil {
		return 0, err
	}
	revision, _ := strconv.ParseInt(object.Metadata.ResourceVersion, 10, 64)
	return revision, nil
}

// Compares the present state with the acknowledged one, and finds out about writes that were cut off.
func (h *history) settle(present map[string]configMap) []string {
	h.Lock()
	defer h.Unlock()
	var faults []string
	for key, all := range h.writes {
		last := all[len(all)-1]
		found := present[key].Data["v"]
		if last.outcome == cutOff {
			if found == last.value {
				last.outcome = acknowledged
			} else {
				last.outcome = refused
			}
		}
		want := h.state(key)
		if found != want.value {
			faults = append(faults, fmt.Sprintf("%s: acknowledged %q, found %q", key, want.value, found))
			continue
		}
		version := present[key].Metadata.ResourceVersion
		if want.revision != 0 && version != strconv.FormatInt(want.revision, 10) {
			faults = append(faults, fmt.Sprintf("%s: acknowledged at %d, found at %s", key, want.revision, version))
		}
	}
	for key := range present {
		if h.writes[key] == nil && key != "kube-root-ca.crt" && key != "sentinel" {
			faults = append(faults, fmt.Sprintf("%s: nobody made it", key))
		}
	}
	return faults
}

// A last write, by which watchers know that they have seen everything.
func (h *history) sentinel(s *server.Server) (int64, error) {
	return send(s, "POST", maps, jsonBody, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"sentinel"}}`)
}
