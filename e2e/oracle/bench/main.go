// Command bench times upstream's codecs on one object: nanoseconds of processor time and allocations per operation, one
// line each.
// Usage: bench POD.yaml OUT.json; OUT receives the object as JSON for the other side.
package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	kjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

func must[T any](v T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	return v
}

// processor is the processor time of this process so far, that of the garbage collector included.
func processor() time.Duration {
	var t syscall.Rusage
	must(0, syscall.Getrusage(syscall.RUSAGE_SELF, &t))
	return time.Duration(t.Utime.Nano() + t.Stime.Nano())
}

// measure answers nanoseconds of processor time per run: the best of several rounds, as the other side does.
func measure(run func()) int64 {
	best := int64(math.MaxInt64)
	for range 7 {
		started, n := processor(), int64(0)
		took := time.Duration(0)
		for took < 150*time.Millisecond {
			for range 16 {
				run()
			}
			n += 16
			took = processor() - started
		}
		best = min(best, int64(took)/n)
	}
	return best
}

func main() {
	types := scheme.Scheme
	js := kjson.NewSerializerWithOptions(kjson.DefaultMetaFactory, types, types, kjson.SerializerOptions{Strict: true})
	pb := protobuf.NewSerializer(types, types)
	source := must(yaml.YAMLToJSON(must(os.ReadFile(os.Args[1]))))
	obj, gvk, err := js.Decode(source, nil, nil)
	must(0, err)
	write := func(s runtime.Serializer, o runtime.Object) []byte {
		o.GetObjectKind().SetGroupVersionKind(*gvk)
		var out bytes.Buffer
		must(0, s.Encode(o, &out))
		return out.Bytes()
	}
	text := bytes.TrimSpace(write(js, obj))
	must(0, os.WriteFile(os.Args[2], text, 0o644))
	wire := write(pb, obj)
	read := func(s runtime.Serializer, in []byte) runtime.Object {
		o, _, err := s.Decode(in, nil, nil)
		return must(o, err)
	}
	for _, c := range []struct {
		name string
		run  func()
	}{
		{"json-to-protobuf", func() { write(pb, read(js, text)) }},
		{"protobuf-to-json", func() { write(js, read(pb, wire)) }},
		{"json-decode", func() { read(js, text) }},
		{"json-encode", func() { write(js, obj) }},
		{"protobuf-decode", func() { read(pb, wire) }},
		{"protobuf-encode", func() { write(pb, obj) }},
	} {
		fmt.Println(c.name, measure(c.run), int64(testing.AllocsPerRun(100, c.run)))
	}
}
