//go:build ignore

package fieldpath

import (
	"bytes"
	"encoding/json"
	"io"

	"sigs.k8s.io/structured-merge-diff/v6/record"
	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// RecordSet is the JSON form of a set.
func RecordSet(s *Set) json.RawMessage {
	if s == nil {
		return json.RawMessage("null")
	}
	b, err := s.ToJSON()
	if err != nil {
		return json.RawMessage("null")
	}
	return b
}

func RecordFilter(f Filter) any {
	switch f := f.(type) {
	case excludeFilter:
		return map[string]any{"exclude": RecordSet(f.excludeSet)}
	case includeMatcherFilter:
		return map[string]any{"include": recordMatcher(f.matcher)}
	}
	return nil
}

func recordMatcher(m *SetMatcher) any {
	if m.wildcard {
		return "any"
	}
	out := []any{}
	for _, c := range m.members {
		var element any
		if !c.Path.Wildcard {
			element, _ = SerializePathElement(c.Path.PathElement)
		}
		out = append(out, []any{element, recordMatcher(c.Child)})
	}
	return out
}

func recordOp(op string, a, b *Set, run func() *Set) *Set {
	if !record.Outermost() {
		defer record.Done()
		return run()
	}
	defer record.Done()
	line := map[string]any{"op": op, "a": RecordSet(a), "b": RecordSet(b)}
	out := run()
	line["out"] = RecordSet(out)
	record.Line(line)
	return out
}

func (s *Set) Union(o *Set) *Set {
	return recordOp("union", s, o, func() *Set { return s.UnionUnrecorded(o) })
}

func (s *Set) Intersection(o *Set) *Set {
	return recordOp("intersection", s, o, func() *Set { return s.IntersectionUnrecorded(o) })
}

func (s *Set) Difference(o *Set) *Set {
	return recordOp("difference", s, o, func() *Set { return s.DifferenceUnrecorded(o) })
}

func (s *Set) RecursiveDifference(o *Set) *Set {
	return recordOp("recursiveDifference", s, o, func() *Set { return s.RecursiveDifferenceUnrecorded(o) })
}

func (s *Set) EnsureNamedFieldsAreMembers(sc *schema.Schema, tr schema.TypeRef) *Set {
	if !record.Outermost() || sc == nil {
		defer record.Done()
		return s.EnsureNamedFieldsAreMembersUnrecorded(sc, tr)
	}
	defer record.Done()
	line := map[string]any{"op": "named", "a": RecordSet(s), "type": RecordSchema(sc, tr)}
	out := s.EnsureNamedFieldsAreMembersUnrecorded(sc, tr)
	line["out"] = RecordSet(out)
	record.Line(line)
	return out
}

func (s *Set) FromJSON(r io.Reader) error {
	if !record.Outermost() {
		defer record.Done()
		return s.FromJSONUnrecorded(r)
	}
	defer record.Done()
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	err = s.FromJSONUnrecorded(bytes.NewReader(text))
	line := map[string]any{"op": "fromJSON", "text": string(text), "err": record.Err(err)}
	if err == nil {
		line["out"] = string(RecordSet(s))
	}
	record.Line(line)
	return err
}

func DeserializePathElement(s string) (PathElement, error) {
	if !record.Outermost() {
		defer record.Done()
		return DeserializePathElementUnrecorded(s)
	}
	defer record.Done()
	out, err := DeserializePathElementUnrecorded(s)
	line := map[string]any{"op": "element", "text": s, "err": record.Err(err)}
	if err == nil {
		text, e := SerializePathElement(out)
		line["out"], line["outErr"] = text, record.Err(e)
	}
	record.Line(line)
	return out, err
}

func RecordValue(v value.Value) json.RawMessage {
	if v == nil {
		return json.RawMessage("null")
	}
	b, err := value.ToJSON(v)
	if err != nil {
		return json.RawMessage("null")
	}
	return b
}
