//go:build ignore

package managedfields

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/record"
)

func (h *ScaleHandler) recorded(op string, scale []metav1.ManagedFieldsEntry, run func() ([]metav1.ManagedFieldsEntry, error)) ([]metav1.ManagedFieldsEntry, error) {
	outermost := record.Outermost()
	defer record.Done()
	out, err := run()
	if outermost {
		paths := map[string][]string{}
		for v, p := range h.mappings {
			paths[v] = nil
			for _, e := range p {
				s, _ := fieldpath.SerializePathElement(e)
				paths[v] = append(paths[v], s)
			}
		}
		record.Line(map[string]any{"op": op, "parent": h.parentEntries, "scale": scale, "version": h.groupVersion.String(), "paths": paths, "out": out, "err": record.Err(err)})
	}
	return out, err
}

func (h *ScaleHandler) ToSubresource() ([]metav1.ManagedFieldsEntry, error) {
	return h.recorded("toScale", nil, h.ToSubresourceUnrecorded)
}

func (h *ScaleHandler) ToParent(scale []metav1.ManagedFieldsEntry) ([]metav1.ManagedFieldsEntry, error) {
	return h.recorded("fromScale", scale, func() ([]metav1.ManagedFieldsEntry, error) { return h.ToParentUnrecorded(scale) })
}
