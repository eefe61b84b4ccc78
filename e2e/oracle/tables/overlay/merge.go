//go:build ignore

package merge

import (
	"bytes"
	"encoding/json"
	"sort"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/record"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// Converting notes what a converter answers.
type Converting struct {
	Converter
	Calls []any
	seen  []*typed.TypedValue
}

// complete asks for what other orders of conversions need: the order of versions is random.
func (c *Converting) complete(versions map[string]bool) {
	for range 2 {
		for _, object := range append([]*typed.TypedValue{}, c.seen...) {
			for version := range versions {
				_, _ = c.Convert(object, fieldpath.APIVersion(version))
				_, _ = c.Convert(object.Empty(), fieldpath.APIVersion(version))
			}
		}
	}
	sort.Slice(c.Calls, func(i, j int) bool {
		a, _ := json.Marshal(c.Calls[i])
		b, _ := json.Marshal(c.Calls[j])
		return bytes.Compare(a, b) < 0
	})
}

func (c *Converting) see(object *typed.TypedValue) {
	text, _ := json.Marshal(object.Record())
	for _, known := range c.seen {
		if other, _ := json.Marshal(known.Record()); bytes.Equal(text, other) {
			return
		}
	}
	if len(c.seen) < 20 {
		c.seen = append(c.seen, object)
	}
}

func (c *Converting) Convert(object *typed.TypedValue, version fieldpath.APIVersion) (*typed.TypedValue, error) {
	call := map[string]any{"version": string(version)}
	before, _ := json.Marshal(object.Record())
	c.see(object)
	out, err := c.Converter.Convert(object, version)
	if err == nil {
		c.see(out)
	}
	if err != nil {
		call["err"], call["missing"], call["in"] = err.Error(), c.Converter.IsMissingVersionError(err), json.RawMessage(before)
	} else {
		after := out.Record()
		call["type"] = after.(map[string]any)["type"]
		if text, _ := json.Marshal(after); bytes.Equal(before, text) {
			call["same"] = true
			call["from"] = after.(map[string]any)["type"]
		} else {
			call["in"], call["out"] = json.RawMessage(before), after
		}
	}
	line, _ := json.Marshal(call)
	for _, c := range c.Calls {
		if known, _ := json.Marshal(c); bytes.Equal(line, known) {
			return out, err
		}
	}
	c.Calls = append(c.Calls, call)
	return out, err
}

func recordManagers(m fieldpath.ManagedFields) any {
	out := map[string]any{}
	for name, set := range m {
		out[name] = map[string]any{"version": string(set.APIVersion()), "applied": set.Applied(), "set": fieldpath.RecordSet(set.Set())}
	}
	return out
}

// RecordFilters is what a write does not track, by version.
func RecordFilters(sets map[fieldpath.APIVersion]*fieldpath.Set, filters map[fieldpath.APIVersion]fieldpath.Filter) any {
	out := map[string]any{}
	for v, s := range sets {
		out[string(v)] = map[string]any{"exclude": fieldpath.RecordSet(s)}
	}
	for v, f := range filters {
		out[string(v)] = fieldpath.RecordFilter(f)
	}
	return out
}

func recordResult(line map[string]any, out *typed.TypedValue, managers fieldpath.ManagedFields, err error) {
	if conflicts, ok := err.(Conflicts); ok {
		list := [][]string{}
		for _, c := range conflicts {
			list = append(list, []string{c.Manager, c.Path.String()})
		}
		sort.Slice(list, func(i, j int) bool { return list[i][0]+"\x00"+list[i][1] < list[j][0]+"\x00"+list[j][1] })
		line["conflicts"] = list
		return
	}
	line["err"] = record.Err(err)
	if err == nil {
		line["managers"] = recordManagers(managers)
		if out != nil {
			line["out"] = fieldpath.RecordValue(out.AsValue())
		}
	}
}

func (s *Updater) recorded(op string, live, obj *typed.TypedValue, version fieldpath.APIVersion, managers fieldpath.ManagedFields, manager string, force bool,
	run func(*Updater) (*typed.TypedValue, fieldpath.ManagedFields, error)) (*typed.TypedValue, fieldpath.ManagedFields, error) {
	outermost := record.Outermost()
	defer record.Done()
	if !outermost {
		return run(s)
	}
	converting := &Converting{Converter: s.Converter}
	copied := *s
	copied.Converter = converting
	line := map[string]any{"op": op, "live": live.Record(), "obj": obj.Record(), "version": string(version), "before": recordManagers(managers),
		"manager": manager, "force": force, "filters": RecordFilters(s.IgnoredFields, s.IgnoreFilter), "always": s.returnInputOnNoop}
	out, managed, err := run(&copied)
	versions := map[string]bool{string(version): true}
	for _, m := range line["before"].(map[string]any) {
		versions[m.(map[string]any)["version"].(string)] = true
	}
	if len(versions) > 1 {
		converting.complete(versions)
	}
	line["conversions"] = converting.Calls
	recordResult(line, out, managed, err)
	record.Line(line)
	return out, managed, err
}

func (s *Updater) Update(live, obj *typed.TypedValue, version fieldpath.APIVersion, managers fieldpath.ManagedFields, manager string) (*typed.TypedValue, fieldpath.ManagedFields, error) {
	return s.recorded("update", live, obj, version, managers, manager, true, func(s *Updater) (*typed.TypedValue, fieldpath.ManagedFields, error) {
		return s.UpdateUnrecorded(live, obj, version, managers, manager)
	})
}

func (s *Updater) Apply(live, obj *typed.TypedValue, version fieldpath.APIVersion, managers fieldpath.ManagedFields, manager string, force bool) (*typed.TypedValue, fieldpath.ManagedFields, error) {
	return s.recorded("apply", live, obj, version, managers, manager, force, func(s *Updater) (*typed.TypedValue, fieldpath.ManagedFields, error) {
		return s.ApplyUnrecorded(live, obj, version, managers, manager, force)
	})
}
