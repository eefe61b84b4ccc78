use std::sync::Arc;

use auth::{Attributes, UserInfo};
use serde_json::value::RawValue;

use crate::event::{Event, Level, ObjectReference, Stage, Status, User, list};
use crate::policy::Policy;

fn event() -> Event {
    Event {
        level: Level::Request,
        audit_id: "a".into(),
        stage: Stage::ResponseComplete,
        request_uri: "/api/v1/pods?labelSelector=a%3Db&limit=1".into(),
        verb: "list".into(),
        user: User { username: "admin".into(), groups: vec!["g1".into(), "g2".into()], ..User::default() },
        impersonated_user: None,
        authentication_metadata: None,
        source_ips: vec!["127.0.0.1".into()],
        user_agent: "curl <x>".into(),
        object_ref: Some(ObjectReference {
            resource: "pods".into(),
            api_version: "v1".into(),
            ..ObjectReference::default()
        }),
        response_status: Some(Status { code: 200, ..Status::default() }),
        request_object: Some(RawValue::from_string(r#"{"a": "<"}"#.into()).unwrap().into()),
        response_object: None,
        request_received_timestamp: "2026-01-02T03:04:05.000006789Z".parse().unwrap(),
        stage_timestamp: "2026-01-02T03:04:05Z".parse().unwrap(),
        annotations: [("k".to_owned(), "v".to_owned())].into(),
    }
}

const JSON: &str = r#""level":"Request","auditID":"a","stage":"ResponseComplete","requestURI":"/api/v1/pods?labelSelector=a%3Db\u0026limit=1","verb":"list","user":{"username":"admin","groups":["g1","g2"]},"sourceIPs":["127.0.0.1"],"userAgent":"curl \u003cx\u003e","objectRef":{"resource":"pods","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":200},"requestObject":{"a":"\u003c"},"requestReceivedTimestamp":"2026-01-02T03:04:05.000006Z","stageTimestamp":"2026-01-02T03:04:05.000000Z","annotations":{"k":"v"}}"#;

#[test]
fn bytes() {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let head = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","#;
    assert_eq!(text(event().to_json().unwrap()), format!("{head}{JSON}\n"));
    let head = r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[{"#;
    assert_eq!(text(list(&[Arc::new(event())]).unwrap()), format!("{head}{JSON}]}}\n"));
}

#[test]
fn a_line_of_text() {
    assert_eq!(
        crate::legacy::line(&event()),
        r#"2026-01-02T03:04:05.000006789Z AUDIT: id="a" stage="ResponseComplete" ip="127.0.0.1" method="list" user="admin" groups="\"g1\",\"g2\"" as="<self>" asgroups="<lookup>" user-agent="curl <x>" namespace="<none>" uri="/api/v1/pods?labelSelector=a%3Db&limit=1" response="200""#
    );
}

#[test]
fn failures_keep_their_bounds() {
    let document = br#"{"kind":"Status","apiVersion":"v1","metadata":{"continue":"x"},"status":"Failure","message":"m","reason":"NotFound","details":{"name":"n","kind":"pods"},"code":404}"#;
    assert_eq!(
        serde_json::to_string(&Status::of_document(document)).unwrap(),
        r#"{"metadata":{},"status":"Failure","message":"m","reason":"NotFound","details":{"name":"n","kind":"pods"},"code":404}"#
    );
}

fn parse(text: &str) -> Result<Policy, String> {
    Policy::parse("f", format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{text}").as_bytes())
}

/// `user[/group] verb group/resource[/sub] namespace name`, or `user verb path`.
fn level(policy: &Policy, request: &str) -> Level {
    let words: Vec<&str> = request.split(' ').collect();
    let (name, group) = words[0].split_once('/').unwrap_or((words[0], "none"));
    let user = UserInfo::new(name, &[group]);
    let mut a = Attributes { verb: words[1].into(), ..Attributes::default() };
    if words.len() == 3 {
        a.path = words[2].into();
    } else {
        let parts: Vec<&str> = words[2].split('/').collect();
        a.resource_request = true;
        (a.api_group, a.resource) = (parts[0].into(), parts[1].into());
        a.subresource = parts.get(2).copied().unwrap_or_default().into();
        (a.namespace, a.name) = (words[3].trim_matches('-').into(), words[4].into());
    }
    policy.evaluate(&a, Some(&user)).map_or(Level::None, |s| s.level)
}

#[test]
fn rules() {
    let policy = parse(
        "
rules:
- {level: None, users: [quiet]}
- {level: None, nonResourceURLs: [/healthz*, /version]}
- {level: Request, userGroups: [g], verbs: [create]}
- {level: Metadata, resources: [{group: '', resources: [secrets, '*/status', pods/*], resourceNames: []}]}
- {level: Request, namespaces: [''], resources: [{group: '*', resources: [nodes]}]}
- {level: RequestResponse, resources: [{group: apps}], namespaces: [a]}
- {level: Metadata, resources: [{group: '', resources: [configmaps], resourceNames: [n]}]}",
    )
    .unwrap();
    for (request, want) in [
        ("quiet get /secrets a x", Level::None),
        ("u get /healthz/ping", Level::None),
        ("u/g create /configmaps a x", Level::Request),
        ("u get /secrets a x", Level::Metadata),
        ("u get /secrets/status a x", Level::Metadata),
        ("u get /pods a x", Level::Metadata),
        ("u get /pods/log a x", Level::Metadata),
        ("u get x/nodes - n", Level::Request),
        ("u get apps/deployments a x", Level::RequestResponse),
        ("u get apps/deployments b x", Level::None),
        ("u get /configmaps a n", Level::Metadata),
        ("u get /configmaps a m", Level::None),
        ("u get /metrics", Level::None),
    ] {
        assert_eq!(level(&policy, request), want, "{request}");
    }
}

#[test]
fn stages_and_managed_fields() {
    let policy = parse(
        "omitStages: [RequestReceived]\nomitManagedFields: true\nrules:\n- {level: Metadata, omitStages: [Panic]}",
    )
    .unwrap();
    let settled = policy.evaluate(&Attributes::default(), None).unwrap();
    assert_eq!(settled.omit_stages, [Stage::RequestReceived, Stage::Panic]);
    assert!(settled.omit_managed_fields);
}

#[test]
fn refusals() {
    let check = |text: &str, want: &str| assert_eq!(parse(text).unwrap_err(), want, "{text}");
    check("rules: []", "loaded illegal policy with 0 rules");
    check("rules:\n- {}", "rules[0].level: Required value");
    check(
        "rules:\n- {level: x}",
        "rules[0].level: Unsupported value: \"x\": supported values: \"None\", \"Metadata\", \"Request\", \"RequestResponse\"",
    );
    check(
        "rules:\n- {level: None, nonResourceURLs: [x, '/a*b'], namespaces: [a]}",
        "[rules[0].nonResourceURLs[0]: Invalid value: \"x\": non-resource URL rules must begin with a '/' character, \
         rules[0].nonResourceURLs[1]: Invalid value: \"/a*b\": non-resource URL wildcards '*' must be the final \
         character of the rule, rules[0].nonResourceURLs: Invalid value: [\"x\",\"/a*b\"]: rules cannot apply to both \
         regular resources and non-resource URLs]",
    );
    check(
        "omitStages: [X]\nrules:\n- {level: None}",
        "omitStages[0]: Invalid value: \"X\": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic",
    );
    check(
        "rules:\n- {level: None, resources: [{group: '', resourceNames: [a]}]}",
        "rules[0].resources.resourceNames: Invalid value: [\"a\"]: using resourceNames requires at least one resource",
    );
}
