package main

import (
	"encoding/json"

	celpb "cel.dev/expr"
	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"google.golang.org/protobuf/encoding/protojson"
)

// A variable of a question: its type as the checker prints it and its value as cel.expr.Value in JSON.
type variable struct {
	Name  string          `json:"name"`
	Type  string          `json:"type"`
	Proto json.RawMessage `json:"proto"`
	Value json.RawMessage `json:"value,omitempty"`
}

func declare(vars []variable) (opts []cel.EnvOption, err error) {
	for _, v := range vars {
		var proto celpb.Type
		if err := protojson.Unmarshal(v.Proto, &proto); err != nil {
			return nil, err
		}
		t, err := types.ProtoAsType(&proto)
		if err != nil {
			return nil, err
		}
		opts = append(opts, cel.Variable(v.Name, t))
	}
	return opts, nil
}

func bind(env *cel.Env, vars []variable, into map[string]any) error {
	for _, v := range vars {
		if v.Value == nil {
			continue
		}
		var proto celpb.Value
		if err := protojson.Unmarshal(v.Value, &proto); err != nil {
			return err
		}
		var value ref.Val
		value, err := cel.ProtoAsValue(env.CELTypeAdapter(), &proto)
		if err != nil {
			return err
		}
		into[v.Name] = value
	}
	return nil
}
