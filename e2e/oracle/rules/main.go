// Command rules runs upstream's own tests of validation rules, and records what they call.
//
// Their case tables are Go code in `_test.go` files. Wrappers (overlay/) around the functions under test note what goes in
// and what comes out: one JSON line per call, each call once, sorted. `rules OUT` writes OUT/evaluations.jsonl (a
// schema's rules over an object), OUT/compilations.jsonl (what rules may cost) and OUT/rules.jsonl (definitions that have rules, and what is wrong with them).
// Lines above 6,000 bytes are left out.
package main

import (
	"bytes"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
)

//go:embed overlay
var overlay embed.FS

const (
	module  = "k8s.io/apiextensions-apiserver"
	longest = 6000
)

type target struct {
	pkg, file, wrapper, out, tests string
	rename                         [][2]string
	keep                           func(line []byte) bool
}

var targets = []target{
	{"pkg/apiserver/schema/cel", "validation.go", "cel.go", "evaluations.jsonl", ".", [][2]string{
		{"func NewValidator(", "func newValidatorUnrecorded("},
		{" validator(", " validatorUnrecorded("},
		{"= Compile(", "= compileUnrecorded("},
		{"func (s *Validator) Validate(", "func (s *Validator) validateUnrecorded("},
		// A structural schema has no rules below allOf; these tests are about schemas of built-in types. And no client
		// sends a float32, which JSON does not have.
	}, func(line []byte) bool {
		return !bytes.Contains(line, []byte(`"allOf"`)) && !bytes.Contains(line, []byte(`3.4028235e+38`))
	}},
	{"pkg/apiserver/schema/cel", "compilation.go", "compile.go", "compilations.jsonl", ".", [][2]string{
		{"func Compile(", "func compileUnrecorded("},
	}, func([]byte) bool { return true }},
	{"pkg/apis/apiextensions/validation", "validation.go", "validation.go", "rules.jsonl", "CustomResourceDefinition", [][2]string{
		{"func ValidateCustomResourceDefinition(", "func validateCustomResourceDefinitionUnrecorded("},
		{"func ValidateCustomResourceDefinitionUpdate(", "func validateCustomResourceDefinitionUpdatePublicUnrecorded("},
		{"validateCustomResourceDefinitionValidation(", "validateCustomResourceDefinitionValidationUnrecorded("},
	}, func(line []byte) bool { return bytes.Contains(line, []byte("x-kubernetes-validations")) }},
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "rules:", err)
		os.Exit(1)
	}
}

func moduleDir() string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	must(err)
	return strings.TrimSpace(string(out))
}

// Puts a target's wrappers into a copy of the module.
func (t target) wrap(copied string) {
	path := filepath.Join(copied, t.pkg, t.file)
	source, err := os.ReadFile(path)
	must(err)
	text := string(source)
	for _, r := range t.rename {
		if !strings.Contains(text, r[0]) {
			must(fmt.Errorf("%s: no %q any more", t.file, r[0]))
		}
		text = strings.ReplaceAll(text, r[0], r[1])
	}
	must(os.WriteFile(path, []byte(text), 0o600))
	wrapper, err := overlay.ReadFile("overlay/" + t.wrapper)
	must(err)
	wrapper = bytes.Replace(wrapper, []byte("//go:build ignore\n"), nil, 1)
	must(os.WriteFile(filepath.Join(copied, t.pkg, "record_"+t.wrapper), wrapper, 0o600))
}

func (t target) record(scratch, out string) {
	recording := filepath.Join(scratch, "recording-"+t.wrapper)
	cmd := exec.Command("go", "test", "-modfile="+filepath.Join(scratch, "go.mod"), "-mod=mod", "-count=1", "-run", t.tests, module+"/"+t.pkg)
	cmd.Env = append(os.Environ(), "RECORD_"+strings.ToUpper(strings.TrimSuffix(t.wrapper, ".go"))+"="+recording)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	must(cmd.Run())
	text, err := os.ReadFile(recording)
	must(err)
	seen := map[string]bool{}
	for _, line := range bytes.Split(bytes.TrimSpace(text), []byte("\n")) {
		if len(line) <= longest && t.keep(line) {
			seen[string(line)] = true
		}
	}
	lines := make([]string, 0, len(seen))
	for line := range seen {
		lines = append(lines, line)
	}
	sort.Strings(lines)
	must(os.WriteFile(filepath.Join(out, t.out), []byte(strings.Join(lines, "\n")+"\n"), 0o600))
}

func main() {
	if len(os.Args) != 2 {
		must(fmt.Errorf("usage: rules OUT"))
	}
	scratch, err := os.MkdirTemp("", "rules")
	must(err)
	defer os.RemoveAll(scratch)
	for _, ext := range []string{"mod", "sum"} {
		b, err := os.ReadFile("go." + ext)
		must(err)
		must(os.WriteFile(filepath.Join(scratch, "go."+ext), b, 0o600))
	}
	copied := filepath.Join(scratch, "module")
	must(os.CopyFS(copied, os.DirFS(moduleDir())))
	must(exec.Command("chmod", "-R", "u+w", copied).Run())
	must(exec.Command("go", "mod", "edit", "-replace", module+"="+copied, filepath.Join(scratch, "go.mod")).Run())
	for _, t := range targets {
		t.wrap(copied)
	}
	for _, t := range targets {
		t.record(scratch, os.Args[1])
	}
}
