// Prints the uids that upstream's kubelet gives to static pods, and the table of types that they depend on.
//
// With -table: every Go type below the internal Pod, with names as reflection prints them and the JSON keys of v1.
// Without: reads lines {"manifest", "origin", "node"} and answers each with the uid, as pkg/kubelet/config/common.go does.
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"os"
	"reflect"
	"sort"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	api "k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	"k8s.io/kubernetes/pkg/util/hash"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "-table" {
		t := table{done: map[string]bool{}}
		t.walk(reflect.TypeOf(api.Pod{}), reflect.TypeOf(v1.Pod{}))
		sort.Strings(t.blocks)
		fmt.Print(strings.Join(t.blocks, ""))
		return
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var in struct{ Manifest, Origin, Node string }
		if err := json.Unmarshal(lines.Bytes(), &in); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(uid(in.Manifest, in.Origin, in.Node))
	}
}

func uid(manifest, origin, node string) string {
	data, err := utilyaml.ToJSON([]byte(manifest))
	if err != nil {
		return "error: " + err.Error()
	}
	object, err := runtime.Decode(legacyscheme.Codecs.UniversalDecoder(), data)
	if err != nil {
		return "error: " + err.Error()
	}
	pod, ok := object.(*api.Pod)
	if !ok {
		return "error: no pod"
	}
	hasher := fnv.New128a()
	hash.DeepHashObject(hasher, pod)
	fmt.Fprintf(hasher, "host:%s", node)
	fmt.Fprintf(hasher, "file:%s", origin)
	return hex.EncodeToString(hasher.Sum(nil)[0:])
}

type table struct {
	done   map[string]bool
	blocks []string
}

// walk describes a type. versioned is the v1 type in the same place, which has the JSON keys.
func (t *table) walk(internal, versioned reflect.Type) {
	for versioned != nil && versioned.Kind() == reflect.Pointer && internal.Kind() != reflect.Pointer {
		versioned = versioned.Elem()
	}
	name := internal.String()
	if t.done[name] {
		return
	}
	t.done[name] = true
	elem := func() reflect.Type {
		if versioned == nil || versioned.Kind() != internal.Kind() {
			return nil
		}
		return versioned.Elem()
	}
	switch internal.Kind() {
	case reflect.Struct:
		if name == "resource.Quantity" || name == "v1.Time" || name == "v1.MicroTime" || name == "intstr.IntOrString" || name == "v1.FieldsV1" {
			return
		}
		var b strings.Builder
		fmt.Fprintf(&b, "struct %s\n", name)
		for i := range internal.NumField() {
			field := internal.Field(i)
			key, below := "-", reflect.Type(nil)
			if versioned != nil && versioned.Kind() == reflect.Struct {
				if other, ok := versioned.FieldByName(field.Name); ok {
					below = other.Type
					key, _, _ = strings.Cut(other.Tag.Get("json"), ",")
					if key == "" {
						key = "."
					}
				}
			}
			fmt.Fprintf(&b, "  %s %s %s\n", field.Name, key, field.Type.String())
			t.walk(field.Type, below)
		}
		t.blocks = append(t.blocks, b.String())
	case reflect.Pointer:
		t.walk(internal.Elem(), elem())
	case reflect.Slice:
		if internal.Elem().Kind() == reflect.Uint8 {
			return
		}
		if !strings.HasPrefix(name, "[]") {
			t.blocks = append(t.blocks, fmt.Sprintf("slice %s %s\n", name, internal.Elem()))
		}
		t.walk(internal.Elem(), elem())
	case reflect.Map:
		t.blocks = append(t.blocks, fmt.Sprintf("map %s %s\n", name, internal.Elem()))
		t.walk(internal.Elem(), elem())
	default:
		if name != internal.Kind().String() {
			t.blocks = append(t.blocks, fmt.Sprintf("plain %s %s\n", name, internal.Kind()))
		}
	}
}
