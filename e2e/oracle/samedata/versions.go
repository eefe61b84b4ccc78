package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"regexp"
	"strings"
	"time"

	"corten/apiserver/server"
	"k8s.io/apimachinery/pkg/runtime/schema"
	samples "k8s.io/kubernetes/test/integration/etcd"
)

// An object that is stored.
type written struct {
	key, path string
	// Paths in other versions that both servers offer.
	others                []string
	updates, custom, kept bool
}

const (
	table      = "application/json;as=Table;v=v1;g=meta.k8s.io"
	mergePatch = "application/merge-patch+json"
)

func (r *run) otherVersions(gvr schema.GroupVersionResource, path string) []string {
	var paths []string
	for _, of := range r.versions() {
		other, own := of+"/", root(gvr)+"/"
		if other == own || gvr.Group == "" || !strings.HasPrefix(of, "/apis/"+gvr.Group+"/") {
			continue
		}
		version := strings.TrimPrefix(of, "/apis/"+gvr.Group+"/")
		if found, _ := r.lookup(schema.GroupVersionResource{Group: gvr.Group, Version: version, Resource: gvr.Resource}); found != nil {
			paths = append(paths, other+strings.TrimPrefix(path, own))
		}
	}
	return paths
}

func (r *run) offersStatus(gvr schema.GroupVersionResource) bool {
	found, _ := r.lookup(schema.GroupVersionResource{Group: gvr.Group, Version: gvr.Version, Resource: gvr.Resource + "/status"})
	return found != nil
}

// Does what controllers of either server may have come between once more.
func (r *run) again(what string, o written, do func() error) error {
	if o.kept {
		r.store.settle(o.key)
	}
	err := do()
	if err != nil {
		log.Printf("once more %s: %v", what, err)
		time.Sleep(2 * time.Second)
		err = do()
	}
	return err
}

// Both serve the object; s writes it back as it is, and then with an annotation.
func (r *run) rewrite(o written, s *server.Server) error {
	text, err := r.same(o)
	if err != nil || !o.updates {
		return err
	}
	if err := r.writeBack(o, o.path, s, text); err != nil {
		return err
	}
	for _, other := range o.others {
		if err := r.tellAlike(o, other); err != nil {
			return fmt.Errorf("%s: %w", other, err)
		}
	}
	if _, err := send(s, "PUT", o.path+manager, annotated(text, s.Name)); err != nil {
		return fmt.Errorf("an annotation by %s: %w", s.Name, err)
	}
	return nil
}

func annotated(text []byte, by string) []byte {
	var changed object
	check(json.Unmarshal(text, &changed))
	changed["metadata"].(object)["annotations"] = object{"written-by": by}
	return encode(changed)
}

// What s was given, it writes as it is stored.
func (r *run) writeBack(o written, path string, s *server.Server, text []byte) error {
	before, was := r.store.get(o.key)
	if before == 0 {
		return fmt.Errorf("nothing is stored at %s", o.key)
	}
	if _, err := send(s, "PUT", path+manager, text); err != nil {
		return fmt.Errorf("writing back what %s was given: %w", s.Name, err)
	}
	if after, is := r.store.get(o.key); after != before {
		return fmt.Errorf("%s stores other bytes for what it read\n  %q\n  %q", s.Name, was, is)
	}
	return nil
}

// In another version than the one an object was written in, both tell the same of writes, which are not made.
func (r *run) tellAlike(o written, path string) error {
	text, err := r.sameAt(path, o.custom)
	if err != nil {
		return err
	}
	for _, body := range [][]byte{text, annotated(text, "another version")} {
		if err := r.answerAlike("PUT", path+manager+"&dryRun=All", jsonType, body); err != nil {
			return err
		}
	}
	patch := encode(object{"metadata": object{"labels": object{"a": "b"}}})
	return r.answerAlike("PATCH", path+manager+"&dryRun=All", mergePatch, patch)
}

// Times of managed fields, which are those of the answer, and what is said of places of servers.
var stamps = regexp.MustCompile(`"time":"[^"]*"`)

func (r *run) answerAlike(method, path, kind string, body []byte) error {
	var answers [2][]byte
	var refusals [2]error
	for i, s := range r.servers {
		answers[i], refusals[i] = read(s.Open(s.Client, method, path, header(kind), body))
	}
	if (refusals[0] == nil) != (refusals[1] == nil) || (refusals[0] != nil && refusals[0].Error() != refusals[1].Error()) {
		return fmt.Errorf("%s is answered\n  %v\n  %v", method, refusals[0], refusals[1])
	}
	if a, b := stamps.ReplaceAll(answers[0], nil), stamps.ReplaceAll(answers[1], nil); !bytes.Equal(a, b) {
		return fmt.Errorf("%s is answered\n  %q\n  %q", method, a, b)
	}
	return nil
}

// The status is written by one, changed by the other, and written back by each.
func (r *run) status(o written, sample samples.StorageData, writer, other *server.Server) error {
	if !o.updates || o.kept {
		return nil
	}
	for i, s := range []*server.Server{writer, other} {
		patch := []byte([]string{sample.GetStatusStub(), sample.GetMutatedStatusStub()}[i])
		path := o.path + "/status" + manager
		if err := r.answerAlike("PATCH", path+"&dryRun=All", mergePatch, patch); err != nil {
			return err
		}
		if _, err := read(s.Open(s.Client, "PATCH", path, header(mergePatch), patch)); err != nil {
			// The sample is not for this kind: both refuse it.
			return nil
		}
		text, err := r.same(o)
		if err != nil {
			return err
		}
		for _, s := range r.servers {
			if err := r.writeBack(o, o.path+"/status", s, text); err != nil {
				return err
			}
		}
		for _, path := range o.others {
			if err := r.answerAlike("PATCH", path+"/status"+manager+"&dryRun=All", mergePatch, patch); err != nil {
				return err
			}
		}
		r.statuses++
	}
	return nil
}

// What both servers answer for an object, as JSON; they must agree in every form and version.
func (r *run) same(o written) ([]byte, error) {
	for _, path := range o.others {
		if _, err := r.sameAt(path, o.custom); err != nil {
			return nil, err
		}
	}
	return r.sameAt(o.path, o.custom)
}

func (r *run) sameAt(path string, custom bool) ([]byte, error) {
	var text []byte
	forms := []string{table, protobuf, jsonType}
	if custom {
		forms = []string{table, jsonType}
	}
	for _, form := range forms {
		answer, err := r.answer(path, form)
		if errors.Is(err, errApart) && form == table {
			// Tables tell ages.
			answer, err = r.answer(path, form)
		}
		if err != nil {
			return nil, err
		}
		text = answer
	}
	return text, nil
}

// A table in one form, without what is said of its columns.
func withoutProse(table []byte) []byte {
	var read object
	check(json.Unmarshal(table, &read))
	columns, _ := read["columnDefinitions"].([]any)
	for _, column := range columns {
		delete(column.(object), "description")
	}
	return encode(read)
}

var errApart = errors.New("served in two ways")

func (r *run) answer(path, form string) ([]byte, error) {
	var answers [2][]byte
	for i, s := range r.servers {
		answer, err := get(s, path, form)
		if err != nil {
			return nil, err
		}
		if form == table {
			answer = withoutProse(answer)
		}
		answers[i] = answer
	}
	if !bytes.Equal(answers[0], answers[1]) {
		return nil, fmt.Errorf("%w: %s as %s:\n  %q\n  %q", errApart, path, form, answers[0], answers[1])
	}
	return answers[0], nil
}
