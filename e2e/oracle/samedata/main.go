// Command samedata has two API servers, ours and upstream's, work on one etcd: whatever one writes the other must read
// and rewrite as its own, for every kind.
//
//	samedata -ours kube-apiserver -upstream kube-apiserver -etcd etcd [-runtime-config api/all=true] [-feature-gates A=true]
//
// One server creates an object (upstream's own samples of TestEtcdStoragePath, and richer ones), both serve it in every
// version, and must answer the same bytes as JSON, as protobuf and as a table. The other writes back what it read: that the
// revision stays proves that it would have stored the very bytes that are there. It adds an annotation; the first must serve
// the result the same way, and write it back without a new revision. In the other versions both must tell the same of a
// write of what was read, and of one with an annotation. The status is written in the same way. Then the servers change
// places. Every resource that is served must have a sample. Last, discovery and OpenAPI documents are compared, descriptions
// aside. Prints each difference, and ends with exit code 1 if there is one.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"

	"corten/apiserver/server"
	"k8s.io/apimachinery/pkg/runtime/schema"
	samples "k8s.io/kubernetes/test/integration/etcd"
)

const (
	jsonType = "application/json"
	protobuf = "application/vnd.kubernetes.protobuf"
	// Of the writes; it names the entry in managed fields.
	manager = "?fieldManager=samedata"
)

// Groups whose objects both servers have controllers for, which write their status.
var kept = map[string]bool{
	"apiextensions.k8s.io": true, "apiregistration.k8s.io": true, "flowcontrol.apiserver.k8s.io": true,
}

type object = map[string]any

func main() {
	ours := flag.String("ours", "", "our kube-apiserver")
	upstream := flag.String("upstream", "", "upstream's kube-apiserver")
	etcd := flag.String("etcd", "etcd", "etcd")
	config := flag.String("runtime-config", "", "--runtime-config of both servers")
	gates := flag.String("feature-gates", "", "--feature-gates of both servers")
	only := flag.String("only", "", "resources to look at: a part of their name")
	flag.Parse()
	log.SetFlags(0)
	dir, err := os.MkdirTemp("", "samedata-")
	check(err)
	r := &run{store: store{endpoint: freeAddress()}, only: *only}
	defer os.RemoveAll(dir)
	companion := exec.Command(*etcd, "--data-dir", filepath.Join(dir, "etcd"), "--log-level", "error",
		"--listen-client-urls", r.store.endpoint, "--advertise-client-urls", r.store.endpoint,
		"--listen-peer-urls", freeAddress())
	companion.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	check(companion.Start())
	defer companion.Process.Kill()
	for name, binary := range map[string]string{"upstream": *upstream, "ours": *ours} {
		s, err := server.StartOnEtcd(name, binary, dir, r.store.endpoint, "--runtime-config="+*config,
			"--feature-gates="+*gates)
		if s != nil {
			defer s.Stop()
		}
		if err != nil {
			log.Print(err)
			return
		}
		r.servers = append(r.servers, s)
	}
	// Hooks of both servers write their first objects.
	time.Sleep(5 * time.Second)
	sort.Slice(r.servers, func(i, j int) bool { return r.servers[i].Name > r.servers[j].Name })
	r.kinds()
	r.documents()
	log.Printf("%d kinds written by one and rewritten by the other, both ways, %d statuses; %d documents; %d differences; not offered by both: %s",
		r.done, r.statuses, r.documentsSeen, r.differences, strings.Join(r.absent, ", "))
	if r.differences > 0 || r.done == 0 {
		defer os.Exit(1)
	}
}

type run struct {
	store         store
	servers       []*server.Server
	only          string
	done          int
	statuses      int
	documentsSeen int
	differences   int
	absent        []string
}

func (r *run) differ(what, format string, args ...any) {
	r.differences++
	log.Printf("DIFFERS %s: %s", what, fmt.Sprintf(format, args...))
}

// What discovery says of a resource.
type resource struct {
	Name       string
	Namespaced bool
	Kind       string
	Verbs      []string
}

