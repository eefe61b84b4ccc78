//go:build ignore

package cel

import (
	"encoding/json"

	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

func Compile(s *schema.Structural, declType *apiservercel.DeclType, perCallLimit uint64, base *environment.EnvSet, loader EnvLoader) ([]CompilationResult, error) {
	results, err := compileUnrecorded(s, declType, perCallLimit, base, loader)
	if always, ok := loader.(alwaysNewEnvLoader); !ok || perCallLimit != celconfig.PerCallLimit || declType == nil || err != nil || always.loadFn(base) != base.NewExpressionsEnv() {
		return results, err
	}
	rules := []map[string]any{}
	for _, r := range results {
		rule := map[string]any{"old": r.UsesOldSelf, "cost": r.MaxCost, "messageCost": r.MessageExpressionMaxCost, "path": r.NormalizedRuleFieldPath}
		if r.Error != nil {
			rule = map[string]any{"error": recordType.ReplaceAllString(r.Error.Detail, "selfType")}
		}
		if r.MessageExpressionError != nil {
			rule["messageError"] = recordType.ReplaceAllString(r.MessageExpressionError.Detail, "selfType")
		}
		rules = append(rules, rule)
	}
	line, jsonErr := json.Marshal(map[string]any{"schema": s.ToKubeOpenAPI(), "rules": rules, "cardinality": maxCardinality(declType.MinSerializedSize)})
	if jsonErr == nil {
		recordLine("RECORD_COMPILE", line)
	}
	return results, err
}
