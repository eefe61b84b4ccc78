package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// goType is a type declaration. A struct has fields, anything else an underlying type expression.
type goType struct {
	pkg     *pkg
	name    string
	under   string // "struct" or a type expression
	alias   bool
	markers []string
	fields  []goField
	values  []string // constants of this type, for enums
}

type goField struct {
	goName, json, expr, proto            string
	omitEmpty, omitZero, embedded, noTag bool
	documented                           bool
	patchStrategy, patchKey              string
	markers                              []string
}

func (p *pkg) parse() error {
	files, err := filepath.Glob(p.dir + "/*.go")
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("no Go files in %s", p.dir)
	}
	consts := map[string][]string{}
	p.consts = map[string]string{}
	for _, f := range files {
		base := filepath.Base(f)
		if strings.HasPrefix(base, "zz_") || strings.HasSuffix(base, "_test.go") || strings.HasPrefix(base, "generated") {
			continue
		}
		fs := token.NewFileSet()
		file, err := parser.ParseFile(fs, f, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		fp := fileParser{p: p, fs: fs, imports: imports(file), comments: map[int]*ast.CommentGroup{}}
		for _, c := range file.Comments {
			fp.comments[fs.Position(c.End()).Line] = c
		}
		for _, d := range file.Decls {
			if gd, ok := d.(*ast.GenDecl); ok {
				switch gd.Tok {
				case token.TYPE:
					fp.typeDecl(gd)
				case token.CONST:
					p.constDecl(gd, consts)
				}
			}
		}
	}
	for _, t := range p.types {
		t.values = consts[t.name]
	}
	return nil
}

func imports(file *ast.File) map[string]string {
	out := map[string]string{}
	for _, i := range file.Imports {
		path := strings.Trim(i.Path.Value, `"`)
		name := filepath.Base(path)
		if i.Name != nil {
			name = i.Name.Name
		}
		out[name] = path
	}
	return out
}

// constDecl notes the package's group name, its string constants, and those of each named type.
func (p *pkg) constDecl(gd *ast.GenDecl, consts map[string][]string) {
	for _, s := range gd.Specs {
		vs := s.(*ast.ValueSpec)
		for i, name := range vs.Names {
			if i >= len(vs.Values) {
				continue
			}
			of, value, ok := stringConst(vs.Values[i])
			if !ok {
				continue
			}
			if name.Name == "GroupName" {
				p.group = value
			}
			if name.Name == "ConfigGroupName" {
				p.configGroup = value
			}
			if t, ok := vs.Type.(*ast.Ident); ok {
				of = t.Name
			}
			p.consts[name.Name] = value
			if of != "" && !slices.Contains(consts[of], value) {
				consts[of] = append(consts[of], value)
			}
		}
	}
}

// Constants of core/v1 that other packages convert to types of their own.
var foreign = map[string]string{"IPv4Protocol": "IPv4", "IPv6Protocol": "IPv6"}

// stringConst reads "text", Type("text") and Type(v1.Const): the type, if it is named here, and the text.
func stringConst(e ast.Expr) (string, string, bool) {
	switch v := e.(type) {
	case *ast.BasicLit:
		if v.Kind == token.STRING {
			value, err := strconv.Unquote(v.Value)
			return "", value, err == nil
		}
	case *ast.SelectorExpr:
		value, ok := foreign[v.Sel.Name]
		return "", value, ok
	case *ast.CallExpr:
		if t, ok := v.Fun.(*ast.Ident); ok && len(v.Args) == 1 {
			_, value, ok := stringConst(v.Args[0])
			return t.Name, value, ok
		}
	}
	return "", "", false
}

type fileParser struct {
	p        *pkg
	fs       *token.FileSet
	imports  map[string]string
	comments map[int]*ast.CommentGroup // by last line
}

func (fp *fileParser) typeDecl(gd *ast.GenDecl) {
	for _, s := range gd.Specs {
		ts := s.(*ast.TypeSpec)
		doc := ts.Doc
		if doc == nil {
			doc = gd.Doc
		}
		t := &goType{pkg: fp.p, name: ts.Name.Name, alias: ts.Assign.IsValid()}
		// Markers may also stand in a comment of their own, one empty line above.
		line := fp.fs.Position(gd.Pos()).Line
		if doc != nil {
			line = fp.fs.Position(doc.Pos()).Line
		}
		t.markers = markers(fp.comments[line-2], doc)
		if st, ok := ts.Type.(*ast.StructType); ok {
			t.under = "struct"
			for _, f := range st.Fields.List {
				t.fields = append(t.fields, fp.field(f)...)
			}
		} else {
			t.under = fp.expr(ts.Type)
		}
		fp.p.types = append(fp.p.types, t)
	}
}

func (fp *fileParser) field(f *ast.Field) []goField {
	g := goField{expr: fp.expr(f.Type), markers: markers(f.Doc), noTag: true, documented: documented(f.Doc)}
	if f.Tag != nil {
		tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`"))
		parts := strings.Split(tag.Get("json"), ",")
		g.json, g.noTag = parts[0], false
		for _, o := range parts[1:] {
			g.omitEmpty = g.omitEmpty || o == "omitempty"
			g.omitZero = g.omitZero || o == "omitzero"
		}
		g.proto, g.patchStrategy, g.patchKey = tag.Get("protobuf"), tag.Get("patchStrategy"), tag.Get("patchMergeKey")
	}
	if len(f.Names) == 0 {
		g.embedded = true
		g.goName = g.expr[strings.LastIndexAny(g.expr, ".*")+1:]
		return []goField{g}
	}
	var out []goField
	for _, n := range f.Names {
		if !n.IsExported() {
			continue
		}
		one := g
		one.goName = n.Name
		if one.json == "" {
			one.json = n.Name
		}
		out = append(out, one)
	}
	return out
}

// expr writes a type with full package paths.
func (fp *fileParser) expr(e ast.Expr) string {
	switch t := e.(type) {
	case *ast.Ident:
		switch t.Name {
		case "string", "bool", "int32", "int64", "int", "int16", "int8", "uint", "uint8", "uint16", "uint32", "uint64",
			"float32", "float64", "byte", "rune", "any", "error", "uintptr":
			return t.Name
		}
		return fp.p.path + "." + t.Name
	case *ast.StarExpr:
		return "*" + fp.expr(t.X)
	case *ast.ArrayType:
		return "[]" + fp.expr(t.Elt)
	case *ast.MapType:
		return "map[" + fp.expr(t.Key) + "]" + fp.expr(t.Value)
	case *ast.SelectorExpr:
		if x, ok := t.X.(*ast.Ident); ok {
			return fp.imports[x.Name] + "." + t.Sel.Name
		}
	}
	return fmt.Sprintf("?%T", e)
}

// documented tells whether a comment says anything beside markers.
func documented(g *ast.CommentGroup) bool {
	return g != nil && slices.ContainsFunc(g.List, func(l *ast.Comment) bool {
		s := strings.TrimSpace(strings.TrimPrefix(l.Text, "//"))
		return s != "" && !strings.HasPrefix(s, "+") && !strings.HasPrefix(s, "TODO")
	})
}

// markers are the comment lines that start with a plus sign.
func markers(groups ...*ast.CommentGroup) []string {
	var out []string
	for _, g := range groups {
		if g == nil {
			continue
		}
		for _, l := range g.List {
			s := strings.TrimSpace(strings.TrimPrefix(l.Text, "//"))
			if strings.HasPrefix(s, "+") {
				out = append(out, s[1:])
			}
		}
	}
	return out
}
