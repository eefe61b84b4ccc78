// Command codec answers what upstream's codecs make of an input. One request per line: operation, tab, base64 of the
// input; one JSON object per line back.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	sigsjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

type answer map[string]any

var (
	types      = scheme.Scheme
	strictJSON = kjson.NewSerializerWithOptions(kjson.DefaultMetaFactory, types, types, kjson.SerializerOptions{Strict: true})
	pb         = protobuf.NewSerializer(types, types)
)

func (a answer) fail(key string, err error) bool {
	if err != nil {
		a[key] = err.Error()
	}
	return err != nil
}

func writeJSON(obj runtime.Object, gvk *schema.GroupVersionKind) (string, error) {
	obj.GetObjectKind().SetGroupVersionKind(*gvk)
	var out bytes.Buffer
	err := strictJSON.Encode(obj, &out)
	return strings.TrimSuffix(out.String(), "\n"), err
}

// fromJSON decodes strictly and encodes what came out as JSON, as protobuf, and that protobuf as JSON again.
func fromJSON(in []byte, a answer) {
	obj, gvk, err := strictJSON.Decode(in, nil, nil)
	if err != nil {
		if obj == nil || !runtime.IsStrictDecodingError(err) {
			a["err"] = err.Error()
			return
		}
		a["strict"] = err.Error()
	}
	text, err := writeJSON(obj, gvk)
	if a.fail("jsonerr", err) {
		return
	}
	a["json"] = text
	var out bytes.Buffer
	if a.fail("pberr", pb.Encode(obj, &out)) {
		return
	}
	a["pb"] = out.Bytes()
	fromProtobuf(out.Bytes(), a)
}

func fromProtobuf(in []byte, a answer) {
	obj, gvk, err := pb.Decode(in, nil, nil)
	if a.fail("backerr", err) {
		return
	}
	var out bytes.Buffer
	if a.fail("againerr", pb.Encode(obj, &out)) {
		return
	}
	a["again"] = out.Bytes()
	text, err := writeJSON(obj, gvk)
	if !a.fail("backerr", err) {
		a["back"] = text
	}
}

// untyped decodes as unstructured objects are decoded.
func untyped(in []byte, a answer) {
	var v any
	strict, err := sigsjson.UnmarshalStrict(in, &v)
	if a.fail("err", err) {
		return
	}
	var texts []string
	for _, e := range strict {
		texts = append(texts, e.Error())
	}
	if len(texts) > 0 {
		a["strict"] = strings.Join(texts, ", ")
	}
	out, err := json.Marshal(v)
	if !a.fail("err", err) {
		a["json"] = string(out)
	}
}

// quantities takes "a b n": two quantities and an integer.
func quantities(in string, a answer) {
	parts := strings.Split(in, " ")
	q, err := resource.ParseQuantity(parts[0])
	if a.fail("err", err) {
		return
	}
	canonical := q.DeepCopy()
	canonical.Add(resource.Quantity{Format: q.Format})
	a["text"], a["value"], a["milli"], a["sign"] = q.String(), q.Value(), q.MilliValue(), q.Sign()
	i, ok := q.AsInt64()
	a["int"], a["isint"], a["float"] = i, ok, strconv.FormatFloat(q.AsApproximateFloat64(), 'g', -1, 64)
	if len(parts) < 3 {
		return
	}
	r, err := resource.ParseQuantity(parts[1])
	if a.fail("err2", err) {
		return
	}
	n, _ := strconv.ParseInt(parts[2], 10, 64)
	sum, difference, product, rounded := q.DeepCopy(), q.DeepCopy(), q.DeepCopy(), q.DeepCopy()
	sum.Add(r)
	difference.Sub(r)
	a["fits"] = product.Mul(n)
	a["exact"] = rounded.RoundUp(resource.Scale(n % 10))
	a["sum"], a["difference"], a["product"], a["rounded"], a["cmp"] = sum.String(), difference.String(), product.String(), rounded.String(), q.Cmp(r)
}

func selectors(in string, a answer) {
	text, set, _ := strings.Cut(in, "\x00")
	s, err := labels.Parse(text)
	if a.fail("err", err) {
		return
	}
	have := labels.Set{}
	for _, pair := range strings.Split(set, ",") {
		if k, v, ok := strings.Cut(pair, "="); ok {
			have[k] = v
		}
	}
	a["text"], a["matches"] = s.String(), s.Matches(have)
}

func times(in string, a answer) {
	var t metav1.Time
	quoted, _ := json.Marshal(in)
	if !a.fail("err", t.UnmarshalJSON(quoted)) {
		out, _ := t.MarshalJSON()
		a["text"] = string(out)
	}
	var m metav1.MicroTime
	if !a.fail("microerr", m.UnmarshalJSON(quoted)) {
		out, _ := m.MarshalJSON()
		a["micro"] = string(out)
	}
	d, err := time.ParseDuration(in)
	if !a.fail("durationerr", err) {
		a["duration"], a["nanos"] = d.String(), int64(d)
	}
}

func handle(op string, in []byte) answer {
	a := answer{}
	switch op {
	case "known":
		gv, kind, _ := strings.Cut(string(in), " ")
		parsed, err := schema.ParseGroupVersion(gv)
		a["known"] = err == nil && types.Recognizes(parsed.WithKind(kind))
	case "json":
		fromJSON(in, a)
	case "pb":
		fromProtobuf(in, a)
	case "any":
		untyped(in, a)
	case "quantity":
		quantities(string(in), a)
	case "labels":
		selectors(string(in), a)
	case "fields":
		if s, err := fields.ParseSelector(string(in)); !a.fail("err", err) {
			a["text"] = s.String()
		}
	case "time":
		times(string(in), a)
	case "quote":
		a["text"] = strconv.Quote(string(in))
	case "yaml":
		if out, err := yaml.YAMLToJSON(in); !a.fail("err", err) {
			a["json"] = string(out)
		}
		if _, err := yaml.YAMLToJSONStrict(in); err != nil {
			a["strict"] = err.Error()
		}
	default:
		a["err"] = "unknown operation " + op
	}
	return a
}

func main() {
	utilruntime.Must(apiextensionsv1.AddToScheme(types))
	utilruntime.Must(apiextensionsv1beta1.AddToScheme(types))
	utilruntime.Must(apiregistrationv1.AddToScheme(types))
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 1<<28)
	out := bufio.NewWriter(os.Stdout)
	for in.Scan() {
		op, data, _ := strings.Cut(in.Text(), "\t")
		input, err := base64.StdEncoding.DecodeString(data)
		a := answer{}
		if err != nil {
			a["err"] = err.Error()
		} else {
			a = handle(op, input)
		}
		line, err := json.Marshal(a)
		if err != nil {
			line = []byte(`{"err":"answer cannot be written"}`)
		}
		out.Write(line)
		out.WriteByte('\n')
		out.Flush()
	}
}
