// Command apply drives upstream's field manager through sequences of writes.
//
// One sequence per line on stdin, one JSON list of answers (one per step) per line on stdout. Time is replaced: a step's entries
// carry 2000-01-01T00:<step>:00Z, so that answers can be recorded.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/managedfields"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/kube-openapi/pkg/builder3"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/controlplane"
	generatedopenapi "k8s.io/kubernetes/pkg/generated/openapi"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/yaml"
)

type step struct {
	Op      string          `json:"op"` // update, apply, merge (a typed update whose object is the live one with top-level overrides)
	Obj     json.RawMessage `json:"obj"`
	Manager string          `json:"manager"`
	Force   bool            `json:"force"`
	Sub     string          `json:"sub"`
}

type sequence struct {
	APIVersion string                `json:"apiVersion"`
	Kind       string                `json:"kind"`
	Reset      map[string][][]string `json:"reset"`
	Schema     json.RawMessage       `json:"schema"` // set: a custom resource with this structural schema
	Steps      []step                `json:"steps"`
}

type answer struct {
	Obj    json.RawMessage `json:"obj,omitempty"`
	Sets   []string        `json:"sets,omitempty"` // the texts of fieldsV1, whose order counts
	Err    string          `json:"err,omitempty"`
	Status *metav1.Status  `json:"status,omitempty"`
}

func converter() managedfields.TypeConverter {
	namer := openapinamer.NewDefinitionNamer(legacyscheme.Scheme)
	cfg := genericapiserver.DefaultOpenAPIV3Config(generatedopenapi.GetOpenAPIDefinitions, namer)
	var names []string
	for n := range cfg.Definitions {
		if strings.HasPrefix(n, "io.k8s.api.") || strings.HasPrefix(n, "io.k8s.apimachinery.") || strings.HasPrefix(n, "io.k8s.kube-aggregator.") || strings.HasPrefix(n, "io.k8s.apiextensions-apiserver.") {
			names = append(names, n)
		}
	}
	defs, err := builder3.BuildOpenAPIDefinitionsForResources(cfg, names...)
	if err != nil {
		panic(err)
	}
	c, err := managedfields.NewTypeConverter(defs, false)
	if err != nil {
		panic(err)
	}
	return c
}

type crConvertor struct{}

func (crConvertor) Convert(in, out, context interface{}) error { return errors.New("unused") }
func (crConvertor) ConvertToVersion(in runtime.Object, gv runtime.GroupVersioner) (runtime.Object, error) {
	return in, nil
}
func (crConvertor) ConvertFieldLabel(_ schema.GroupVersionKind, _, _ string) (string, string, error) {
	return "", "", errors.New("unused")
}

type crCreater struct{}

func (crCreater) New(kind schema.GroupVersionKind) (runtime.Object, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(kind)
	return u, nil
}

type crDefaulter struct{}

