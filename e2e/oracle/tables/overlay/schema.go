//go:build ignore

package fieldpath

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"sigs.k8s.io/structured-merge-diff/v6/record"
	"sigs.k8s.io/structured-merge-diff/v6/schema"
)

var known = map[*schema.Schema]string{}

// RecordSchema writes down a type and, once each, the named types it refers to.
func RecordSchema(s *schema.Schema, tr schema.TypeRef) any {
	id, ok := known[s]
	if !ok {
		// Marshalled as it is, a schema would lose what two embedded structs both have.
		types := map[string]any{}
		for _, def := range s.Types {
			types[def.Name] = recordAtom(s, "", def.Atom)
		}
		b, _ := json.Marshal(types)
		sum := sha256.Sum256(b)
		id = hex.EncodeToString(sum[:4])
		known[s] = id
	}
	return recordRef(s, id, tr)
}

func recordRef(s *schema.Schema, id string, tr schema.TypeRef) any {
	out := map[string]any{}
	if tr.ElementRelationship != nil {
		out["rel"] = string(*tr.ElementRelationship)
	}
	if tr.NamedType == nil {
		out["inline"] = recordAtom(s, id, tr.Inlined)
		return out
	}
	key := *tr.NamedType + "@" + id
	out["name"] = key
	if id != "" && !defined[key] {
		defined[key] = true
		def, ok := s.FindNamedType(*tr.NamedType)
		if ok {
			record.Line(map[string]any{"op": "type", "name": key, "atom": recordAtom(s, id, def.Atom)})
		}
	}
	return out
}

var defined = map[string]bool{}

func recordAtom(s *schema.Schema, id string, a schema.Atom) any {
	out := map[string]any{}
	if a.Scalar != nil {
		out["scalar"] = string(*a.Scalar)
	}
	if a.List != nil {
		l := map[string]any{"of": recordRef(s, id, a.List.ElementType), "rel": string(a.List.ElementRelationship)}
		if len(a.List.Keys) > 0 {
			l["keys"] = a.List.Keys
		}
		out["list"] = l
	}
	if a.Map != nil {
		fields := []any{}
		for _, f := range a.Map.Fields {
			field := map[string]any{"name": f.Name, "type": recordRef(s, id, f.Type)}
			if f.Default != nil {
				field["default"] = f.Default
			}
			fields = append(fields, field)
		}
		m := map[string]any{"fields": fields, "rel": string(a.Map.ElementRelationship)}
		if a.Map.ElementType != (schema.TypeRef{}) {
			m["of"] = recordRef(s, id, a.Map.ElementType)
		}
		out["map"] = m
	}
	return out
}
