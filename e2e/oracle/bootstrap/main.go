// Command bootstrap records the roles and bindings that upstream's API server creates at start, and the feature gates
// they depend on.
//
// `bootstrap POLICY CASES` writes two files of JSON lines. POLICY has every object there may be: an object, a rule or a
// path that is there with some gates only says so in "when", a list of gates that must all be on (a path becomes {"value":
// path, "when": ...}). CASES has what upstream makes of settings of gates: of the fallback, of the groups of gates, and of
// every gate that is switched alone, together with the gates it needs or that need it. Each says what is different from
// the fallback. What POLICY says is compared with every case before anything is written.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"reflect"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/featuregate"
	"k8s.io/klog/v2"
	_ "k8s.io/kubernetes/pkg/features"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"
)

type object = map[string]any

// The states of all gates that can be switched.
type setting map[featuregate.Feature]bool

var (
	gate     = utilfeature.DefaultMutableFeatureGate
	specs    = switchable()
	needs    = gate.Dependencies()
	kinds    = []string{"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
	fallback = states(func(spec featuregate.FeatureSpec) bool { return spec.Default })
)

func switchable() map[featuregate.Feature]featuregate.FeatureSpec {
	all := gate.GetAll()
	maps.DeleteFunc(all, func(name featuregate.Feature, spec featuregate.FeatureSpec) bool {
		return spec.LockToDefault || name == "AllAlpha" || name == "AllBeta"
	})
	return all
}

func states(on func(featuregate.FeatureSpec) bool) setting {
	out := setting{}
	for name, spec := range specs {
		out[name] = on(spec)
	}
	return out
}

// With a gate switched, and the gates that it needs or that need it.
func (s setting) switched(name featuregate.Feature, on bool) setting {
	out := maps.Clone(s)
	out[name] = on
	for other, wanted := range needs {
		for _, need := range wanted {
			if on && other == name && !out.enabled(need) {
				out = out.switched(need, true)
			}
			if !on && need == name && out.enabled(other) {
				out = out.switched(other, false)
			}
		}
	}
	return out
}

func (s setting) enabled(name featuregate.Feature) bool {
	if on, ok := s[name]; ok {
		return on
	}
	return gate.Enabled(name)
}

// What is not as the fallback, as a flag says it.
func (s setting) flag() []string {
	out := []string{}
	for name, on := range s {
		if on != fallback[name] {
			out = append(out, fmt.Sprintf("%s=%t", name, on))
		}
	}
	slices.Sort(out)
	return out
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func plain(kind string, from any) object {
	text, err := json.Marshal(from)
	must(err)
	var out object
	must(json.Unmarshal(text, &out))
	out["apiVersion"], out["kind"] = "rbac.authorization.k8s.io/v1", kind
	return out
}

func text(o object, field string) string {
	value, _ := o["metadata"].(object)[field].(string)
	return value
}

func key(o object) string {
	return fmt.Sprintf("%s %s/%s", o["kind"], text(o, "namespace"), text(o, "name"))
}

// The policy that upstream makes with a setting, in a fixed order.
func policy(s setting) []object {
	values := map[string]bool{}
	for name, on := range s {
		values[string(name)] = on
	}
	must(gate.SetFromMap(values))
	var out []object
	for _, role := range append(bootstrappolicy.ClusterRoles(), bootstrappolicy.ControllerRoles()...) {
		out = append(out, plain("ClusterRole", role))
	}
	for _, binding := range append(bootstrappolicy.ClusterRoleBindings(), bootstrappolicy.ControllerRoleBindings()...) {
		out = append(out, plain("ClusterRoleBinding", binding))
	}
	for namespace, roles := range bootstrappolicy.NamespaceRoles() {
		out = append(out, namespaced("Role", namespace, roles, func(r rbacv1.Role) string { return r.Namespace })...)
	}
	for namespace, bindings := range bootstrappolicy.NamespaceRoleBindings() {
		out = append(out, namespaced("RoleBinding", namespace, bindings, func(b rbacv1.RoleBinding) string { return b.Namespace })...)
	}
	slices.SortFunc(out, func(a, b object) int {
		place := func(o object) int { return slices.Index(kinds, o["kind"].(string)) }
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(text(a, "namespace"), text(b, "namespace")),
			cmp.Compare(text(a, "name"), text(b, "name")))
	})
	return out
}

func namespaced[T any](kind, namespace string, from []T, own func(T) string) []object {
	var out []object
	for _, item := range from {
		if own(item) != namespace {
			log.Fatalf("%s of %s in %s", kind, own(item), namespace)
		}
		out = append(out, plain(kind, item))
	}
	return out
}

func byKey(objects []object) map[string]object {
	out := map[string]object{}
	for _, o := range objects {
		out[key(o)] = o
	}
	return out
}

func list(o object, field string) []any {
	out, _ := o[field].([]any)
	return out
}

// Whether two rules differ in their paths alone.
func alike(a, b any) bool {
	a, b = maps.Clone(a.(object)), maps.Clone(b.(object))
	delete(a.(object), "nonResourceURLs")
	delete(b.(object), "nonResourceURLs")
	return reflect.DeepEqual(a, b)
}

// For every item of a list the item of the shorter one that stands for it, or nothing.
func aligned(full, part []any, same func(a, b any) bool) []any {
	out := make([]any, len(full))
	for i, item := range full {
		if len(part) > 0 && same(item, part[0]) {
			out[i], part = part[0], part[1:]
		}
	}
	if len(part) > 0 {
		log.Fatalf("%v is not part of %v", part, full)
	}
	return out
}

// The gates without which something is not there; those that another of them needs go without saying.
type absence map[featuregate.Feature]bool

func (a absence) when() []any {
	implied := map[featuregate.Feature]bool{}
	var imply func(featuregate.Feature)
	imply = func(name featuregate.Feature) {
		for _, need := range needs[name] {
			implied[need] = true
			imply(need)
		}
	}
	for name := range a {
		imply(name)
	}
	var out []string
	for name := range a {
		if !implied[name] {
			out = append(out, string(name))
		}
	}
	slices.Sort(out)
	var items []any
	for _, name := range out {
		items = append(items, name)
	}
	return items
}

func marked(o object, a absence) object {
	if when := a.when(); len(when) > 0 {
		o["when"] = when
	}
	return o
}

func annotate(full object, without map[featuregate.Feature]map[string]object) object {
	name, gone := key(full), absence{}
	rules := list(full, "rules")
	missing, found := make([]absence, len(rules)), map[featuregate.Feature][]any{}
	for i := range missing {
		missing[i] = absence{}
	}
	for g, objects := range without {
		o, ok := objects[name]
		if !ok {
			gone[g] = true
			continue
		}
		found[g] = aligned(rules, list(o, "rules"), alike)
		for i, rule := range found[g] {
			if rule == nil {
				missing[i][g] = true
			}
		}
	}
	for i, rule := range rules {
		annotateURLs(rule.(object), i, found)
		marked(rule.(object), missing[i])
	}
	return marked(full, gone)
}

func annotateURLs(rule object, i int, found map[featuregate.Feature][]any) {
	urls := list(rule, "nonResourceURLs")
	for j, url := range urls {
		gone := absence{}
		for g, rules := range found {
			if rules[i] != nil && !slices.Contains(list(rules[i].(object), "nonResourceURLs"), url) {
				gone[g] = true
			}
		}
		if when := gone.when(); len(when) > 0 {
			urls[j] = object{"value": url, "when": when}
		}
	}
}

// What is left of a recorded value with a setting: what the program that reads it does.
func resolve(value any, s setting) (any, bool) {
	switch value := value.(type) {
	case object:
		for _, name := range list(value, "when") {
			if !s.enabled(featuregate.Feature(name.(string))) {
				return nil, false
			}
		}
		if inner, ok := value["value"]; ok {
			return inner, true
		}
		out := object{}
		for field, item := range value {
			if field != "when" {
				out[field], _ = resolve(item, s)
			}
		}
		return out, true
	case []any:
		out := []any{}
		for _, item := range value {
			if item, ok := resolve(item, s); ok {
				out = append(out, item)
			}
		}
		return out, true
	}
	return value, true
}

func check(recorded []object, s setting, wanted []object) {
	var got []object
	for _, o := range recorded {
		if o, ok := resolve(o, s); ok {
			got = append(got, o.(object))
		}
	}
	if !reflect.DeepEqual(got, wanted) {
		log.Fatalf("what is recorded is not what upstream makes of %v", s.flag())
	}
}

func line(out *bytes.Buffer, value any) {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	must(encoder.Encode(value))
}

func main() {
	// Every setting of a gate that is no longer new is warned of.
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	all := states(func(featuregate.FeatureSpec) bool { return true })
	without := map[featuregate.Feature]map[string]object{}
	for name := range specs {
		without[name] = byKey(policy(all.switched(name, false)))
	}
	var recorded []object
	var data, cases bytes.Buffer
	for _, o := range policy(all) {
		recorded = append(recorded, annotate(o, without))
		line(&data, recorded[len(recorded)-1])
	}
	stage := func(stages ...any) setting {
		return states(func(spec featuregate.FeatureSpec) bool {
			return spec.Default || slices.Contains(stages, any(spec.PreRelease))
		})
	}
	asked := []struct {
		set []string
		setting
	}{
		{[]string{}, fallback},
		{[]string{"AllAlpha=true", "AllBeta=true"}, stage(featuregate.Alpha, featuregate.Beta)},
	}
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		s := fallback.switched(name, !fallback[name])
		asked = append(asked, struct {
			set []string
			setting
		}{s.flag(), s})
	}
	usual := byKey(policy(fallback))
	for i, a := range asked {
		wanted := policy(a.setting)
		check(recorded, a.setting, wanted)
		changed, present := []object{}, byKey(wanted)
		for _, o := range wanted {
			if i == 0 || !reflect.DeepEqual(usual[key(o)], o) {
				changed = append(changed, o)
			}
		}
		gone := []string{}
		for _, name := range slices.Sorted(maps.Keys(usual)) {
			if _, ok := present[name]; !ok {
				gone = append(gone, name)
			}
		}
		line(&cases, object{"set": a.set, "changed": changed, "gone": gone})
	}
	must(os.WriteFile(os.Args[1], data.Bytes(), 0o644))
	must(os.WriteFile(os.Args[2], cases.Bytes(), 0o644))
}
