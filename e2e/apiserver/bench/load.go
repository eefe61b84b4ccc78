package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"corten/apiserver/server"
)

const (
	namespace = "/api/v1/namespaces/bench"
	jsonType  = "application/json"
	protobuf  = "application/vnd.kubernetes.protobuf"
	// Requests at a time in the measures of single objects.
	workers = 4
	// Watches at a time.
	watchers = 200
)

type object = map[string]any

// A pod whose served JSON, managed fields included, is about 8 KB.
func pod(name string, group int) []byte {
	env := make([]object, 0, 24)
	for i := range 24 {
		env = append(env, object{"name": fmt.Sprintf("SETTING_%02d", i), "value": strings.Repeat("v", 40)})
	}
	container := func(name string) object {
		return object{
			"name": name, "image": "registry.example/team/" + name + ":1.2.3", "env": env,
			"ports":          []object{{"containerPort": 8080, "name": "http"}},
			"resources":      object{"requests": object{"cpu": "100m", "memory": "64Mi"}, "limits": object{"memory": "128Mi"}},
			"readinessProbe": object{"httpGet": object{"path": "/ready", "port": "http"}, "periodSeconds": 5},
			"volumeMounts":   []object{{"name": "config", "mountPath": "/etc/config"}},
		}
	}
	return encode(object{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": object{
			"name":        name,
			"labels":      object{"app": "web", "group": fmt.Sprint(group), "pod-template-hash": "6d4cf56db6"},
			"annotations": object{"note": strings.Repeat("n", 200)},
		},
		"spec": object{
			"nodeName": fmt.Sprintf("node-%d", group), "containers": []object{container("app"), container("proxy")},
			"volumes": []object{{"name": "config", "configMap": object{"name": "settings"}}},
		},
	})
}

func encode(value any) []byte {
	text, err := json.Marshal(value)
	check(err)
	return text
}

// Makes the namespace and the pods; CPU per pod.
func fill(s *server.Server, count int) (float64, error) {
	ns := object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": "bench"}}
	if _, err := s.Do("POST", "/api/v1/namespaces", content(jsonType), encode(ns)); err != nil {
		return 0, err
	}
	return many(s, count, func(i int) error {
		_, err := s.Do("POST", namespace+"/pods", content(jsonType), pod(podName(i), i%100))
		return err
	})
}

func podName(i int) string { return fmt.Sprintf("web-6d4cf56db6-%05d", i) }

func content(kind string) map[string]string { return map[string]string{"Content-Type": kind} }

// Runs a request count times, several at a time; CPU per request.
func many(s *server.Server, count int, request func(int) error) (float64, error) {
	before, err := s.CPU()
	if err != nil {
		return 0, err
	}
	var group sync.WaitGroup
	failures := make(chan error, workers)
	for w := range workers {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := w; i < count; i += workers {
				if err := request(i); err != nil {
					failures <- err
					return
				}
			}
		}()
	}
	group.Wait()
	select {
	case err := <-failures:
		return 0, err
	default:
	}
	after, err := s.CPU()
	return (after - before) / float64(count), err
}

// CPU of one list; the warm-up does not count.
func list(query, accept string, gzip bool, times int) func(*server.Server) (float64, error) {
	headers := map[string]string{"Accept": accept}
	if gzip {
		headers["Accept-Encoding"] = "gzip"
	}
	return func(s *server.Server) (float64, error) {
		if _, err := s.Do("GET", namespace+"/pods"+query, headers, nil); err != nil {
			return 0, err
		}
		before, err := s.CPU()
		if err != nil {
			return 0, err
		}
		for range times {
			if _, err := s.Do("GET", namespace+"/pods"+query, headers, nil); err != nil {
				return 0, err
			}
		}
		after, err := s.CPU()
		return (after - before) / float64(times), err
	}
}

// CPU of all pages of a list.
func pages(limit int) func(*server.Server) (float64, error) {
	return func(s *server.Server) (float64, error) {
		before, err := s.CPU()
		if err != nil {
			return 0, err
		}
		next := ""
		for {
			response, err := s.Open(s.Client, "GET", fmt.Sprintf("%s/pods?limit=%d&continue=%s", namespace, limit, next), nil, nil)
			if err != nil {
				return 0, err
			}
			var page struct {
				Metadata struct{ Continue string }
			}
			err = json.NewDecoder(response.Body).Decode(&page)
			response.Body.Close()
			if err != nil {
				return 0, err
			}
			if next = page.Metadata.Continue; next == "" {
				break
			}
		}
		after, err := s.CPU()
		return after - before, err
	}
}

// Patches that change an annotation, so that every one is an event.
func patches(s *server.Server, count int) (float64, error) {
	return many(s, count, func(i int) error {
		stamp := object{"metadata": object{"annotations": object{"stamp": fmt.Sprint(time.Now().UnixNano())}}}
		_, err := s.Do("PATCH", namespace+"/pods/"+podName(i), content("application/strategic-merge-patch+json"), encode(stamp))
		return err
	})
}

