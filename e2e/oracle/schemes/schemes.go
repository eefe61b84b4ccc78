// Package schemes finds the codecs of a group: two groups have schemes of their own.
package schemes

import (
	extensions "k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	aggregatorscheme "k8s.io/kube-aggregator/pkg/apiserver/scheme"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

// Codecs of an API group.
func Codecs(group string) serializer.CodecFactory {
	switch group {
	case "apiextensions.k8s.io":
		return extensions.Codecs
	case "apiregistration.k8s.io":
		return aggregatorscheme.Codecs
	}
	return legacyscheme.Codecs
}
