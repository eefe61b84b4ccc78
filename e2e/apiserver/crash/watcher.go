package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"corten/apiserver/server"
)

type configMap struct {
	Metadata struct {
		Name            string
		ResourceVersion string
	}
	Data map[string]string
}

func (c configMap) revision() int64 {
	revision, _ := strconv.ParseInt(c.Metadata.ResourceVersion, 10, 64)
	return revision
}

type event struct {
	kind, key, value string
	revision         int64
}

// What was seen between two lists.
type segment struct {
	start  map[string]configMap
	from   int64
	events []event
}

type watcher struct {
	name, plant string
	segments    []*segment
	done        sync.WaitGroup
	problems    []string
}

// Everything there is, and the revision of the list.
func list(s *server.Server) (map[string]configMap, int64, error) {
	response, err := s.Open(s.Client, "GET", maps, nil, nil)
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	var page struct {
		Metadata struct{ ResourceVersion string }
		Items    []configMap
	}
	if err := json.NewDecoder(response.Body).Decode(&page); err != nil {
		return nil, 0, err
	}
	all := map[string]configMap{}
	for _, item := range page.Items {
		all[item.Metadata.Name] = item
	}
	revision, err := strconv.ParseInt(page.Metadata.ResourceVersion, 10, 64)
	return all, revision, err
}

func (w *watcher) position() int64 {
	last := w.segments[len(w.segments)-1]
	if len(last.events) == 0 {
		return last.from
	}
	return last.events[len(last.events)-1].revision
}

// Goes on watching until the server is gone.
func (w *watcher) start(s *server.Server) {
	w.done.Add(1)
	go func() {
		defer w.done.Done()
		_ = w.follow(s, 0)
	}()
}

func (w *watcher) wait() { w.done.Wait() }

// Watches until a revision has been seen.
func (w *watcher) until(s *server.Server, end int64) {
	if err := w.follow(s, end); err != nil {
		w.problems = append(w.problems, fmt.Sprintf("%s: the last watch ended early: %v", w.name, err))
	}
}

func (w *watcher) relist(s *server.Server) error {
	present, revision, err := list(s)
	if err == nil {
		w.segments = append(w.segments, &segment{start: present, from: revision})
	}
	return err
}

func (w *watcher) follow(s *server.Server, end int64) error {
	if len(w.segments) == 0 {
		if err := w.relist(s); err != nil {
			return err
		}
	}
	for end == 0 || w.position() < end {
		gone, err := w.watch(s, end)
		if err != nil {
			return err
		}
		if gone {
			if err := w.relist(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// One watch from the present position; whether the position was too old.
func (w *watcher) watch(s *server.Server, end int64) (bool, error) {
	path := fmt.Sprintf("%s?watch=1&resourceVersion=%d", maps, w.position())
	response, err := s.Open(server.NewClient(), "GET", path, nil, nil)
	if err != nil {
		return strings.Contains(err.Error(), " 410 "), ignore410(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			Type   string
			Object struct {
				configMap
				Code int
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return false, err
		}
		if line.Type == "ERROR" {
			if line.Object.Code == 410 {
				return true, nil
			}
			return false, fmt.Errorf("error event: %s", lines.Text())
		}
		object := line.Object.configMap
		seen := event{line.Type, object.Metadata.Name, object.Data["v"], object.revision()}
		w.see(seen)
		if end != 0 && seen.revision >= end {
			return false, nil
		}
	}
	return false, lines.Err()
}

func ignore410(err error) error {
	if strings.Contains(err.Error(), " 410 ") {
		return nil
	}
	return err
}

func (w *watcher) see(seen event) {
	last := w.segments[len(w.segments)-1]
	if len(last.events) == 50 {
		switch w.plant {
		case "twice":
			last.events = append(last.events, seen)
		case "skip":
			w.plant = ""
			return
		}
	}
	last.events = append(last.events, seen)
}

// Replays what was seen against what was written.
func (w *watcher) check(h *history) []string {
	faults := w.problems
	for number, segment := range w.segments {
		fault := func(text string, args ...any) {
			faults = append(faults, fmt.Sprintf("%s, segment %d: %s", w.name, number, fmt.Sprintf(text, args...)))
		}
		at := segment.from
		state := map[string]string{}
		for key, object := range segment.start {
			state[key] = object.Data["v"]
		}
		seen := map[string][]event{}
		for _, e := range segment.events {
			if e.revision <= at {
				fault("%s at %d came after %d", e.key, e.revision, at)
			}
			at = e.revision
			_, exists := state[e.key]
			if exists != (e.kind != "ADDED") {
				fault("%s of %s, which exists: %v", e.kind, e.key, exists)
			}
			if e.kind == "DELETED" {
				delete(state, e.key)
				e.value = ""
			} else {
				state[e.key] = e.value
			}
			seen[e.key] = append(seen[e.key], e)
		}
		for key, writes := range h.writes {
			if text := match(writes, segment.start[key].Data["v"], seen[key], segment.from, at); text != "" {
				fault("%s: %s", key, text)
			}
		}
	}
	return faults
}

// The events of a key must be its writes from the listed value on, up to the last revision seen, each once.
func match(writes []*write, listed string, events []event, from, to int64) string {
	var applied []*write
	for _, w := range writes {
		if w.outcome == acknowledged {
			applied = append(applied, w)
		}
	}
	next := 0
	if listed != "" {
		for next < len(applied) && applied[next].value != listed {
			next++
		}
		next++
	} else if len(events) > 0 {
		// Nothing was there: the first event is a creation.
		for next < len(applied) && applied[next].value != events[0].value {
			next++
		}
		if next > 0 && next < len(applied) && applied[next-1].value != "" {
			return fmt.Sprintf("the value %q was skipped", applied[next-1].value)
		}
	}
	for _, e := range events {
		if next >= len(applied) {
			return fmt.Sprintf("%s %q at %d was never written", e.kind, e.value, e.revision)
		}
		w := applied[next]
		if w.value != e.value || (w.revision != 0 && w.revision != e.revision) {
			return fmt.Sprintf("%s %q at %d instead of %q at %d", e.kind, e.value, e.revision, w.value, w.revision)
		}
		next++
	}
	if next < len(applied) {
		if w := applied[next]; w.revision > from && w.revision <= to {
			return fmt.Sprintf("the change to %q at %d was not seen", w.value, w.revision)
		}
	}
	return ""
}
