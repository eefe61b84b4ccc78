// Command tables runs upstream's own tests of strategic merge and apply, and records what they call.
//
// Their case tables are Go code in `_test.go` files. Copies of the two modules in a scratch folder get wrappers (overlay/)
// around the functions under test, which note what goes in and what comes out, and their tests run: one JSON line per call on
// stdout, each call once, sorted. `-short N FILE` prints such a recording without calls of longer lines and
// without types that nothing needs then.
package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

//go:embed overlay
var overlay embed.FS

const smd = "sigs.k8s.io/structured-merge-diff/v6"
const machinery = "k8s.io/apimachinery"

// A file of upstream in which texts are replaced, or (text of overlay/) a file that is added.
type change struct {
	module, file string
	replace      []string
	add          string
}

func rename(decls ...string) []string {
	var out []string
	for _, d := range decls {
		name := d[strings.LastIndexAny(d, " )")+1 : len(d)-1]
		out = append(out, d, strings.TrimSuffix(d, name+"(")+name+"Unrecorded(")
	}
	return out
}

var changes = []change{
	{smd, "record/record.go", nil, "record.go"},
	{smd, "fieldpath/record.go", nil, "fieldpath.go"},
	{smd, "fieldpath/record_schema.go", nil, "schema.go"},
	{smd, "fieldpath/set.go", rename("func (s *Set) Union(", "func (s *Set) Intersection(", "func (s *Set) Difference(",
		"func (s *Set) RecursiveDifference(", "func (s *Set) EnsureNamedFieldsAreMembers("), ""},
	{smd, "fieldpath/serialize.go", rename("func (s *Set) FromJSON("), ""},
	{smd, "fieldpath/serialize-pe.go", rename("func DeserializePathElement("), ""},
	{smd, "typed/record.go", nil, "typed.go"},
	{smd, "typed/typed.go", rename("func AsTyped(", "func (tv TypedValue) ToFieldSet(", "func (tv TypedValue) Merge(",
		"func (tv TypedValue) Compare(", "func (tv TypedValue) RemoveItems(", "func (tv TypedValue) ExtractItems("), ""},
	{smd, "typed/reconcile_schema.go", rename("func ReconcileFieldSetWithSchema("), ""},
	{smd, "merge/record.go", nil, "merge.go"},
	{smd, "merge/update.go", rename("func (s *Updater) Update(", "func (s *Updater) Apply("), ""},
	{machinery, "pkg/util/managedfields/internal/record.go", nil, "internal.go"},
	{machinery, "pkg/util/managedfields/internal/fieldmanager.go", rename("func NewFieldManager(", "func (f *FieldManager) Update(", "func (f *FieldManager) Apply("), ""},
	{machinery, "pkg/util/managedfields/internal/managedfieldsupdater.go", []string{"time.Now().UTC()", "recordNow()", "\t\"time\"\n", ""}, ""},
	{machinery, "pkg/util/managedfields/internal/structuredmerge.go", rename("func NewStructuredMergeManager("), ""},
	{machinery, "pkg/util/managedfields/internal/managedfields.go", rename("func DecodeManagedFields("), ""},
	{machinery, "pkg/util/managedfields/internal/conflict.go", rename("func NewConflictError("), ""},
	// Tests that build a part of the chain get the whole chain, which is what the API server has.
	{machinery, "pkg/util/managedfields/internal/testing/testfieldmanager.go", []string{
		"if chainFieldManager != nil {", "f = internal.NewCapManagersManager(f, internal.DefaultMaxUpdateManagers)\n\tif false {"}, ""},
	{machinery, "pkg/util/managedfields/record.go", nil, "managedfields.go"},
	{machinery, "pkg/util/managedfields/scalehandler.go", rename("func (h *ScaleHandler) ToSubresource(", "func (h *ScaleHandler) ToParent("), ""},
	{machinery, "pkg/util/strategicpatch/record.go", nil, "strategicpatch.go"},
	{machinery, "pkg/util/strategicpatch/patch.go", rename("func StrategicMergeMapPatchUsingLookupPatchMeta("), ""},
}

var packages = []string{
	smd + "/fieldpath", smd + "/typed", smd + "/merge",
	machinery + "/pkg/util/managedfields", machinery + "/pkg/util/managedfields/internal", machinery + "/pkg/util/strategicpatch",
}

