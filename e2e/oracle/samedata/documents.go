package main

import (
	"encoding/json"
	"fmt"
	"net"
	"reflect"
	"sort"
	"strings"
)

// Compares what the servers say of themselves.
func (r *run) documents() {
	aggregated := "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	for _, path := range []string{"/api", "/apis"} {
		r.document(path, aggregated)
		r.document(path, jsonType)
	}
	for _, path := range r.versions() {
		r.document(path, jsonType)
	}
	r.document("/openapi/v2", jsonType)
	index := r.document("/openapi/v3", jsonType)
	paths, _ := index["paths"].(object)
	for _, path := range sorted(paths) {
		r.document("/openapi/v3/"+path, jsonType)
	}
}

func (r *run) versions() []string {
	text, err := get(r.servers[0], "/apis", jsonType)
	check(err)
	var list struct {
		Groups []struct {
			Versions []struct{ GroupVersion string }
		}
	}
	check(json.Unmarshal(text, &list))
	paths := []string{"/api/v1"}
	for _, group := range list.Groups {
		for _, version := range group.Versions {
			paths = append(paths, "/apis/"+version.GroupVersion)
		}
	}
	return paths
}

// Compares one document and answers the first server's.
func (r *run) document(path, accept string) object {
	var answers [2]object
	for i, s := range r.servers {
		text, err := get(s, path, accept)
		if err != nil {
			r.differ(path, "%v", err)
			return nil
		}
		check(json.Unmarshal(text, &answers[i]))
	}
	r.documentsSeen++
	if places := differences("", answers[0], answers[1]); len(places) > 0 {
		shown := places[:min(len(places), 5)]
		r.differ(path+" ("+accept+")", "in %d places\n  %s", len(places), strings.Join(shown, "\n  "))
	}
	return answers[0]
}

// The places where two documents differ. Descriptions may, the addresses of OpenAPI documents, which carry a hash of them,
// and ports.
func differences(at string, a, b any) []string {
	switch a := a.(type) {
	case object:
		b, ok := b.(object)
		if !ok {
			return []string{at + ": an object on one side"}
		}
		var places []string
		keys := object{}
		for k := range a {
			keys[k] = nil
		}
		for k := range b {
			keys[k] = nil
		}
		for _, k := range sorted(keys) {
			_, text := a[k].(string)
			if text && (k == "description" || k == "serverRelativeURL") {
				continue
			}
			if text && k == "serverAddress" {
				// The servers have ports of their own.
				theirs, _ := b[k].(string)
				places = append(places, differences(at+"/"+k, host(a[k].(string)), host(theirs))...)
				continue
			}
			places = append(places, differences(at+"/"+k, a[k], b[k])...)
		}
		return places
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return []string{fmt.Sprintf("%s: lists that differ: %.300v | %.300v", at, a, b)}
		}
		var places []string
		for i := range a {
			places = append(places, differences(fmt.Sprintf("%s/%d", at, i), a[i], b[i])...)
		}
		return places
	}
	if reflect.DeepEqual(a, b) {
		return nil
	}
	return []string{fmt.Sprintf("%s: %.200v | %.200v", at, a, b)}
}

func host(address string) string {
	name, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return name
}

func sorted(m object) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