// CPU per event and watch: what the same patches cost more with watches than without.
func watch(accept string, events int) func(*server.Server) (float64, error) {
	return func(s *server.Server) (float64, error) {
		alone, err := patches(s, events)
		if err != nil {
			return 0, err
		}
		response, err := s.Open(s.Client, "GET", namespace+"/pods?limit=1", nil, nil)
		if err != nil {
			return 0, err
		}
		var position struct {
			Metadata struct{ ResourceVersion string }
		}
		err = json.NewDecoder(response.Body).Decode(&position)
		response.Body.Close()
		if err != nil {
			return 0, err
		}
		var group sync.WaitGroup
		failures := make(chan error, watchers)
		for range watchers {
			client := server.NewClient()
			path := namespace + "/pods?watch=1&resourceVersion=" + position.Metadata.ResourceVersion
			response, err := s.Open(client, "GET", path, map[string]string{"Accept": accept}, nil)
			if err != nil {
				return 0, err
			}
			group.Add(1)
			go func() {
				defer group.Done()
				defer client.CloseIdleConnections()
				defer response.Body.Close()
				if err := read(bufio.NewReaderSize(response.Body, 64<<10), accept, events); err != nil {
					failures <- err
				}
			}()
		}
		// Connections settle.
		time.Sleep(time.Second)
		before, err := s.CPU()
		if err != nil {
			return 0, err
		}
		if _, err := patches(s, events); err != nil {
			return 0, err
		}
		group.Wait()
		select {
		case err := <-failures:
			return 0, err
		default:
		}
		after, err := s.CPU()
		return (after - before - alone*float64(events)) / float64(events*watchers), err
	}
}

// Reads that many events: lines of JSON, or frames of protobuf with their length before them.
func read(stream *bufio.Reader, accept string, events int) error {
	for range events {
		if accept == jsonType {
			for {
				_, err := stream.ReadSlice('\n')
				if err == nil {
					break
				}
				if err != bufio.ErrBufferFull {
					return err
				}
			}
			continue
		}
		var length [4]byte
		for i := range length {
			b, err := stream.ReadByte()
			if err != nil {
				return err
			}
			length[i] = b
		}
		size := int(length[0])<<24 | int(length[1])<<16 | int(length[2])<<8 | int(length[3])
		if _, err := stream.Discard(size); err != nil {
			return err
		}
	}
	return nil
}

func measures(pods int) []measure {
	table := "application/json;as=Table;v=v1;g=meta.k8s.io"
	metadata := "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
	var made int
	create := func(s *server.Server) (float64, error) {
		made++
		base := fmt.Sprintf("extra-%d-", made)
		return many(s, 500, func(i int) error {
			_, err := s.Do("POST", namespace+"/pods", content(jsonType), pod(base+fmt.Sprint(i), 101))
			return err
		})
	}
	apply := func(s *server.Server) (float64, error) {
		return many(s, 500, func(i int) error {
			path := fmt.Sprintf("%s/pods/%s?fieldManager=bench-apply&force=true", namespace, podName(i))
			intent := object{"apiVersion": "v1", "kind": "Pod", "metadata": object{
				"annotations": object{"applied": fmt.Sprint(time.Now().UnixNano())}}}
			_, err := s.Do("PATCH", path, content("application/apply-patch+yaml"), encode(intent))
			return err
		})
	}
	get := func(accept string) func(*server.Server) (float64, error) {
		return func(s *server.Server) (float64, error) {
			return many(s, 2000, func(i int) error {
				_, err := s.Do("GET", namespace+"/pods/"+podName(i%pods), map[string]string{"Accept": accept}, nil)
				return err
			})
		}
	}
	return []measure{
		{"LIST JSON", "us", 1.0 / 10, list("", jsonType, false, 3)},
		{"LIST JSON gzip", "us", 1.0 / 20, list("", jsonType, true, 3)},
		{"LIST protobuf", "us", 1.0 / 6, list("", protobuf, false, 3)},
		{"LIST protobuf gzip", "us", 0, list("", protobuf, true, 3)},
		{"LIST table", "us", 0, list("", table, false, 3)},
		{"LIST metadata", "us", 0, list("", metadata, false, 3)},
		{"LIST JSON, 1% by label", "us", 0, list("?labelSelector=group%3D7", jsonType, false, 10)},
		{"LIST JSON, 1% by field", "us", 0, list("?fieldSelector=spec.nodeName%3Dnode-7", jsonType, false, 10)},
		{"LIST JSON, limit=500", "us", 0, pages(500)},
		{"GET JSON", "us", 0, get(jsonType)},
		{"GET protobuf", "us", 0, get(protobuf)},
		{"create pod", "us", 1.0 / 5, create},
		{"strategic patch", "us", 1.0 / 5, func(s *server.Server) (float64, error) { return patches(s, 500) }},
		{"apply", "us", 1.0 / 5, apply},
		{"watch event, JSON", "us", 1.0 / 10, watch(jsonType, 200)},
		{"watch event, protobuf", "us", 1.0 / 10, watch(protobuf, 200)},
	}
}
