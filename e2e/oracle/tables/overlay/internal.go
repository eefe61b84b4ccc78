//go:build ignore

package internal

import (
	"encoding/json"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/merge"
	"sigs.k8s.io/structured-merge-diff/v6/record"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// The rules made last belong to the field manager made next.
var lastRules *structuredMergeManager
var rulesOf = map[*FieldManager]*structuredMergeManager{}

func NewStructuredMergeManager(t TypeConverter, c runtime.ObjectConvertor, d runtime.ObjectDefaulter, gv, hub schema.GroupVersion, reset map[fieldpath.APIVersion]fieldpath.Filter) (Manager, error) {
	m, err := NewStructuredMergeManagerUnrecorded(t, c, d, gv, hub, reset)
	lastRules, _ = m.(*structuredMergeManager)
	return m, err
}

func NewFieldManager(f Manager, subresource string) *FieldManager {
	m := NewFieldManagerUnrecorded(f, subresource)
	rulesOf[m] = lastRules
	return m
}

func text(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage("null")
	}
	return b
}

// Operations have times of their own, so that an answer shows which ones an operation set.
var clock atomic.Int64

func recordNow() time.Time {
	return time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(clock.Load()) * time.Second)
}

func (f *FieldManager) recorded(op string, live, obj runtime.Object, manager string, force bool, run func() (runtime.Object, error)) (runtime.Object, error) {
	outermost := record.Outermost()
	defer record.Done()
	rules := rulesOf[f]
	if !outermost || rules == nil {
		return run()
	}
	converting := &merge.Converting{Converter: rules.updater.Converter}
	rules.updater.Converter = converting
	defer func() { rules.updater.Converter = converting.Converter }()
	line := map[string]any{"op": op, "live": text(live), "obj": text(obj), "manager": manager, "force": force, "sub": f.subresource,
		"gvk": []string{rules.groupVersion.String(), live.GetObjectKind().GroupVersionKind().Kind}, "filters": merge.RecordFilters(nil, rules.updater.IgnoreFilter)}
	bare := live.DeepCopyObject()
	RemoveObjectManagedFields(bare)
	if tv, err := rules.typeConverter.ObjectToTyped(bare, typed.AllowDuplicates); err == nil {
		line["type"] = fieldpath.RecordSchema(tv.Schema(), tv.TypeRef())
	}
	clock.Add(1)
	line["now"] = recordNow().Format(time.RFC3339)
	out, err := run()
	line["conversions"] = converting.Calls
	if err != nil {
		line["err"] = err.Error()
		if s, ok := err.(*apierrors.StatusError); ok {
			line["code"] = s.ErrStatus.Code
		}
	} else {
		line["out"] = text(out)
	}
	record.Line(line)
	return out, err
}

func (f *FieldManager) Update(live, obj runtime.Object, manager string) (runtime.Object, error) {
	return f.recorded("managerUpdate", live, obj, manager, false, func() (runtime.Object, error) { return f.UpdateUnrecorded(live, obj, manager) })
}

func (f *FieldManager) Apply(live, obj runtime.Object, manager string, force bool) (runtime.Object, error) {
	return f.recorded("managerApply", live, obj, manager, force, func() (runtime.Object, error) { return f.ApplyUnrecorded(live, obj, manager, force) })
}

func DecodeManagedFields(entries []metav1.ManagedFieldsEntry) (ManagedInterface, error) {
	outermost := record.Outermost()
	defer record.Done()
	m, err := DecodeManagedFieldsUnrecorded(entries)
	if outermost {
		line := map[string]any{"op": "decode", "entries": text(entries), "err": record.Err(err)}
		if err == nil {
			out, err := encodeManagedFields(m)
			line["out"], line["outErr"] = text(out), record.Err(err)
		}
		record.Line(line)
	}
	return m, err
}

func NewConflictError(conflicts merge.Conflicts) *apierrors.StatusError {
	outermost := record.Outermost()
	defer record.Done()
	out := NewConflictErrorUnrecorded(conflicts)
	if outermost {
		list := []any{}
		for _, c := range conflicts {
			path := []string{}
			for _, e := range c.Path {
				s, _ := fieldpath.SerializePathElement(e)
				path = append(path, s)
			}
			list = append(list, []any{c.Manager, path})
		}
		record.Line(map[string]any{"op": "conflict", "conflicts": list, "status": text(out.ErrStatus)})
	}
	return out
}
