// Command printers shows objects as upstream's API server shows them in a Table.
//
// One object per line on stdin, one answer per line on stdout: {"object": <the object as decoded with defaults>, "now":
// <the time of the table>, "cells": [...], "completed": [reason, message] of a row that is done, "columns": [[name, type,
// format, priority], ...]}, or {"err": <text>} when it cannot be decoded.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	crdtable "k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition/tableconvertor"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration"
	apiservices "k8s.io/kube-aggregator/pkg/registry/apiservice/etcd"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/rbac"
	"k8s.io/kubernetes/pkg/apis/storage"
	_ "k8s.io/kubernetes/pkg/controlplane"
	"k8s.io/kubernetes/pkg/printers"
	"k8s.io/kubernetes/pkg/printers/internalversion"
	printerstorage "k8s.io/kubernetes/pkg/printers/storage"

	"oracle/schemes"
)

var (
	usual    = printerstorage.TableConvertor{TableGenerator: printers.NewTableGenerator().With(internalversion.AddHandlers)}
	nameOnly = rest.NewDefaultTableConvertor(schema.GroupResource{})
)

// What a resource's storage makes tables with: the printers, but for kinds that have none.
func convertor(obj runtime.Object) rest.TableConvertor {
	switch obj.(type) {
	case *core.LimitRange, *rbac.Role, *rbac.ClusterRole, *storage.CSIStorageCapacity:
		return nameOnly
	case *apiextensions.CustomResourceDefinition:
		return crdtable.New()
	case *apiregistration.APIService:
		return &apiservices.REST{}
	}
	return usual
}

type answer struct {
	Object    json.RawMessage `json:"object"`
	Now       time.Time       `json:"now"`
	Cells     []any           `json:"cells"`
	Completed []string        `json:"completed,omitempty"`
	Columns   [][4]any        `json:"columns"`
}

// A table of one object, and the time at which it was made: one second at its beginning and at its end.
func table(obj runtime.Object) (*metav1.Table, time.Time, error) {
	for {
		before := time.Now()
		t, err := convertor(obj).ConvertToTable(context.Background(), obj.DeepCopyObject(), nil)
		if before.Unix() == time.Now().Unix() {
			return t, before, err
		}
	}
}

func show(line []byte) (any, error) {
	var kind metav1.TypeMeta
	if err := json.Unmarshal(line, &kind); err != nil {
		return nil, err
	}
	factory := schemes.Codecs(kind.GroupVersionKind().Group)
	obj, gvk, err := factory.UniversalDecoder().Decode(line, nil, nil)
	if err != nil {
		return nil, err
	}
	text, err := runtime.Encode(factory.LegacyCodec(gvk.GroupVersion()), obj)
	if err != nil {
		return nil, err
	}
	// What is read back from the store: empty lists are none.
	if obj, _, err = factory.UniversalDecoder().Decode(text, nil, nil); err != nil {
		return nil, err
	}
	t, now, err := table(obj)
	if err != nil {
		return nil, err
	}
	out := answer{Object: text, Now: now.UTC().Truncate(time.Microsecond), Columns: [][4]any{}}
	if len(t.Rows) != 1 {
		return nil, fmt.Errorf("%d rows", len(t.Rows))
	}
	out.Cells = t.Rows[0].Cells
	for _, c := range t.Rows[0].Conditions {
		if c.Type != metav1.RowCompleted || c.Status != metav1.ConditionTrue {
			return nil, fmt.Errorf("condition %v", reflect.ValueOf(c))
		}
		out.Completed = []string{c.Reason, c.Message}
	}
	for _, c := range t.ColumnDefinitions {
		out.Columns = append(out.Columns, [4]any{c.Name, c.Type, c.Format, c.Priority})
	}
	return out, nil
}

func try(line []byte) (out any) {
	defer func() {
		if r := recover(); r != nil {
			out = map[string]string{"err": fmt.Sprintf("panic: %v", r)}
		}
	}()
	out, err := show(line)
	if err != nil {
		return map[string]string{"err": err.Error()}
	}
	return out
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 1<<28)
	enc := json.NewEncoder(os.Stdout)
	enc.SetEscapeHTML(false)
	for in.Scan() {
		if err := enc.Encode(try(in.Bytes())); err != nil {
			panic(err)
		}
	}
}
