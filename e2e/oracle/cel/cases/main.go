// Prints the language's own conformance cases, those in a folder, as questions to upstream's engine.
//
// A program of its own, because it links the messages that cases mention: what answers must know no others than
// Kubernetes does.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	// The messages that cases mention.
	_ "cel.dev/expr/conformance/proto2"
	_ "cel.dev/expr/conformance/proto3"
	testpb "cel.dev/expr/conformance/test"
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
)

// A question: see ../main.go.
type request struct {
	Expr string     `json:"expr"`
	Vars []variable `json:"vars,omitempty"`
}

type variable struct {
	Name  string          `json:"name"`
	Type  string          `json:"type"`
	Proto json.RawMessage `json:"proto"`
	Value json.RawMessage `json:"value,omitempty"`
}

// Prints the language's own conformance cases as questions. What a case expects is not printed: the Kubernetes
// environment has other functions and no messages, so its answer is what counts.
func conformance(folder string, w *json.Encoder) error {
	files, err := filepath.Glob(filepath.Join(folder, "*.textproto"))
	if err != nil {
		return err
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var file testpb.SimpleTestFile
		if err := prototext.Unmarshal(data, &file); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, section := range file.Section {
			for _, test := range section.Test {
				question, err := caseQuestion(test)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", path, test.Name, err)
				}
				if err := w.Encode(question); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func caseQuestion(test *testpb.SimpleTest) (*request, error) {
	question := &request{Expr: test.Expr}
	for _, decl := range test.TypeEnv {
		ident := decl.GetIdent()
		if ident == nil {
			continue // Functions without code.
		}
		t, err := types.ProtoAsType(ident.Type)
		if err != nil {
			return nil, err
		}
		proto, err := protojson.Marshal(ident.Type)
		if err != nil {
			return nil, err
		}
		v := variable{Name: decl.Name, Type: cel.FormatCELType(t), Proto: proto}
		if bound, ok := test.Bindings[decl.Name]; ok && bound.GetValue() != nil {
			if v.Value, err = protojson.Marshal(bound.GetValue()); err != nil {
				return nil, err
			}
		}
		question.Vars = append(question.Vars, v)
	}
	return question, nil
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: cases FOLDER")
		os.Exit(2)
	}
	if err := conformance(os.Args[1], json.NewEncoder(os.Stdout)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
