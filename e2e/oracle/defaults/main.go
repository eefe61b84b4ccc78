// Command defaults decodes an object strictly, applies upstream's defaults and prints it as JSON.
//
// One JSON object per line on stdin, one answer per line on stdout: the object, or {"err": <text>}.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	crdinstall "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	kjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	apiserviceinstall "k8s.io/kube-aggregator/pkg/apis/apiregistration/install"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/controlplane"
)

func main() {
	s := legacyscheme.Scheme
	crdinstall.Install(s)
	apiserviceinstall.Install(s)
	js := kjson.NewSerializerWithOptions(kjson.DefaultMetaFactory, s, s, kjson.SerializerOptions{})
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 1<<28)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for in.Scan() {
		obj, gvk, err := js.Decode(in.Bytes(), nil, nil)
		if err != nil {
			b, _ := json.Marshal(map[string]string{"err": err.Error()})
			fmt.Fprintln(out, string(b))
			continue
		}
		s.Default(obj)
		obj.GetObjectKind().SetGroupVersionKind(*gvk)
		var b bytes.Buffer
		if err := js.Encode(obj, &b); err != nil {
			panic(err)
		}
		out.Write(b.Bytes())
	}
}
