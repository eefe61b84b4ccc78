// Answers what upstream's CEL environment makes of expressions.
//
// Reads one JSON request a line: {"expr", "schema", "object", "version", "bind"}. With a schema, "self" is the
// object as CRD validation rules see it; without, "object" is it as admission policies see it. Both variables of
// plain types (i, u, d, s, b, l, m, x) are always bound. Writes one JSON answer a line: {"error"} from compiling,
// or {"type", "min", "max", "cost", "value", "fail"}.
//
// "patch" admits what mutating admission policies make; "vars" are further variables. "bench FILE" measures the
// questions of a file. cases/ prints the questions of the language's own suite.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/ext"
	"google.golang.org/protobuf/types/known/structpb"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/version"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/apiserver/pkg/cel/mutation"
	"k8s.io/apiserver/pkg/cel/mutation/dynamic"
)

type request struct {
	Expr    string          `json:"expr"`
	Schema  json.RawMessage `json:"schema,omitempty"`
	Object  json.RawMessage `json:"object,omitempty"`
	Version int             `json:"version,omitempty"`
	Bind    bool            `json:"bind,omitempty"`
	Patch   bool            `json:"patch,omitempty"`
	Vars    []variable      `json:"vars,omitempty"`
}

type answer struct {
	Error string `json:"error,omitempty"`
	Type  string `json:"type,omitempty"`
	Min   uint64 `json:"min"`
	Max   uint64 `json:"max"`
	Cost  uint64 `json:"cost"`
	Value string `json:"value,omitempty"`
	Fail  string `json:"fail,omitempty"`
	// What a patch makes of the value, and whether its objects' names match their places.
	JSON  string `json:"json,omitempty"`
	Names string `json:"names,omitempty"`
}

var plain = map[string]*cel.Type{
	"i": cel.IntType, "u": cel.UintType, "d": cel.DoubleType, "s": cel.StringType, "b": cel.BoolType,
	"l": cel.ListType(cel.IntType), "m": cel.MapType(cel.StringType, cel.IntType), "x": cel.DynType,
}

type sizes struct {
	root *apiservercel.DeclType
}

func (s *sizes) EstimateSize(element checker.AstNode) *checker.SizeEstimate {
	path := element.Path()
	if len(path) == 0 || path[0] != "self" || s.root == nil {
		return nil
	}
	current := s.root
	for _, name := range path[1:] {
		switch name {
		case "@items", "@values":
			if current.ElemType == nil {
				return nil
			}
			current = current.ElemType
		case "@keys":
			if current.KeyType == nil {
				return nil
			}
			current = current.KeyType
		default:
			field, ok := current.Fields[name]
			if !ok {
				return nil
			}
			if field.Type == nil {
				return nil
			}
			current = field.Type
		}
	}
	return &checker.SizeEstimate{Min: 0, Max: uint64(current.MaxElements)}
}

func (s *sizes) EstimateCallCost(function, overloadID string, target *checker.AstNode, args []checker.AstNode) *checker.CallEstimate {
	return nil
}

type setup struct {
	env   *cel.Env
	sizes *sizes
	sts   *structuralschema.Structural
}

var setups = map[string]*setup{}

func prepare(r *request) (*setup, error) {
	key := fmt.Sprint(r.Version, r.Bind, r.Patch, string(r.Schema))
	for _, v := range r.Vars {
		key += v.Name + string(v.Proto)
	}
	if s, ok := setups[key]; ok {
		return s, nil
	}
	compat, pick := version.MajorMinor(1, 37), environment.StoredExpressions
	if r.Version != 0 {
		compat, pick = version.MajorMinor(1, uint(r.Version)), environment.NewExpressions
	}
	var opts []cel.EnvOption
	taken := map[string]bool{}
	for _, v := range r.Vars {
		taken[v.Name] = true
	}
	for name, t := range plain {
		if taken[name] {
			continue
		}
		opts = append(opts, cel.Variable(name, t))
	}
	if r.Bind {
		opts = append(opts, ext.Bindings(ext.BindingsVersion(0)), library.JSONPatch())
	}
	declared, err := declare(r.Vars)
	if err != nil {
		return nil, err
	}
	opts = append(opts, declared...)
	if r.Patch {
		opts = append(opts, common.ResolverEnvOption(&mutation.DynamicTypeResolver{}), library.JSONPatch())
	}
	s := &setup{sizes: &sizes{}}
	var decls []*apiservercel.DeclType
	if len(r.Schema) > 0 {
		v1 := &apiextensionsv1.JSONSchemaProps{}
		if err := json.Unmarshal(r.Schema, v1); err != nil {
			return nil, err
		}
		internal := &apiextensions.JSONSchemaProps{}
		if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v1, internal, nil); err != nil {
			return nil, err
		}
		sts, err := structuralschema.NewStructural(internal)
		if err != nil {
			return nil, err
		}
		s.sts = sts
		root := model.SchemaDeclType(sts, false).MaybeAssignTypeName("selfType")
		s.sizes.root = root
		decls = append(decls, root)
		opts = append(opts, cel.Variable("self", root.CelType()))
	} else {
		opts = append(opts, cel.Variable("object", cel.DynType))
	}
	set, err := environment.MustBaseEnvSet(compat).Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0), EnvOptions: opts, DeclTypes: decls,
	})
	if err != nil {
		return nil, err
	}
	s.env, err = set.Env(pick)
	if err != nil {
		return nil, err
	}
	setups[key] = s
	return s, nil
}

