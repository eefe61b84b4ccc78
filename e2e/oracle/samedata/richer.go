package main

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	samples "k8s.io/kubernetes/test/integration/etcd"
)

// What upstream's samples of a kind leave out, where versions differ or features matter.
func richer(gvr schema.GroupVersionResource, namespace string) []samples.StorageData {
	var made []samples.StorageData
	for i, spec := range specs(gvr) {
		name := fmt.Sprintf("rich-%d", i)
		path := "/registry/" + gvr.Resource + "/" + namespace + "/" + name
		if gvr.Resource == "resourceslices" || gvr.Resource == "deviceclasses" || gvr.Resource == "devicetaintrules" {
			path = "/registry/" + gvr.Resource + "/" + name
		}
		sample := samples.StorageData{ExpectedEtcdPath: path, Stub: fmt.Sprintf(`{"metadata":{"name":%q},"spec":%s}`, name, spec)}
		if gvr.Resource == "resourceclaims" {
			sample.StatusStub, sample.MutatedStatusStub = allocated("1"), allocated("2")
		}
		made = append(made, sample)
	}
	return made
}

func specs(gvr schema.GroupVersionResource) []string {
	flat := gvr.Version == "v1beta1"
	switch gvr.Resource {
	case "resourceclaims":
		return []string{claim(flat), alternatives}
	case "resourceclaimtemplates":
		return []string{`{"metadata":{"labels":{"a":"b"}},"spec":` + claim(flat) + `}`, `{"spec":` + alternatives + `}`}
	case "resourceslices":
		return []string{
			slice(`"nodeName":"n"`, device("plain", "", flat), device("full", attributes+","+taints, flat)),
			slice(`"allNodes":true`, device("binds", attributes+`,"bindsToNode":true,"bindingConditions":["a"],"bindingFailureConditions":["b"],
				"allowMultipleAllocations":true,"capacity":{"memory":{"value":"1Gi","requestPolicy":{"default":"1Mi","validRange":{"min":"1Mi","max":"1Gi","step":"1Mi"}}}}`, flat)),
			slice(`"perDeviceNodeSelection":true`, device("named", `"nodeName":"n"`, flat), device("all", `"allNodes":true`, flat),
				device("selected", `"nodeSelector":{"nodeSelectorTerms":[{"matchFields":[{"key":"metadata.name","operator":"In","values":["n"]}]}]}`, flat)),
			`{"driver":"a.example.com","pool":{"name":"p","generation":1,"resourceSliceCount":2},"allNodes":true,
				"sharedCounters":[{"name":"s","counters":{"c":{"value":"2"}}}]}`,
			slice(`"allNodes":true`, device("counts", `"consumesCounters":[{"counterSet":"s","counters":{"c":{"value":"1"}}}]`, flat)),
		}
	case "deviceclasses":
		return []string{`{"selectors":[{"cel":{"expression":"device.driver == 'a.example.com'"}}],"extendedResourceName":"example.com/gpu",
			"config":[{"opaque":{"driver":"a.example.com","parameters":{"k":[1,2]}}}]}`}
	case "devicetaintrules":
		return []string{`{"deviceSelector":{"driver":"a.example.com","pool":"p"},"taint":{"key":"k","effect":"NoExecute"}}`}
	case "workloads":
		return []string{`{"podGroupTemplates":[{"name":"g","schedulingPolicy":{"gang":{"minCount":2}},"disruptionMode":{"all":{}},
			"schedulingConstraints":{"topology":[{"key":"example.com/rack"}]},
			"resourceClaims":[{"name":"c","resourceClaimTemplateName":"t"}]}]}`}
	case "podgroups":
		return []string{`{"schedulingPolicy":{"gang":{"minCount":2}},"disruptionMode":{"all":{}},
			"schedulingConstraints":{"topology":[{"key":"example.com/rack"}]},
			"resourceClaims":[{"name":"c","resourceClaimTemplateName":"t"}]}`}
	case "pods":
		return []string{
			`{"containers":[{"image":"i","name":"c"}],"schedulingGroup":{"podGroupName":"g"}}`,
			`{"containers":[{"image":"i","name":"c"}],"evictionResponders":[{"name":"example.com/r","priority":1000}]}`,
		}
	}
	return nil
}

func claim(flat bool) string {
	asked := `"deviceClassName":"c.example.com","selectors":[{"cel":{"expression":"device.driver == 'a.example.com'"}}],
		"tolerations":[{"key":"a","operator":"Exists","effect":"NoExecute","tolerationSeconds":5}],"capacity":{"requests":{"memory":"1Gi"}}`
	first, second := `{"name":"one",`+asked+`}`, `{"name":"all","deviceClassName":"c.example.com","allocationMode":"All"}`
	if !flat {
		first = `{"name":"one","exactly":{` + asked + `}}`
		second = `{"name":"all","exactly":{"deviceClassName":"c.example.com","allocationMode":"All"}}`
	}
	return `{"devices":{"requests":[` + first + `,` + second + `],"constraints":[{"requests":["one"],"matchAttribute":"a.example.com/b"}],
		"config":[{"requests":["one"],"opaque":{"driver":"a.example.com","parameters":{"k":1}}}]}}`
}

const alternatives = `{"devices":{"requests":[{"name":"any","firstAvailable":[
	{"name":"x","deviceClassName":"d.example.com","tolerations":[{"operator":"Exists"}],"capacity":{"requests":{"memory":"1Gi"}}},
	{"name":"y","deviceClassName":"e.example.com","allocationMode":"All"}]}]}}`

// A status of a claim, of which the data tells the version.
func allocated(version string) string {
	return `{"status":{"allocation":{"devices":{"results":[{"request":"one","driver":"a.example.com","pool":"p","device":"d",
		"tolerations":[{"operator":"Exists"}]}]}},"reservedFor":[{"resource":"pods","name":"p","uid":"u"}],
		"devices":[{"driver":"a.example.com","pool":"p","device":"d","data":{"version":` + version + `},
		"networkData":{"interfaceName":"eth0","ips":["10.0.0.1/24"],"hardwareAddress":"aa"},
		"conditions":[{"type":"Ready","status":"True","reason":"R","message":"m","lastTransitionTime":"2020-01-01T00:00:00Z"}]}]}}`
}

const (
	attributes = `"attributes":{"a":{"int":1},"b.example.com/b":{"bool":true},"c":{"string":"s"},"d":{"version":"1.0.0"}}`
	taints     = `"taints":[{"key":"example.com/a","value":"v","effect":"NoSchedule"}],"capacity":{"memory":{"value":"1Gi"}}`
)

func device(name, fields string, flat bool) string {
	switch {
	case flat:
		return fmt.Sprintf(`{"name":%q,"basic":{%s}}`, name, fields)
	case fields == "":
		return fmt.Sprintf(`{"name":%q}`, name)
	default:
		return fmt.Sprintf(`{"name":%q,%s}`, name, fields)
	}
}

func slice(where string, devices ...string) string {
	return `{"driver":"a.example.com","pool":{"name":"p","generation":1,"resourceSliceCount":1},` + where +
		`,"devices":[` + strings.Join(devices, ",") + `]}`
}
