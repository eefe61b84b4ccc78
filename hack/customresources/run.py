#!/usr/bin/env python3
"""Records what upstream's API server says about definitions and instances.

usage: run.py URL TOKEN OUT   with upstream's kube-apiserver at URL, whose TOKEN may do everything.
Writes OUT/definitions.jsonl and OUT/instances.jsonl: one case a line, with the causes it was refused for, and
OUT/schema.json, the schema of the instances. Nothing but one definition is stored, and that is deleted.
"""
import json, ssl, sys, time, urllib.error, urllib.request

url, token, out = sys.argv[1:]
context = ssl._create_unverified_context()
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def call(method, path, body=None):
    data = json.dumps(body).encode() if body is not None else None
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url + path, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, context=context, timeout=30) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        text = error.read()
        return json.loads(text) if text.startswith(b"{") else {}


def obj(properties, **more):
    return dict({"type": "object", "properties": properties}, **more)


def definition(group="ex.com", plural="foos", kind="Foo", schema=None, scope="Namespaced", names={}, version={},
               spec={}, meta={}):
    one = dict({"name": "v1", "served": True, "storage": True,
                "schema": {"openAPIV3Schema": schema or {"type": "object"}}}, **version)
    names = dict({"plural": plural, "singular": plural[:-1], "kind": kind, "listKind": kind + "List"}, **names)
    spec = dict({"group": group, "scope": scope, "names": names, "versions": [one]}, **spec)
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": dict({"name": f"{plural}.{group}"}, **meta), "spec": spec}


def prop(**schema):
    return dict(schema=obj({"a": schema}))


ITEM = {"type": "object", "properties": {"k": {"type": "string"}}}
PLAIN = {"openAPIV3Schema": {"type": "object"}}
DEFINITIONS = [
    dict(), dict(group="nodot"), dict(group="foo.k8s.io"), dict(scope="Weird"), dict(scope=""), dict(kind="foo_bar"),
    dict(group="foo.k8s.io", meta={"annotations": {"api-approved.kubernetes.io": "bogus"}}),
    dict(group="foo.k8s.io", meta={"annotations": {"api-approved.kubernetes.io": "https://x.y/z"}}),
    dict(names={"shortNames": ["A_B"], "categories": ["X_"]}), dict(names={"listKind": "Foo"}),
    dict(version={"schema": None}), dict(version={"storage": False}), dict(version={"name": "V_1"}),
    dict(spec={"versions": []}), dict(spec={"preserveUnknownFields": True}),
    dict(spec={"versions": [{"name": "v1", "served": True, "storage": s, "schema": PLAIN} for s in (True, False)]}),
    dict(spec={"versions": [{"name": "v1", "served": True, "storage": True, "schema": PLAIN},
                            {"name": "v2", "served": True, "storage": False, "schema": {"openAPIV3Schema": {}}}]}),
    dict(schema={"type": "array"}), prop(), prop(type="strin"), prop(type="array"),
    prop(type="array", items=[{"type": "string"}]), prop(type="array", items={"type": "string"}, uniqueItems=True),
    prop(type="string", **{"$ref": "#/x"}), prop(type="string", pattern="(("), prop(type="string", pattern="a**"),
    prop(type="object", properties={"x": {"type": "string"}}, additionalProperties={"type": "string"}),
    dict(schema={"type": "object", "additionalProperties": {"type": "string"}}),
    dict(schema={"type": "object", "nullable": True}),
    prop(type="string", allOf=[{"type": "string", "default": "x", "title": "t", "description": "d", "nullable": True}]),
    dict(schema=obj({"a": {"type": "object"}}, anyOf=[{"properties": {"b": {"minimum": 1}}}])),
    dict(schema=obj({"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}})),
    dict(schema=obj({"kind": {"type": "integer"}})), prop(type="string", default=1),
    prop(type="object", default={"x": 1}), prop(type="integer", default=5, maximum=3),
    dict(schema=obj({"metadata": obj({"name": {"type": "string", "default": "x"}})})),
    prop(**{"x-kubernetes-int-or-string": True, "x-kubernetes-preserve-unknown-fields": True}),
    prop(type="object", **{"x-kubernetes-embedded-resource": True}),
    prop(type="object", **{"x-kubernetes-preserve-unknown-fields": False}),
    prop(type="string", **{"x-kubernetes-list-type": "set"}),
    prop(type="array", items={"type": "string"}, **{"x-kubernetes-list-type": "weird"}),
    prop(type="array", items=ITEM, **{"x-kubernetes-list-type": "map"}),
    prop(type="array", items=ITEM, **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "z"]}),
    prop(type="array", items={"type": "string"}, **{"x-kubernetes-list-map-keys": ["k"]}),
    prop(type="array", items={"type": "object"}, **{"x-kubernetes-list-type": "set"}),
    prop(type="object", **{"x-kubernetes-map-type": "weird"}),
    prop(type="object", properties={"e": obj({}, **{"x-kubernetes-embedded-resource": True})}, default={"e": {}}),
    dict(version={"additionalPrinterColumns": [{"name": "", "type": "x", "format": "y", "jsonPath": "z"},
                                               {"name": "a", "type": "", "jsonPath": ""}]}),
    dict(version={"subresources": {"status": {}, "scale": {
        "specReplicasPath": ".x", "statusReplicasPath": "", "labelSelectorPath": ".foo"}}}),
    dict(schema=obj({"spec": obj({"a": {"type": "number"}, "b": {"type": "string"}})}), version={"selectableFields": [
        {"jsonPath": p} for p in (".spec.a", ".spec.zz", ".spec.b[0]", ".spec.b", ".spec.b", ".metadata.name", "", "spec")]}),
    dict(version={"deprecationWarning": "x"}), dict(version={"deprecated": True, "deprecationWarning": ""}),
    dict(spec={"conversion": {"strategy": "Foo"}}),
    dict(spec={"conversion": {"strategy": "None", "webhook": {
        "conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://x"}}}}),
]

