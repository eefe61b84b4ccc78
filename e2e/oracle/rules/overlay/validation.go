//go:build ignore

package validation

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"sort"
	"strings"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var (
	recordLock sync.Mutex
	recordType = regexp.MustCompile(`selfType[0-9]+`)
)

func ValidateCustomResourceDefinition(ctx context.Context, obj *apiextensions.CustomResourceDefinition) field.ErrorList {
	record(ctx, obj, nil)
	return validateCustomResourceDefinitionUnrecorded(ctx, obj)
}

func ValidateCustomResourceDefinitionUpdate(ctx context.Context, obj, old *apiextensions.CustomResourceDefinition) field.ErrorList {
	record(ctx, obj, old)
	return validateCustomResourceDefinitionUpdatePublicUnrecorded(ctx, obj, old)
}

// A schema on its own is judged as that of a definition's only version.
func validateCustomResourceDefinitionValidation(ctx context.Context, v *apiextensions.CustomResourceValidation, status bool, opts validationOptions, path *field.Path) field.ErrorList {
	version := apiextensions.CustomResourceDefinitionVersion{Name: "v1", Served: true, Storage: true, Schema: v}
	if status {
		version.Subresources = &apiextensions.CustomResourceSubresources{Status: &apiextensions.CustomResourceSubresourceStatus{}}
	}
	obj := &apiextensions.CustomResourceDefinition{
		Spec: apiextensions.CustomResourceDefinitionSpec{
			Group: "example.com", Version: "v1", Scope: apiextensions.NamespaceScoped,
			Names:      apiextensions.CustomResourceDefinitionNames{Plural: "foos", Singular: "foo", Kind: "Foo", ListKind: "FooList"},
			Versions:   []apiextensions.CustomResourceDefinitionVersion{version},
			Conversion: &apiextensions.CustomResourceConversion{Strategy: apiextensions.NoneConverter},
		},
		Status: apiextensions.CustomResourceDefinitionStatus{StoredVersions: []string{"v1"}},
	}
	obj.Name = "foos.example.com"
	record(ctx, obj, nil)
	return validateCustomResourceDefinitionValidationUnrecorded(ctx, v, status, opts, path)
}

// Cases are told as clients send them, and judged as upstream reads them.
func record(ctx context.Context, obj, old *apiextensions.CustomResourceDefinition) {
	recordLock.Lock()
	defer recordLock.Unlock()
	newV1, newObj := recordTrip(obj)
	if newObj == nil {
		return
	}
	var errs field.ErrorList
	var oldV1 any
	if old != nil {
		v1, oldObj := recordTrip(old)
		if oldObj == nil {
			return
		}
		oldV1 = v1
		errs = validateCustomResourceDefinitionUpdatePublicUnrecorded(ctx, newObj, oldObj)
	} else {
		errs = validateCustomResourceDefinitionUnrecorded(ctx, newObj)
	}
	texts := []string{}
	for _, e := range errs {
		if strings.HasPrefix(e.Field, "metadata") && !strings.HasPrefix(e.Field, "metadata.annotations[") {
			continue
		}
		texts = append(texts, recordType.ReplaceAllString(e.Error(), "selfType"))
	}
	sort.Strings(texts)
	line, err := json.Marshal(map[string]any{"definition": newV1, "old": oldV1, "errors": texts})
	name := os.Getenv("RECORD_VALIDATION")
	if err != nil || name == "" {
		return
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	if _, err := f.Write(append(line, '\n')); err != nil {
		panic(err)
	}
}

func recordTrip(obj *apiextensions.CustomResourceDefinition) (v1 *apiextensionsv1.CustomResourceDefinition, back *apiextensions.CustomResourceDefinition) {
	defer func() {
		if recover() != nil {
			back = nil
		}
	}()
	v1 = &apiextensionsv1.CustomResourceDefinition{}
	if err := apiextensionsv1.Convert_apiextensions_CustomResourceDefinition_To_v1_CustomResourceDefinition(obj.DeepCopy(), v1, nil); err != nil {
		return nil, nil
	}
	bytes, err := json.Marshal(v1)
	if err != nil {
		return nil, nil
	}
	read := &apiextensionsv1.CustomResourceDefinition{}
	if err := json.Unmarshal(bytes, read); err != nil {
		return nil, nil
	}
	back = &apiextensions.CustomResourceDefinition{}
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(read, back, nil); err != nil {
		return nil, nil
	}
	return v1, back
}
