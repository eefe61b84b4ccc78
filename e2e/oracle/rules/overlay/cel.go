//go:build ignore

package cel

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"sort"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/warning"
)

var (
	recordLock   sync.Mutex
	recordLimits = map[*Validator]uint64{}
	recordType   = regexp.MustCompile(`selfType[0-9]+`)
)

type recordWarnings struct {
	next  context.Context
	texts []string
}

func (r *recordWarnings) AddWarning(agent, text string) {
	r.texts = append(r.texts, text)
	warning.AddWarning(r.next, agent, text)
}

func NewValidator(s *schema.Structural, isResourceRoot bool, perCallLimit uint64) *Validator {
	return recordLimit(newValidatorUnrecorded(s, isResourceRoot, perCallLimit), perCallLimit)
}

func validator(own, node *schema.Structural, isResourceRoot bool, declType *cel.DeclType, perCallLimit uint64) *Validator {
	return recordLimit(validatorUnrecorded(own, node, isResourceRoot, declType, perCallLimit), perCallLimit)
}

func recordLimit(v *Validator, limit uint64) *Validator {
	if v != nil {
		recordLock.Lock()
		recordLimits[v] = limit
		recordLock.Unlock()
	}
	return v
}

func (s *Validator) Validate(ctx context.Context, path *field.Path, sts *schema.Structural, obj, oldObj interface{}, budget int64, opts ...Option) (field.ErrorList, int64) {
	warnings := &recordWarnings{next: ctx, texts: []string{}}
	errs, remaining := s.validateUnrecorded(warning.WithWarningRecorder(ctx, warnings), path, sts, obj, oldObj, budget, opts...)
	recordLock.Lock()
	limit, known := recordLimits[s]
	recordLock.Unlock()
	if s == nil || !known || limit != celconfig.PerCallLimit || ctx.Err() != nil {
		return errs, remaining
	}
	texts := []string{}
	for _, e := range errs {
		texts = append(texts, recordType.ReplaceAllString(e.Error(), "selfType"))
	}
	sort.Strings(texts)
	sort.Strings(warnings.texts)
	path2 := ""
	if path != nil {
		path2 = path.String()
	}
	line, err := json.Marshal(map[string]any{
		"schema": s.Schema.ToKubeOpenAPI(), "root": s.isResourceRoot, "path": path2, "object": obj, "old": oldObj,
		"ratchet": len(opts) > 0, "budget": budget, "errors": texts, "warnings": warnings.texts, "remaining": remaining,
	})
	if err == nil {
		recordLine("RECORD_CEL", line)
	}
	return errs, remaining
}

func recordLine(variable string, line []byte) {
	name := os.Getenv(variable)
	if name == "" {
		return
	}
	recordLock.Lock()
	defer recordLock.Unlock()
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	if _, err := f.Write(append(line, '\n')); err != nil {
		panic(err)
	}
}
