// Command patch answers patch requests with the libraries that kube-apiserver uses.
//
// One JSON request per line on stdin: {"op": "json"|"merge"|"strategic", "doc": <text>, "patch": <text>, "type": <gvk text>}.
// One JSON answer per line on stdout: {"out": <text>} or {"err": <text>}.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
	kjson "sigs.k8s.io/json"
)

type request struct {
	Op, Doc, Patch, APIVersion, Kind string
}

type jsonPatchOp struct {
	Op    string      `json:"op"`
	Path  string      `json:"path"`
	From  string      `json:"from"`
	Value interface{} `json:"value"`
}

type answer struct {
	Out    string   `json:"out,omitempty"`
	Err    string   `json:"err,omitempty"`
	Strict []string `json:"strict,omitempty"`
	Varies bool     `json:"varies,omitempty"`
}

func serve(q request) (a answer) {
	defer func() {
		if p := recover(); p != nil {
			a = answer{Err: fmt.Sprintf("PANIC %v", p)}
		}
	}()
	fail := func(err error) answer { return answer{Err: err.Error()} }
	switch q.Op {
	case "json":
		if !json.Valid([]byte(q.Patch)) {
			return answer{Err: "invalid JSON patch"}
		}
		p, err := jsonpatch.DecodePatch([]byte(q.Patch))
		if err != nil {
			return fail(err)
		}
		out, err := p.Apply([]byte(q.Doc))
		if err != nil {
			return fail(err)
		}
		return answer{Out: string(out)}
	case "jsonstrict":
		var v []jsonPatchOp
		strict, err := kjson.UnmarshalStrict([]byte(q.Patch), &v)
		if err != nil {
			return fail(err)
		}
		for _, e := range strict {
			a.Strict = append(a.Strict, e.Error())
		}
		return a
	case "mergestrict":
		v := map[string]any{}
		strict, err := kjson.UnmarshalStrict([]byte(q.Patch), &v)
		if err != nil {
			return fail(err)
		}
		for _, e := range strict {
			a.Strict = append(a.Strict, e.Error())
		}
		return a
	case "merge":
		if !json.Valid([]byte(q.Patch)) {
			return answer{Err: "invalid JSON patch"}
		}
		out, err := jsonpatch.MergePatch([]byte(q.Doc), []byte(q.Patch))
		if err != nil {
			return fail(err)
		}
		return answer{Out: string(out)}
	case "strategic":
		gv, err := schema.ParseGroupVersion(q.APIVersion)
		if err != nil {
			return fail(err)
		}
		obj, err := scheme.Scheme.New(gv.WithKind(q.Kind))
		if err != nil {
			return fail(err)
		}
		doc, patch := map[string]any{}, map[string]any{}
		if err := kjson.UnmarshalCaseSensitivePreserveInts([]byte(q.Doc), &doc); err != nil {
			return fail(err)
		}
		if err := kjson.UnmarshalCaseSensitivePreserveInts([]byte(q.Patch), &patch); err != nil {
			return fail(err)
		}
		out, err := strategicpatch.StrategicMergeMapPatch(doc, patch, obj)
		if err != nil {
			return fail(err)
		}
		b, err := json.Marshal(out)
		if err != nil {
			return fail(err)
		}
		return answer{Out: string(b)}
	}
	return answer{Err: "unknown op"}
}

func main() {
	atomic.StoreInt64(&jsonpatch.AccumulatedCopySizeLimit, 3*1024*1024)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 1<<28)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	enc := json.NewEncoder(out)
	for in.Scan() {
		var q request
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			panic(err)
		}
		a := serve(q)
		// Strategic merge walks patches in random order; answers that depend on it are no yardstick.
		for i := 0; i < 12 && q.Op == "strategic" && !a.Varies; i++ {
			b := serve(q)
			a.Varies = a.Out != b.Out || a.Err != b.Err
		}
		_ = enc.Encode(a)
	}
}
