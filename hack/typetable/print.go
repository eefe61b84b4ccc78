package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Go types with a wire form of their own.
var special = map[string]string{
	"k8s.io/apimachinery/pkg/apis/meta/v1.Time":                          "time",
	"k8s.io/apimachinery/pkg/apis/meta/v1.MicroTime":                     "microtime",
	"k8s.io/apimachinery/pkg/apis/meta/v1.Duration":                      "duration",
	"k8s.io/apimachinery/pkg/apis/meta/v1.FieldsV1":                      "raw",
	"k8s.io/apimachinery/pkg/runtime.RawExtension":                       "raw",
	"k8s.io/apimachinery/pkg/api/resource.Quantity":                      "quantity",
	"k8s.io/apimachinery/pkg/util/intstr.IntOrString":                    "intorstring",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSON":      "raw",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1.JSON": "raw",
	"k8s.io/apimachinery/pkg/types.UID":                                  "string",
	"k8s.io/apimachinery/pkg/types.NodeName":                             "string",
	"k8s.io/apimachinery/pkg/api/resource.QuantityValue":                 "quantity",
	"k8s.io/apimachinery/pkg/runtime.Unknown":                            "raw",
	"time.Duration":                          "int64",
	"k8s.io/apimachinery/pkg/runtime.Object": "object",
}

// Structs whose JSON is one of two shapes; the table names the shape, the codec knows it.
var choices = []string{"JSONSchemaPropsOrArray", "JSONSchemaPropsOrBool", "JSONSchemaPropsOrStringArray"}

type printer struct {
	w     io.Writer
	named map[string]*goType
	pkg   *pkg
}

func index(all []*pkg) map[string]*goType {
	out := map[string]*goType{}
	for _, p := range all {
		for _, t := range p.types {
			out[p.path+"."+t.name] = t
		}
	}
	return out
}

func has(markers []string, m string) bool { return slices.Contains(markers, m) }

func (t *goType) isKind() bool {
	return has(t.markers, "k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object")
}

// serialized tells API types from helpers that happen to live beside them.
func (t *goType) serialized() bool {
	tagged := func(f goField) bool { return !f.noTag }
	opaque := func(f goField) bool { return strings.Contains(f.expr, "?") || strings.HasPrefix(f.expr, "io.") }
	return t.isKind() || slices.ContainsFunc(t.fields, tagged) || !slices.ContainsFunc(t.fields, opaque)
}

func (p *printer) print(all []*pkg) {
	for _, pk := range all {
		p.pkg = pk
		version := pk.short[strings.LastIndex(pk.short, "/")+1:]
		fmt.Fprintf(p.w, "package %s %s %s/%s", pk.short, pk.path, pk.group, version)
		if pk.configGroup != "" {
			fmt.Fprintf(p.w, " %s/%s", pk.configGroup, version)
		}
		fmt.Fprintln(p.w)
		for _, t := range pk.types {
			if t.under == "struct" && special[pk.path+"."+t.name] == "" && t.serialized() {
				p.structType(t)
			}
		}
	}
}

func (p *printer) structType(t *goType) {
	line := []string{"type", t.name}
	if t.isKind() {
		line = append(line, "kind")
	}
	for _, f := range t.fields {
		if f.embedded && strings.HasSuffix(f.expr, "meta/v1.TypeMeta") || f.embedded && strings.HasSuffix(f.expr, "runtime.TypeMeta") {
			line = append(line, "typemeta")
		}
	}
	if slices.Contains(choices, t.name) {
		line = append(line, "choice")
	}
	for _, m := range []string{"structType=atomic", "union", "nonNamespaced", "genclient:nonNamespaced"} {
		if has(t.markers, m) {
			line = append(line, strings.TrimPrefix(m, "genclient:"))
		}
	}
	fmt.Fprintln(p.w, strings.Join(line, " "))
	p.rules(t.markers, "  ")
	for _, f := range t.fields {
		typeMeta := f.embedded && f.proto == "" && strings.HasSuffix(f.expr, ".TypeMeta")
		if ty, _ := p.typ(f.expr); !typeMeta && !(f.noTag && strings.Contains(ty, "?")) {
			p.field(f)
		}
	}
}

func (p *printer) field(f goField) {
	name := f.json
	if f.embedded && f.json == "" {
		name = "="
	}
	tag := "0"
	if parts := strings.Split(f.proto, ","); len(parts) > 1 {
		tag = parts[1]
	}
	ty, enum := p.typ(f.expr)
	line := []string{" ", name, tag, ty}
	add := func(on bool, s string) {
		if on {
			line = append(line, s)
		}
	}
	add(f.omitEmpty, "omitempty")
	add(f.omitZero, "omitzero")
	add(has(f.markers, "optional") || has(f.markers, "k8s:optional"), "optional")
	add(has(f.markers, "required") || has(f.markers, "k8s:required"), "required")
	add(has(f.markers, "nullable"), "nullable")
	add(has(f.markers, "unionDiscriminator"), "unionDiscriminator")
	// OpenAPI says more than the reference of what is documented.
	add(!f.documented && strings.HasPrefix(f.expr, "*") && p.isReference(f.expr[1:]), "undocumented")
	p.lists(f, &line)
	add(enum != "", "enum="+enum)
	if named, differs := p.goType(f.expr); differs {
		line = append(line, "go="+named)
	}
	for _, m := range f.markers {
		if v, ok := strings.CutPrefix(m, "default="); ok {
			line = append(line, "default="+p.constant(v))
		}
	}
	fmt.Fprintln(p.w, strings.Join(line, " "))
	p.rules(f.markers, "    ")
}