EITHER = obj({"p": {"type": "string"}, "q": {"type": "string"}})
SCHEMA = obj({"spec": obj({
    "str": {"type": "string", "maxLength": 5, "minLength": 2, "pattern": "^[a-z]+$"},
    "num": {"type": "integer", "minimum": 1, "maximum": 10, "multipleOf": 2},
    "flt": {"type": "number", "exclusiveMinimum": True, "minimum": 1.5},
    "en": {"type": "string", "enum": ["a", "b"]}, "b": {"type": "boolean"},
    "ios": {"x-kubernetes-int-or-string": True}, "when": {"type": "string", "format": "date-time"},
    "ip": {"type": "string", "format": "ipv4"}, "i32": {"type": "integer", "format": "int32"},
    "arr": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string"}},
    "m": {"type": "object", "maxProperties": 2, "minProperties": 1, "additionalProperties": {"type": "integer"}},
    "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
    "map": {"type": "array", "items": obj({"k": {"type": "string"}, "v": {"type": "integer", "maximum": 5}}, required=["k"]),
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]},
    "def": {"type": "string", "default": "dd"}, "nul": {"type": "string", "nullable": True},
    "emb": {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True},
    "one": dict(EITHER, oneOf=[{"required": ["p"]}, {"required": ["q"]}]),
    "anyo": dict(EITHER, anyOf=[{"required": ["p"]}, {"required": ["q"]}]),
    "allo": dict(EITHER, allOf=[{"required": ["p"]}, {"required": ["q"]}]),
    "noto": {"type": "string", "not": {"enum": ["x"]}},
}, required=["str"])})

VALUES = [
    ("str", 1), ("str", "A"), ("str", "toolong"), ("str", "ABC"), ("num", 0), ("num", 11), ("num", 3), ("num", 2.5),
    ("num", "x"), ("flt", 1.5), ("flt", "a"), ("flt", 2), ("en", "z"), ("en", 1), ("b", "x"), ("ios", True), ("ios", "5"),
    ("ios", 5), ("when", "bogus"), ("ip", "bogus"), ("i32", 99999999999), ("arr", []), ("arr", ["a", "b", "c"]),
    ("arr", ["a", 1]), ("arr", "x"), ("m", {}), ("m", {"a": "x"}), ("m", {"a": 1, "b": 2, "c": 3}),
    ("set", ["a", "a", "b", "a"]), ("map", [{"k": "a"}, {"k": "a"}]), ("map", [{"v": 1}]), ("map", [1]),
    ("map", [{"k": "a", "v": 9}]), ("nul", None), ("emb", {}), ("emb", {"apiVersion": "v1", "kind": "po_d", "metadata": {"name": "x/y"}}),
    ("one", {}), ("one", {"p": "a", "q": "b"}), ("one", {"p": "a"}), ("anyo", {}), ("anyo", {"q": "a"}), ("allo", {}),
    ("allo", {"p": "a"}), ("noto", "x"), ("noto", "y"),
]


def causes(answer):
    found = (answer.get("details") or {}).get("causes") or []
    if answer.get("kind") == "Status" and not found:
        raise SystemExit(f"unexpected: {answer}")
    return [f"{c.get('field', '')}: {c['message']}" for c in found]


def write(name, cases):
    with open(f"{out}/{name}.jsonl", "w") as file:
        for case in cases:
            file.write(json.dumps(case, sort_keys=True) + "\n")


wanted = []
for case in DEFINITIONS:
    body = definition(**case)
    wanted.append({"definition": body, "errors": causes(call("POST", CRDS + "?dryRun=All", body))})
write("definitions", wanted)
call("POST", CRDS, definition(schema=SCHEMA))
path = "/apis/ex.com/v1/namespaces/default/foos"
deadline = time.time() + 20
while call("GET", path).get("kind") != "FooList" and time.time() < deadline:
    time.sleep(0.1)
instances = []
for field, value in VALUES:
    body = {"apiVersion": "ex.com/v1", "kind": "Foo", "metadata": {"name": "a"}, "spec": dict({"str": "abc"}, **{field: value})}
    instances.append({"object": body, "errors": causes(call("POST", path + "?dryRun=All", body))})
write("instances", instances)
call("DELETE", CRDS + "/foos.ex.com")
with open(f"{out}/schema.json", "w") as file:
    json.dump(SCHEMA, file, sort_keys=True)
    file.write("\n")