func (r *run) kinds() {
	namespaces := []string{"first", "second"}
	for _, namespace := range namespaces {
		body := encode(object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": namespace}})
		must(r.servers[0].Open(r.servers[0].Client, "POST", "/api/v1/namespaces", header(jsonType), body))
	}
	for _, definition := range samples.GetCustomResourceDefinitionData() {
		definition.Kind, definition.APIVersion = "CustomResourceDefinition", "apiextensions.k8s.io/v1"
		path := "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
		must(r.servers[0].Open(r.servers[0].Client, "POST", path, header(jsonType), encode(definition)))
	}
	// Both servers establish and serve them.
	time.Sleep(10 * time.Second)
	all := samples.GetEtcdStorageDataForNamespace(namespaces[0])
	var gvrs []schema.GroupVersionResource
	for gvr := range all {
		if strings.Contains(gvr.String(), r.only) {
			gvrs = append(gvrs, gvr)
		}
	}
	sort.Slice(gvrs, func(i, j int) bool { return gvrs[i].String() < gvrs[j].String() })
	for _, gvr := range gvrs {
		found, why := r.lookup(gvr)
		if found == nil || all[gvr].Stub == "" {
			r.absent = append(r.absent, name(gvr)+why)
			continue
		}
		for turn, namespace := range namespaces {
			each := append(richer(gvr, namespace), samples.GetEtcdStorageDataForNamespace(namespace)[gvr])
			for _, sample := range each {
				r.bothWays(gvr, *found, namespace, sample, r.servers[turn], r.servers[1-turn])
			}
		}
		r.done++
	}
	if r.only == "" {
		r.withoutSample(all)
	}
}

func (r *run) bothWays(gvr schema.GroupVersionResource, found resource, namespace string, sample samples.StorageData,
	writer, other *server.Server) {
	what := fmt.Sprintf("%s %s, first written by %s", name(gvr), sample.ExpectedEtcdPath, writer.Name)
	if err := r.exchange(what, gvr, found, namespace, sample, writer, other); err != nil {
		r.differ(what, "%v", err)
	}
}

// Tells of resources that can be written and of which nothing was.
func (r *run) withoutSample(all map[schema.GroupVersionResource]samples.StorageData) {
	for _, path := range r.versions() {
		group, version, found := strings.Cut(strings.TrimPrefix(path, "/apis/"), "/")
		if !found || path == "/api/v1" {
			group, version = "", "v1"
		}
		for _, served := range r.resources(r.servers[0], path) {
			gvr := schema.GroupVersionResource{Group: group, Version: version, Resource: served.Name}
			verbs := strings.Join(served.Verbs, " ")
			known := strings.Contains(served.Name, "/") || all[gvr].Stub != ""
			if !known && strings.Contains(verbs, "create") && strings.Contains(verbs, "get") {
				r.differ(name(gvr), "has no sample")
			}
		}
	}
}

func (r *run) resources(s *server.Server, path string) []resource {
	text, err := get(s, path, jsonType)
	if err != nil {
		return nil
	}
	var list struct{ Resources []resource }
	check(json.Unmarshal(text, &list))
	return list.Resources
}

func name(gvr schema.GroupVersionResource) string {
	return strings.TrimPrefix(gvr.Group+"/"+gvr.Version+"/"+gvr.Resource, "/")
}

func root(gvr schema.GroupVersionResource) string {
	if gvr.Group == "" {
		return "/api/" + gvr.Version
	}
	return "/apis/" + gvr.Group + "/" + gvr.Version
}

// The resource if both servers offer it in the same way.
func (r *run) lookup(gvr schema.GroupVersionResource) (*resource, string) {
	var found [2]*resource
	for i, s := range r.servers {
		for _, candidate := range r.resources(s, root(gvr)) {
			if candidate.Name == gvr.Resource {
				found[i] = &candidate
			}
		}
	}
	if found[0] == nil && found[1] == nil {
		return nil, ""
	}
	if found[0] == nil || found[1] == nil {
		r.differ(name(gvr), "is offered by one server only")
		return nil, " (by one)"
	}
	return found[0], ""
}

// One object's way from writer to other and back.
func (r *run) exchange(what string, gvr schema.GroupVersionResource, res resource, namespace string, sample samples.StorageData,
	writer, other *server.Server) error {
	defer r.store.remove(sample.ExpectedEtcdPath)
	for _, first := range sample.Prerequisites {
		path, body, err := r.request(first.GvrData, namespace, first.Stub)
		if err != nil {
			return err
		}
		if _, err := send(writer, "POST", path+manager, body); err != nil {
			return fmt.Errorf("a prerequisite: %w", err)
		}
		var made struct{ Metadata struct{ Name string } }
		check(json.Unmarshal(body, &made))
		defer r.store.removeNamed(first.GvrData.Resource, made.Metadata.Name)
	}
	path, body, err := r.request(gvr, namespace, sample.Stub)
	if err != nil {
		return err
	}
	if _, err := send(writer, "POST", path+manager, body); err != nil {
		return err
	}
	var made struct{ Metadata struct{ Name string } }
	check(json.Unmarshal(body, &made))
	path += "/" + made.Metadata.Name
	o := written{key: sample.ExpectedEtcdPath, path: path, updates: strings.Contains(strings.Join(res.Verbs, " "), "update"),
		// Custom resources have no protobuf.
		custom: !strings.HasSuffix(gvr.Group, ".k8s.io") && strings.Contains(gvr.Group, "."), kept: kept[gvr.Group]}
	o.others = r.otherVersions(gvr, path)
	for _, s := range []*server.Server{other, writer} {
		if err := r.again(what, o, func() error { return r.rewrite(o, s) }); err != nil {
			return err
		}
	}
	if r.offersStatus(gvr) {
		if err := r.status(o, sample, writer, other); err != nil {
			return fmt.Errorf("status: %w", err)
		}
	}
	if o.kept {
		r.store.settle(o.key)
	}
	_, err = r.same(o)
	return err
}

// The path of a collection and the body that creates a sample in it.
func (r *run) request(gvr schema.GroupVersionResource, namespace, stub string) (string, []byte, error) {
	found, _ := r.lookup(gvr)
	if found == nil {
		return "", nil, fmt.Errorf("%s is not offered", name(gvr))
	}
	var body object
	if err := json.Unmarshal([]byte(stub), &body); err != nil {
		return "", nil, err
	}
	body["kind"], body["apiVersion"] = found.Kind, gvr.GroupVersion().String()
	path := root(gvr)
	if found.Namespaced {
		path += "/namespaces/" + namespace
		if metadata, ok := body["metadata"].(object); ok {
			metadata["namespace"] = namespace
		}
	}
	return path + "/" + gvr.Resource, encode(body), nil
}

func get(s *server.Server, path, accept string) ([]byte, error) {
	return read(s.Open(s.Client, "GET", path, map[string]string{"Accept": accept}, nil))
}

func send(s *server.Server, method, path string, body []byte) ([]byte, error) {
	return read(s.Open(s.Client, method, path, header(jsonType), body))
}

func check(err error) {
	if err != nil {
		log.Panic(err)
	}
}

func encode(value any) []byte {
	text, err := json.Marshal(value)
	check(err)
	return text
}

func header(kind string) map[string]string { return map[string]string{"Content-Type": kind} }