// constant writes a default that refers to a constant of the package as the constant's value.
func (p *printer) constant(v string) string {
	name, ok := strings.CutPrefix(v, "ref(")
	if value, known := p.pkg.consts[strings.TrimSuffix(name, ")")]; ok && known {
		return strconv.Quote(value)
	}
	return v
}

// isReference tells whether OpenAPI has a schema of its own for the type.
func (p *printer) isReference(expr string) bool {
	t := p.named[expr]
	return t != nil && t.under == "struct" || special[expr] != "" && special[expr] != "string"
}

// lists adds list and map topology and the strategic merge patch directives.
func (p *printer) lists(f goField, line *[]string) {
	var keys []string
	seen := map[string]bool{}
	add := func(s string) {
		if !seen[s] {
			seen[s] = true
			*line = append(*line, s)
		}
	}
	for _, m := range f.markers {
		k, v, _ := strings.Cut(m, "=")
		switch k {
		case "listType", "mapType", "structType":
			add(k + "=" + v)
		case "listMapKey":
			keys = append(keys, v)
		}
	}
	if len(keys) > 0 {
		add("keys=" + strings.Join(keys, ","))
	}
	if f.patchStrategy != "" {
		add("patch=" + f.patchStrategy)
	}
	if f.patchKey != "" {
		add("patchKey=" + f.patchKey)
	}
}

// rules prints the declarative validation markers.
func (p *printer) rules(markers []string, indent string) {
	for _, m := range markers {
		if strings.HasPrefix(m, "k8s:") && !strings.HasPrefix(m, "k8s:deepcopy") && !strings.HasPrefix(m, "k8s:openapi") &&
			!strings.HasPrefix(m, "k8s:protobuf") && !strings.HasPrefix(m, "k8s:prerelease") &&
			!strings.HasPrefix(m, "k8s:conversion") && !strings.HasPrefix(m, "k8s:defaulter") && !strings.HasPrefix(m, "k8s:supportsSubresource") {
			fmt.Fprintf(p.w, "%s+%s\n", indent, strings.TrimPrefix(m, "k8s:"))
		}
	}
}

// typ writes a type in the table's notation and, for enums, the allowed values.
func (p *printer) typ(expr string) (string, string) {
	if rest, ok := strings.CutPrefix(expr, "*"); ok {
		s, e := p.typ(rest)
		return "*" + s, e
	}
	if s := special[expr]; s != "" {
		return s, ""
	}
	switch expr {
	case "[]byte", "[]uint8":
		return "bytes", ""
	case "float64", "float32":
		return "double", ""
	case "int", "uint16", "int16", "uint32", "uint64":
		return "int64", ""
	case "string", "bool", "int32", "int64":
		return expr, ""
	case "any":
		return "any", ""
	}
	if rest, ok := strings.CutPrefix(expr, "[]"); ok {
		s, e := p.typ(rest)
		return "[]" + s, e
	}
	if rest, ok := strings.CutPrefix(expr, "map["); ok {
		s, e := p.typ(rest[strings.Index(rest, "]")+1:])
		return "{}" + s, e
	}
	t := p.named[expr]
	if expr == "?*ast.InterfaceType" {
		return "any", ""
	}
	if t == nil {
		return "?" + expr, ""
	}
	if t.under == "struct" && !t.serialized() {
		return "?" + expr, ""
	}
	if t.under == "struct" {
		if t.pkg == p.pkg {
			return t.name, ""
		}
		return t.pkg.short + "." + t.name, ""
	}
	s, e := p.typ(t.under)
	// The constants of an alias are those of the type it stands for, if they are not written anew.
	if has(t.markers, "enum") && !(t.alias && len(t.values) == 0) {
		e = strings.ReplaceAll(strings.Join(t.values, "|"), " ", "~") // words end at spaces
	}
	if has(t.markers, "protobuf.nullable=true") {
		s = "wrap" + s
	}
	return s, e
}

// goType writes a type as Go prints it in errors ("v1.Protocol"), and tells whether that cannot be derived from
// the table's own notation because a named type that is no struct takes part.
func (p *printer) goType(expr string) (string, bool) {
	if rest, ok := strings.CutPrefix(expr, "*"); ok {
		s, d := p.goType(rest)
		return "*" + s, d
	}
	if rest, ok := strings.CutPrefix(expr, "[]"); ok {
		s, d := p.goType(rest)
		return "[]" + s, d
	}
	if rest, ok := strings.CutPrefix(expr, "map["); ok {
		i := strings.Index(rest, "]")
		k, d1 := p.goType(rest[:i])
		v, d2 := p.goType(rest[i+1:])
		return "map[" + k + "]" + v, d1 || d2
	}
	base := expr[strings.LastIndex(expr, "/")+1:]
	if t := p.named[expr]; t != nil && t.alias {
		return p.goType(t.under)
	} else if t != nil && t.under != "struct" {
		return base, true
	}
	// JSON of any form: the shape does not say which type it is that OpenAPI names.
	if strings.HasSuffix(expr, "apis/apiextensions/v1.JSON") || strings.HasSuffix(expr, "apis/apiextensions/v1beta1.JSON") {
		return base, true
	}
	return base, strings.HasPrefix(expr, "k8s.io/apimachinery/pkg/types.") || expr == "int" || expr == "float32" || expr == "uint64"
}