func (c change) make(target string) error {
	if c.add != "" {
		b, err := overlay.ReadFile("overlay/" + c.add)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		return os.WriteFile(target, bytes.Replace(b, []byte("//go:build ignore\n"), nil, 1), 0o600)
	}
	b, err := os.ReadFile(target)
	if err != nil {
		return err
	}
	text := string(b)
	for i := 0; i < len(c.replace); i += 2 {
		if !strings.Contains(text, c.replace[i]) {
			return fmt.Errorf("%s: no %q any more", c.file, c.replace[i])
		}
		text = strings.ReplaceAll(text, c.replace[i], c.replace[i+1])
	}
	return os.WriteFile(target, []byte(text), 0o600)
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "tables:", err)
		os.Exit(1)
	}
}

func moduleDir(path string) string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", path).Output()
	must(err)
	return strings.TrimSpace(string(out))
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == "-short" {
		limit, err := strconv.Atoi(os.Args[2])
		must(err)
		text, err := os.ReadFile(os.Args[3])
		must(err)
		fmt.Println(strings.Join(short(strings.Split(strings.TrimSpace(string(text)), "\n"), limit), "\n"))
		return
	}
	record()
}

func record() {
	scratch, err := os.MkdirTemp("", "tables")
	must(err)
	defer os.RemoveAll(scratch)
	// Test dependencies may be missing from our module file; a copy takes them.
	for _, ext := range []string{"mod", "sum"} {
		b, err := os.ReadFile("go." + ext)
		must(err)
		must(os.WriteFile(filepath.Join(scratch, "go."+ext), b, 0o600))
	}
	modfile := "-modfile=" + filepath.Join(scratch, "go.mod")
	copies := map[string]string{}
	// Upstream's repository has its modules, and the specification that tests read, at these places.
	for _, path := range []string{smd, machinery} {
		copies[path] = filepath.Join(scratch, "staging/src", path)
		must(os.MkdirAll(filepath.Dir(copies[path]), 0o700))
		must(os.CopyFS(copies[path], os.DirFS(moduleDir(path))))
		must(exec.Command("chmod", "-R", "u+w", copies[path]).Run())
		must(exec.Command("go", "mod", "edit", "-replace", path+"="+copies[path], filepath.Join(scratch, "go.mod")).Run())
	}
	const specification = "api/openapi-spec"
	must(os.CopyFS(filepath.Join(scratch, specification), os.DirFS(filepath.Join(moduleDir("k8s.io/kubernetes"), specification))))
	for _, c := range changes {
		must(c.make(filepath.Join(copies[c.module], c.file)))
	}
	recording := filepath.Join(scratch, "recording")
	args := []string{"test", modfile, "-mod=mod", "-count=1", "-p=1",
		"-skip", "Rand|Fuzz|Benchmark"}
	cmd := exec.Command("go", append(args, packages...)...)
	cmd.Env = append(os.Environ(), "RECORD_CALLS="+recording)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(os.Stderr, &output), os.Stderr
	if err := cmd.Run(); err != nil {
		// Expectations about a part of the chain fail with the whole chain; what was recorded counts.
		fmt.Fprintln(os.Stderr, "tables: go test:", err)
	}
	if strings.Contains(output.String(), "build failed]") {
		must(errors.New("upstream's tests do not build with the wrappers"))
	}
	text, err := os.ReadFile(recording)
	must(err)
	seen := map[string]bool{}
	var lines []string
	for _, l := range bytes.Split(bytes.TrimSpace(text), []byte("\n")) {
		if s := string(l); !seen[s] {
			seen[s] = true
			lines = append(lines, s)
		}
	}
	sort.Strings(lines)
	fmt.Println(strings.Join(lines, "\n"))
}

var reference = regexp.MustCompile(`"(?:name|to|type)":"([^"]+)"`)

// short keeps calls up to a length, and what describes their types.
func short(lines []string, limit int) []string {
	described := map[string]string{}
	for _, l := range lines {
		var d struct{ Op, Name string }
		must(json.Unmarshal([]byte(l), &d))
		if d.Op == "type" || d.Op == "struct" {
			described[d.Name] = l
		}
	}
	needed := map[string]bool{}
	var need func(line string)
	need = func(line string) {
		for _, m := range reference.FindAllStringSubmatch(line, -1) {
			if l, ok := described[m[1]]; ok && !needed[l] {
				needed[l] = true
				need(l)
			}
		}
	}
	isType := map[string]bool{}
	for _, l := range described {
		isType[l] = true
	}
	for _, l := range lines {
		if !isType[l] && len(l) <= limit {
			needed[l] = true
			need(l)
		}
	}
	out := lines[:0]
	for _, l := range lines {
		if needed[l] {
			out = append(out, l)
		}
	}
	return out
}
