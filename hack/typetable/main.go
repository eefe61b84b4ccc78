// Command typetable reads the API types of upstream's Go modules and prints the type table: one line per type,
// one per field. It parses source text only; nothing of upstream is compiled or linked.
//
// Usage: typetable MODULE_CACHE VERSION < packages.txt > types.txt
package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// pkg is one Go package of API types.
type pkg struct {
	short       string // name in the table, such as core/v1
	path        string // import path
	dir         string
	group       string
	configGroup string // a second group with the same version
	types       []*goType
	consts      map[string]string // string constants by name
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "typetable:", err)
	os.Exit(1)
}

// packages reads the list of packages: "short import-path module version-prefix subdirectory"; a short name of
// "*" takes every folder below that has a types.go.
func packages(cache, version string) []*pkg {
	var out []*pkg
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		f := strings.Fields(in.Text())
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		short, module, sub := f[0], f[1], strings.TrimPrefix(f[2], ".")
		root := filepath.Join(cache, module+"@"+moduleVersion(module, version))
		if short != "*" {
			out = append(out, &pkg{short: short, path: strings.TrimSuffix(module+"/"+sub, "/"), dir: filepath.Join(root, sub)})
			continue
		}
		files, err := filepath.Glob(filepath.Join(root, "*", "*", "types.go"))
		if err != nil {
			fail(err)
		}
		for _, file := range files {
			rel, err := filepath.Rel(root, filepath.Dir(file))
			if err != nil {
				fail(err)
			}
			out = append(out, &pkg{short: rel, path: module + "/" + rel, dir: filepath.Dir(file)})
		}
	}
	if err := in.Err(); err != nil {
		fail(err)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].short < out[j].short })
	return out
}

// moduleVersion turns v1.37.2 into v0.37.2 for the staging modules.
func moduleVersion(module, version string) string {
	if module == "k8s.io/kubernetes" {
		return version
	}
	return "v0" + strings.TrimPrefix(version, "v1")
}

func main() {
	if len(os.Args) != 3 {
		fail(fmt.Errorf("want two arguments: module cache and version"))
	}
	all := packages(os.Args[1], os.Args[2])
	for _, p := range all {
		if err := p.parse(); err != nil {
			fail(err)
		}
	}
	w := bufio.NewWriter(os.Stdout)
	fmt.Fprintf(w, "# The API types of Kubernetes %s, extracted by hack/typetable. Do not edit; run make update.\n", os.Args[2])
	(&printer{w: w, named: index(all)}).print(all)
	if err := w.Flush(); err != nil {
		fail(err)
	}
}