// What a question's variables are.
func variables(r *request, s *setup) (map[string]any, error) {
	// Kubernetes binds values of the language, or trees as they were read; never Go's own lists and maps of one type,
	// whose names would show in errors.
	adapter := s.env.CELTypeAdapter()
	vars := map[string]any{
		"i": int64(7), "u": uint64(3), "d": 1.5, "s": "héllo", "b": true,
		"l": adapter.NativeToValue([]int64{3, 1, 2}), "m": adapter.NativeToValue(map[string]int64{"a": 1}),
		"x": map[string]any{"k": []any{int64(1), "two", nil, 2.5}},
	}
	if len(r.Object) > 0 {
		var object any
		if err := utiljson.Unmarshal(r.Object, &object); err != nil {
			return nil, fmt.Errorf("object: %w", err)
		}
		if s.sts != nil {
			vars["self"] = common.UnstructuredToVal(object, &model.Structural{Structural: s.sts})
		} else {
			vars["object"] = object
		}
	}
	if err := bind(s.env, r.Vars, vars); err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	return vars, nil
}

func ask(r *request) (out answer) {
	defer func() {
		if p := recover(); p != nil {
			out = answer{Error: fmt.Sprint("panic: ", p)}
		}
	}()
	s, err := prepare(r)
	if err != nil {
		return answer{Error: "setup: " + err.Error()}
	}
	ast, issues := s.env.Compile(r.Expr)
	if issues.Err() != nil {
		return answer{Error: issues.String()}
	}
	estimate, err := s.env.EstimateCost(ast, &library.CostEstimator{SizeEstimator: s.sizes})
	if err != nil {
		return answer{Error: "estimate: " + err.Error()}
	}
	out = answer{Type: cel.FormatCELType(ast.OutputType()), Min: estimate.Min, Max: estimate.Max}
	program, err := s.env.Program(ast, cel.CostLimit(1000000))
	if err != nil {
		return answer{Error: "program: " + err.Error()}
	}
	vars, err := variables(r, s)
	if err != nil {
		return answer{Error: err.Error()}
	}
	value, details, err := program.Eval(vars)
	if details != nil && details.ActualCost() != nil {
		out.Cost = *details.ActualCost()
	}
	if err != nil {
		out.Fail = err.Error()
		return out
	}
	out.Value = show(value)
	if r.Patch {
		out.JSON, out.Names = asJSON(value), typeNames(value)
	}
	return out
}

func asJSON(v ref.Val) string {
	if p, ok := v.(*mutation.JSONPatchVal); ok {
		if p.Val == nil {
			return ""
		}
		v = p.Val
	}
	converted, err := v.ConvertToNative(reflect.TypeFor[*structpb.Value]())
	if err != nil {
		return "error: " + err.Error()
	}
	text, err := json.Marshal(converted)
	if err != nil {
		return "error: " + err.Error()
	}
	var compact bytes.Buffer
	json.Compact(&compact, text)
	return compact.String()
}

func typeNames(v ref.Val) string {
	if o, ok := v.(*dynamic.ObjectVal); ok {
		if err := o.CheckTypeNamesMatchFieldPathNames(); err != nil {
			return err.Error()
		}
	}
	return ""
}

// Values of objects do not have a text of their own upstream.
func show(v ref.Val) string {
	switch t := v.(type) {
	case *mutation.JSONPatchVal:
		out := fmt.Sprintf("JSONPatch %q %q %q", t.Op, t.Path, t.From)
		if t.Val != nil {
			out += " " + show(t.Val)
		}
		return out
	case *dynamic.ObjectVal:
		return t.Type().TypeName() + " " + asJSON(v)
	case *types.Optional:
		if t.HasValue() {
			return "optional.of(" + show(t.GetValue()) + ")"
		}
		return types.Format(v)
	case traits.Lister:
		out := "["
		for it := t.Iterator(); it.HasNext() == types.True; {
			if out != "[" {
				out += ", "
			}
			out += show(it.Next())
		}
		return out + "]"
	case traits.Mapper:
		var entries []string
		for it := t.Iterator(); it.HasNext() == types.True; {
			key := it.Next()
			entry := show(key) + ": "
			if value := t.Get(key); value != nil {
				entry += show(value)
			}
			entries = append(entries, entry)
		}
		sort.Strings(entries)
		return "{" + strings.Join(entries, ", ") + "}"
	case apiservercel.Quantity:
		return "quantity " + t.String()
	case *apiservercel.Quantity:
		return "quantity " + t.String()
	case apiservercel.IP:
		return "ip " + t.String()
	case apiservercel.CIDR:
		return "cidr " + t.String()
	case apiservercel.Semver:
		return "semver " + t.String()
	case apiservercel.URL:
		return "url " + t.String()
	case apiservercel.Format:
		return "format " + t.Name
	}
	return types.Format(v)
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "bench" {
		if err := bench(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 64<<20)
	w := bufio.NewWriter(os.Stdout)
	defer w.Flush()
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for in.Scan() {
		var r request
		out := answer{}
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			out.Error = "request: " + err.Error()
		} else {
			out = ask(&r)
		}
		enc.Encode(out)
		w.Flush()
	}
}