func (crDefaulter) Default(runtime.Object) {}

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func run(tc managedfields.TypeConverter, q sequence) (out []answer, err error) {
	s := legacyscheme.Scheme
	gv, err := schema.ParseGroupVersion(q.APIVersion)
	if err != nil {
		return nil, err
	}
	gvk := gv.WithKind(q.Kind)
	custom := len(q.Schema) > 0 && string(q.Schema) != "null"
	hub := schema.GroupVersion{Group: gv.Group, Version: runtime.APIVersionInternal}
	if custom {
		hub = gv
		if string(q.Schema) == `"deduced"` {
			tc = managedfields.NewDeducedTypeConverter()
		} else {
			var sc spec.Schema
			if err := json.Unmarshal(q.Schema, &sc); err != nil {
				return nil, err
			}
			if sc.Extensions == nil {
				sc.Extensions = spec.Extensions{}
			}
			sc.Extensions["x-kubernetes-group-version-kind"] = []interface{}{map[string]interface{}{"group": gv.Group, "version": gv.Version, "kind": q.Kind}}
			preserve := false
			if p, ok := sc.Extensions["x-kubernetes-preserve-unknown-fields"]; ok && p == true {
				preserve = true
			}
			tc, err = managedfields.NewTypeConverter(map[string]*spec.Schema{"cr": &sc}, preserve)
			if err != nil {
				return nil, err
			}
		}
	}
	var reset map[fieldpath.APIVersion]fieldpath.Filter
	if q.Reset != nil {
		sets := map[fieldpath.APIVersion]*fieldpath.Set{}
		for v, paths := range q.Reset {
			set := fieldpath.NewSet()
			for _, p := range paths {
				parts := []interface{}{}
				for _, e := range p {
					parts = append(parts, e)
				}
				set.Insert(fieldpath.MakePathOrDie(parts...))
			}
			sets[fieldpath.APIVersion(v)] = set
		}
		reset = fieldpath.NewExcludeFilterSetMap(sets)
	}
	managers := map[string]*managedfields.FieldManager{}
	manager := func(sub string) (*managedfields.FieldManager, error) {
		if m, ok := managers[sub]; ok {
			return m, nil
		}
		var m *managedfields.FieldManager
		var err error
		if custom {
			m, err = managedfields.NewDefaultCRDFieldManager(tc, crConvertor{}, crDefaulter{}, crCreater{}, gvk, hub, sub, reset)
		} else {
			m, err = managedfields.NewDefaultFieldManager(tc, s, s, s, gvk, hub, sub, reset)
		}
		managers[sub] = m
		return m, err
	}
	js := kjson.NewSerializerWithOptions(kjson.DefaultMetaFactory, s, s, kjson.SerializerOptions{})
	fresh := func() (runtime.Object, error) {
		if custom {
			return crCreater{}.New(gvk)
		}
		return s.New(gvk)
	}
	decode := func(raw []byte) (runtime.Object, error) {
		if custom {
			u := &unstructured.Unstructured{}
			return u, u.UnmarshalJSON(raw)
		}
		o, _, err := js.Decode(raw, &gvk, nil)
		if err != nil {
			return nil, err
		}
		s.Default(o)
		return s.ConvertToVersion(o, hub)
	}
	live, err := fresh()
	if err != nil {
		return nil, err
	}
	exists := false
	for i, st := range q.Steps {
		fm, err := manager(st.Sub)
		if err != nil {
			return nil, err
		}
		var next runtime.Object
		var stepErr error
		switch st.Op {
		case "apply":
			patch := &unstructured.Unstructured{Object: map[string]any{}}
			if stepErr = yaml.Unmarshal(st.Obj, &patch.Object); stepErr == nil {
				next, stepErr = fm.Apply(live.DeepCopyObject(), patch, st.Manager, st.Force)
			}
		case "update":
			var obj runtime.Object
			if obj, stepErr = decode(st.Obj); stepErr == nil {
				if exists {
					a, _ := meta.Accessor(obj)
					a.SetUID("u")
				}
				next, stepErr = fm.Update(live.DeepCopyObject(), obj, st.Manager)
			}
		}
		if stepErr != nil {
			a := answer{Err: stepErr.Error()}
			var se *apierrors.StatusError
			if errors.As(stepErr, &se) {
				a.Status = &se.ErrStatus
			}
			out = append(out, a)
			continue
		}
		acc, err := meta.Accessor(next)
		if err != nil {
			return nil, err
		}
		acc.SetUID("u")
		mf := acc.GetManagedFields()
		for j := range mf {
			if mf[j].Time != nil && mf[j].Time.After(epoch.AddDate(10, 0, 0)) {
				mf[j].Time = &metav1.Time{Time: epoch.Add(time.Duration(i+1) * time.Minute)}
			}
		}
		acc.SetManagedFields(mf)
		var sets []string
		for _, e := range mf {
			sets = append(sets, string(e.FieldsV1.GetRawBytes()))
		}
		live, exists = next, true
		var b bytes.Buffer
		if custom {
			raw, err := next.(*unstructured.Unstructured).MarshalJSON()
			if err != nil {
				return nil, err
			}
			b.Write(raw)
		} else {
			v, err := s.ConvertToVersion(next, gv)
			if err != nil {
				return nil, err
			}
			v.GetObjectKind().SetGroupVersionKind(gvk)
			if err := js.Encode(v, &b); err != nil {
				return nil, err
			}
		}
		out = append(out, answer{Obj: bytes.TrimSpace(b.Bytes()), Sets: sets})
	}
	return out, nil
}

func main() {
	tc := converter()
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 1<<28)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	enc := json.NewEncoder(out)
	for in.Scan() {
		var q sequence
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			panic(err)
		}
		a, err := func() (a []answer, err error) {
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("PANIC %v", p)
				}
			}()
			return run(tc, q)
		}()
		if err != nil {
			a = []answer{{Err: "sequence: " + err.Error()}}
		}
		_ = enc.Encode(a)
	}
}
