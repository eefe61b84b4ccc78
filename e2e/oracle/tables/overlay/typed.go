//go:build ignore

package typed

import (
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/record"
	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// Record is a value with its type.
func (tv *TypedValue) Record() any {
	if tv == nil {
		return nil
	}
	return map[string]any{"value": fieldpath.RecordValue(tv.value), "type": fieldpath.RecordSchema(tv.schema, tv.typeRef)}
}

// recorded notes a call if the test made it. The inputs are written down before the call.
func recorded(op string, in map[string]any, run func(map[string]any)) {
	outermost := record.Outermost()
	defer record.Done()
	if !outermost {
		run(map[string]any{})
		return
	}
	in["op"] = op
	run(in)
	record.Line(in)
}

func AsTyped(v value.Value, s *schema.Schema, tr schema.TypeRef, opts ...ValidationOptions) (out *TypedValue, err error) {
	in := map[string]any{"in": (&TypedValue{value: v, typeRef: tr, schema: s}).Record(), "duplicates": len(opts) > 0}
	recorded("validate", in, func(line map[string]any) {
		out, err = AsTypedUnrecorded(v, s, tr, opts...)
		line["err"] = record.Err(err)
	})
	return out, err
}

func (tv TypedValue) ToFieldSet() (out *fieldpath.Set, err error) {
	recorded("toSet", map[string]any{"in": tv.Record()}, func(line map[string]any) {
		out, err = tv.ToFieldSetUnrecorded()
		line["out"], line["err"] = fieldpath.RecordSet(out), record.Err(err)
	})
	return out, err
}

func (tv TypedValue) Merge(pso *TypedValue) (out *TypedValue, err error) {
	recorded("merge", map[string]any{"in": tv.Record(), "patch": pso.Record()}, func(line map[string]any) {
		out, err = tv.MergeUnrecorded(pso)
		line["err"] = record.Err(err)
		if err == nil {
			line["out"] = fieldpath.RecordValue(out.value)
		}
	})
	return out, err
}

func (tv TypedValue) Compare(rhs *TypedValue) (c *Comparison, err error) {
	recorded("compare", map[string]any{"in": tv.Record(), "new": rhs.Record()}, func(line map[string]any) {
		c, err = tv.CompareUnrecorded(rhs)
		line["err"] = record.Err(err)
		if err == nil {
			line["removed"], line["modified"], line["added"] = fieldpath.RecordSet(c.Removed), fieldpath.RecordSet(c.Modified), fieldpath.RecordSet(c.Added)
		}
	})
	return c, err
}

func (tv TypedValue) RemoveItems(items *fieldpath.Set) (out *TypedValue) {
	recorded("remove", map[string]any{"in": tv.Record(), "items": fieldpath.RecordSet(items)}, func(line map[string]any) {
		out = tv.RemoveItemsUnrecorded(items)
		line["out"] = fieldpath.RecordValue(out.value)
	})
	return out
}

func (tv TypedValue) ExtractItems(items *fieldpath.Set, opts ...ExtractItemsOption) (out *TypedValue) {
	op := "extract"
	if len(opts) > 0 {
		op = "extractWithKeys"
	}
	recorded(op, map[string]any{"in": tv.Record(), "items": fieldpath.RecordSet(items)}, func(line map[string]any) {
		out = tv.ExtractItemsUnrecorded(items, opts...)
		line["out"] = fieldpath.RecordValue(out.value)
	})
	return out
}

func ReconcileFieldSetWithSchema(set *fieldpath.Set, tv *TypedValue) (out *fieldpath.Set, err error) {
	recorded("reconcile", map[string]any{"in": tv.Record(), "set": fieldpath.RecordSet(set)}, func(line map[string]any) {
		out, err = ReconcileFieldSetWithSchemaUnrecorded(set, tv)
		line["out"], line["err"] = fieldpath.RecordSet(out), record.Err(err)
	})
	return out, err
}
