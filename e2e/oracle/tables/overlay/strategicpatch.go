//go:build ignore

package strategicpatch

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"sigs.k8s.io/structured-merge-diff/v6/record"
)

var described = map[reflect.Type]string{}

// describe writes down what each field of a struct says to both lookups, and answers the name of the struct.
func describe(t reflect.Type) string {
	for t.Kind() == reflect.Ptr {
		t = t.Elem()
	}
	if name, ok := described[t]; ok {
		return name
	}
	name := fmt.Sprintf("%s.%s", t.PkgPath(), t.String())
	described[t] = name
	fields := map[string]any{}
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		for i := 0; i < t.NumField(); i++ {
			f := t.Field(i)
			key := strings.Split(f.Tag.Get("json"), ",")[0]
			if key == "" && f.Anonymous && f.Type.Kind() == reflect.Struct {
				walk(f.Type)
				continue
			}
			if key == "" || key == "-" {
				continue
			}
			from := PatchMetaFromStruct{T: reflect.New(t).Type()}
			answer := func(lookup func(string) (LookupPatchMeta, PatchMeta, error)) (out any) {
				defer func() {
					if p := recover(); p != nil {
						out = map[string]any{"panic": fmt.Sprint(p)}
					}
				}()
				to, m, err := lookup(key)
				if err != nil {
					return map[string]any{"err": err.Error()}
				}
				return map[string]any{"to": describe(to.(PatchMetaFromStruct).T), "strategies": m.GetPatchStrategies(), "key": m.GetPatchMergeKey()}
			}
			fields[key] = map[string]any{"struct": answer(from.LookupPatchMetadataForStruct), "slice": answer(from.LookupPatchMetadataForSlice)}
		}
	}
	if t.Kind() == reflect.Struct {
		walk(t)
	}
	record.Line(map[string]any{"op": "struct", "name": name, "short": t.Name(), "kind": t.Kind().String(), "fields": fields})
	return name
}

func StrategicMergeMapPatchUsingLookupPatchMeta(original, patch JSONMap, schema LookupPatchMeta) (JSONMap, error) {
	outermost := record.Outermost()
	defer record.Done()
	s, ok := schema.(PatchMetaFromStruct)
	if !ok {
		if p, isPtr := schema.(*PatchMetaFromStruct); isPtr {
			s, ok = *p, true
		}
	}
	if !outermost || !ok {
		return StrategicMergeMapPatchUsingLookupPatchMetaUnrecorded(original, patch, schema)
	}
	doc, _ := json.Marshal(original)
	change, _ := json.Marshal(patch)
	line := map[string]any{"op": "strategic", "doc": json.RawMessage(doc), "patch": json.RawMessage(change), "type": describe(s.T)}
	out, err := StrategicMergeMapPatchUsingLookupPatchMetaUnrecorded(original, patch, schema)
	if err != nil {
		line["err"] = err.Error()
	} else {
		b, _ := json.Marshal(out)
		line["out"] = json.RawMessage(b)
	}
	record.Line(line)
	return out, err
}
