// Command samedata has two API servers, ours and upstream's, work on one etcd: whatever one writes the other must read
// and rewrite as its own, for every kind.
//
//	samedata -ours kube-apiserver -upstream kube-apiserver -etcd etcd [-runtime-config api/all=true]
//
// One server creates an object (upstream's own samples of TestEtcdStoragePath), both serve it, and must answer the same
// bytes as JSON and as protobuf. The other writes back what it read: that the revision stays proves that it would have
// stored the very bytes that are there. It adds an annotation; the first must serve the result the same way, and write it
// back without a new revision. Then the servers change places. Last, discovery and OpenAPI documents are compared,
// descriptions aside. Prints each difference, and ends with exit code 1 if there is one.
package main

import (
	"bytes"
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
	only := flag.String("only", "", "resources to look at: a part of their name")
	flag.Parse()
	log.SetFlags(0)
	dir, err := os.MkdirTemp("", "samedata-")
	check(err)
	r := &run{store: store{endpoint: "http://127.0.0.1:23790"}, only: *only}
	defer os.RemoveAll(dir)
	companion := exec.Command(*etcd, "--data-dir", filepath.Join(dir, "etcd"), "--log-level", "error",
		"--listen-client-urls", r.store.endpoint, "--advertise-client-urls", r.store.endpoint,
		"--listen-peer-urls", "http://127.0.0.1:23800")
	companion.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	check(companion.Start())
	defer companion.Process.Kill()
	for name, binary := range map[string]string{"upstream": *upstream, "ours": *ours} {
		s, err := server.StartOnEtcd(name, binary, dir, r.store.endpoint, "--runtime-config="+*config)
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
	log.Printf("%d kinds written by one and rewritten by the other, both ways; %d documents; %d differences; not offered by both: %s",
		r.done, r.documentsSeen, r.differences, strings.Join(r.absent, ", "))
	if r.differences > 0 || r.done == 0 {
		defer os.Exit(1)
	}
}

type run struct {
	store         store
	servers       []*server.Server
	only          string
	done          int
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
			sample := samples.GetEtcdStorageDataForNamespace(namespace)[gvr]
			writer, other := r.servers[turn], r.servers[1-turn]
			what := fmt.Sprintf("%s, first written by %s", name(gvr), writer.Name)
			if err := r.exchange(what, gvr, *found, namespace, sample, writer, other); err != nil {
				r.differ(what, "%v", err)
			}
		}
		r.done++
	}
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
		text, err := get(s, root(gvr), jsonType)
		if err != nil {
			continue
		}
		var list struct{ Resources []resource }
		check(json.Unmarshal(text, &list))
		for _, candidate := range list.Resources {
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
	updates := strings.Contains(strings.Join(res.Verbs, " "), "update")
	key := sample.ExpectedEtcdPath
	// Custom resources have no protobuf.
	custom := !strings.HasSuffix(gvr.Group, ".k8s.io") && strings.Contains(gvr.Group, ".")
	for _, s := range []*server.Server{other, writer} {
		if kept[gvr.Group] {
			r.store.settle(key)
		}
		err := r.rewrite(path, key, s, updates, custom)
		if err != nil {
			// Controllers of either server may have written the object meanwhile.
			log.Printf("once more %s: %v", what, err)
			time.Sleep(2 * time.Second)
			err = r.rewrite(path, key, s, updates, custom)
		}
		if err != nil {
			return err
		}
	}
	if kept[gvr.Group] {
		r.store.settle(key)
	}
	_, err = r.same(path, custom)
	return err
}

// Both serve the object; s writes it back as it is, and then with an annotation.
func (r *run) rewrite(path, key string, s *server.Server, updates, custom bool) error {
	text, err := r.same(path, custom)
	if err != nil || !updates {
		return err
	}
	before, was := r.store.get(key)
	if before == 0 {
		return fmt.Errorf("nothing is stored at %s", key)
	}
	if _, err := send(s, "PUT", path+manager, text); err != nil {
		return fmt.Errorf("writing back what %s was given: %w", s.Name, err)
	}
	if after, is := r.store.get(key); after != before {
		return fmt.Errorf("%s stores other bytes for what it read\n  %q\n  %q", s.Name, was, is)
	}
	var changed object
	check(json.Unmarshal(text, &changed))
	changed["metadata"].(object)["annotations"] = object{"written-by": s.Name}
	if _, err := send(s, "PUT", path+manager, encode(changed)); err != nil {
		return fmt.Errorf("an annotation by %s: %w", s.Name, err)
	}
	return nil
}

// What both servers answer for an object, as JSON.
func (r *run) same(path string, custom bool) ([]byte, error) {
	var text []byte
	forms := []string{protobuf, jsonType}
	if custom {
		forms = forms[1:]
	}
	for _, form := range forms {
		var answers [2][]byte
		for i, s := range r.servers {
			answer, err := get(s, path, form)
			if err != nil {
				return nil, err
			}
			answers[i] = answer
		}
		if !bytes.Equal(answers[0], answers[1]) {
			return nil, fmt.Errorf("served as %s:\n  %q\n  %q", form, answers[0], answers[1])
		}
		text = answers[0]
	}
	return text, nil
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
