// Command revisions prints pod templates with what upstream makes of them: the data of a ControllerRevision, and the
// hashes in the names of revisions and replica sets.
//
// usage: revisions types. The Go structs of a pod template, whose layout the hash of a template depends on: a line with
// number and name per struct, then its fields: Go name, Go type, JSON name ("-" = inline), shape (s string, i number,
// b boolean, t time, q quantity, ? other; * pointer, [ list, { map, and a number for a struct).
//
// usage: revisions COUNT. One line each: template, revision data, hash of a stateful set's revision, hash of a template
// (daemon sets, Deployments), the two hashes again with a collision count of 3; separated by tabs.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"reflect"
	"strconv"
	"strings"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/resource"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kubernetes/pkg/controller"
	"k8s.io/kubernetes/pkg/controller/daemon"
	"k8s.io/kubernetes/pkg/controller/history"
	"sigs.k8s.io/randfill"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// As getPatch of both controllers, which is not exported; Match below checks it.
func patch(encoded []byte) []byte {
	var raw map[string]any
	if err := utiljson.Unmarshal(encoded, &raw); err != nil {
		panic(err)
	}
	template := raw["spec"].(map[string]any)["template"].(map[string]any)
	template["$patch"] = "replace"
	return must(json.Marshal(map[string]any{"spec": map[string]any{"template": template}}))
}

func words(f *randfill.Filler) *randfill.Filler {
	return f.Funcs(func(s *string, c randfill.Continue) {
		all := []string{"", "a", "nginx:1.25", "/var/lib", "<&>", "\u2028é", "80", "app.kubernetes.io/name", "\"q\"", "\t"}
		*s = all[c.Intn(len(all))]
	})
}

type table struct {
	ids   map[reflect.Type]int
	order []reflect.Type
}

func (t *table) shape(r reflect.Type) string {
	switch {
	case r == reflect.TypeFor[metav1.Time]():
		return "t"
	case r == reflect.TypeFor[resource.Quantity]():
		return "q"
	}
	switch r.Kind() {
	case reflect.String:
		return "s"
	case reflect.Bool:
		return "b"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "i"
	case reflect.Pointer:
		return "*" + t.shape(r.Elem())
	case reflect.Map:
		return "{" + t.shape(r.Elem())
	case reflect.Slice:
		if r.Elem().Kind() == reflect.Uint8 {
			return "?"
		}
		return "[" + t.shape(r.Elem())
	case reflect.Struct:
		if _, known := t.ids[r]; !known {
			t.ids[r] = len(t.order)
			t.order = append(t.order, r)
		}
		return strconv.Itoa(t.ids[r])
	}
	return "?"
}

func types() {
	t := table{ids: map[reflect.Type]int{}}
	t.shape(reflect.TypeFor[v1.PodTemplateSpec]())
	for i := 0; i < len(t.order); i++ {
		r := t.order[i]
		fmt.Printf("%d %s\n", i, r)
		for f := range r.NumField() {
			field := r.Field(f)
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name == "" {
				name = "-"
			}
			fmt.Printf(" %s %s %s %s\n", field.Name, field.Type, name, t.shape(field.Type))
		}
	}
}

func main() {
	if os.Args[1] == "types" {
		types()
		return
	}
	count := must(strconv.Atoi(os.Args[1]))
	codecs := serializer.NewCodecFactory(scheme.Scheme)
	funcs := fuzzer.MergeFuzzerFuncs(metafuzzer.Funcs)
	filler := words(fuzzer.FuzzerFor(funcs, rand.NewSource(7), codecs).NilChance(0.75).NumElements(0, 2))
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for found := 0; found < count; {
		var template v1.PodTemplateSpec
		filler.Fill(&template)
		// As a controller gets it: from the API server, in protobuf.
		ds := &apps.DaemonSet{Spec: apps.DaemonSetSpec{Template: template}}
		wire := must(ds.Marshal())
		ds = &apps.DaemonSet{}
		if err := ds.Unmarshal(wire); err != nil {
			panic(err)
		}
		ds.Spec.Template.CreationTimestamp = metav1.Time{}
		template = ds.Spec.Template
		encoded := must(json.Marshal(template))
		if bytes.Contains(encoded, []byte(":null")) {
			continue // No valid object: something required is missing.
		}
		found++
		data := patch(must(json.Marshal(ds)))
		set := &apps.StatefulSet{Spec: apps.StatefulSetSpec{Template: template}}
		if !bytes.Equal(data, patch(must(runtime.Encode(scheme.Codecs.LegacyCodec(apps.SchemeGroupVersion), set)))) {
			panic("the two controllers differ")
		}
		revision := &apps.ControllerRevision{Data: runtime.RawExtension{Raw: data}}
		if !must(daemon.Match(ds, revision)) {
			panic("the patch is not upstream's")
		}
		three := int32(3)
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\n", encoded, data,
			history.HashControllerRevision(revision, nil), controller.ComputeHash(&template, nil),
			history.HashControllerRevision(revision, &three), controller.ComputeHash(&template, &three))
	}
}
