//! Upstream's answers, recorded by `e2e/oracle/pullmanager`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::super::credentials::Keyring;
use super::super::reference::without_tag;
use super::credentials::Access;
use super::policy::{self, Policy};
use super::records::{Credentials, PullSecret, PullServiceAccount};
use super::{Check, Listed, PullManager};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[test]
fn names() {
    for case in lines(include_str!("testdata/names.jsonl")) {
        let image = text(&case, "image");
        let found = without_tag(image);
        assert_eq!(found.err().unwrap_or_default(), text(&case, "error"), "{image}");
        assert_eq!(found.unwrap_or_default(), text(&case, "name"), "{image}");
        assert_eq!(policy::validate(image).err().unwrap_or_default(), text(&case, "pattern"), "{image}");
    }
}

#[test]
fn lookups() {
    for case in lines(include_str!("testdata/lookups.jsonl")) {
        let secret = |secret: &Value| {
            let kind = text(secret, "type");
            let key = if kind == "kubernetes.io/dockercfg" { ".dockercfg" } else { ".dockerconfigjson" };
            let data = BTreeMap::from([(key.to_owned(), ByteString(text(secret, "data").into()))]);
            let metadata = json!({"name": secret["name"], "namespace": "n", "uid": "u"});
            let metadata = serde_json::from_value(metadata).unwrap();
            Arc::new(Secret { metadata, type_: Some(kind.to_owned()), data: Some(data), ..Secret::default() })
        };
        let secrets: Vec<_> = case["secrets"].as_array().unwrap().iter().map(secret).collect();
        let found = Keyring::of_secrets(&secrets).map(|ring| ring.lookup(text(&case, "image")));
        assert_eq!(found.is_err(), case["failed"] == true, "{case}");
        let found: Vec<Value> = found
            .unwrap_or_default()
            .into_iter()
            .map(|found| {
                let secret = found.secret.unwrap();
                json!([found.login.username, found.login.password, secret.name, secret.credential_hash])
            })
            .collect();
        let expected: Vec<Value> = (case["found"].as_array().into_iter().flatten())
            .map(|f| json!([text(f, "username"), text(f, "password"), f["secret"], f["hash"]]))
            .collect();
        assert_eq!(found, expected, "{case}");
    }
}

fn secret(value: &Value) -> PullSecret {
    let own = |key| text(value, key).to_owned();
    PullSecret {
        uid: own("UID"),
        namespace: own("Namespace"),
        name: own("Name"),
        credential_hash: own("CredentialHash"),
    }
}

fn account(value: &Value) -> Option<PullServiceAccount> {
    let own = |key| text(value, key).to_owned();
    value.is_object().then(|| PullServiceAccount {
        uid: own("UID"),
        namespace: own("Namespace"),
        name: own("Name"),
    })
}

fn files(root: &Path) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for dir in ["pulling", "pulled"] {
        for entry in std::fs::read_dir(root.join("image_manager").join(dir)).unwrap() {
            let path = entry.unwrap().path();
            let mut content = std::fs::read_to_string(&path).unwrap();
            if let Some((head, tail)) = content.split_once("\"lastUpdatedTime\":\"") {
                content = format!("{head}\"lastUpdatedTime\":\"T{}", &tail[tail.find('"').unwrap()..]);
            }
            out.insert(format!("{dir}/{}", path.file_name().unwrap().to_str().unwrap()), content);
        }
    }
    out
}

fn list(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|v| v.as_str().unwrap().to_owned()).collect()
}

fn must(manager: &PullManager, step: &Value, now: Timestamp) -> bool {
    let (image, image_ref) = (text(step, "image"), text(step, "ref"));
    match manager.check(image, image_ref) {
        Check::Present => false,
        Check::Pull => true,
        Check::Compare(known) => {
            let secrets = step["secrets"].as_array().into_iter().flatten().map(secret).collect();
            let access = Access { secrets, account: account(&step["account"]) };
            !manager.may_use(image, image_ref, &known, &access, now)
        }
    }
}

fn credentials(step: &Value) -> Credentials {
    Credentials {
        kubernetes_secrets: step["secrets"].as_array().into_iter().flatten().map(secret).collect(),
        kubernetes_service_accounts: account(&step["account"]).into_iter().collect(),
        node_pods_accessible: step["node"] == true,
    }
}

fn tell(story: &Value) {
    let dir = tempfile::tempdir().unwrap();
    let policy = Policy::new(text(story, "policy"), &list(&story["allow"])).unwrap();
    let mut manager = PullManager::open(dir.path(), policy.clone()).unwrap();
    let mut expected = BTreeMap::new();
    for (at, step) in story["steps"].as_array().unwrap().iter().enumerate() {
        let (image, now) = (text(step, "image"), Timestamp::from_second(1_800_000_000).unwrap());
        match text(step, "op") {
            "intend" => manager.intend(image).unwrap(),
            "pulled" => manager.pulled(image, text(step, "ref"), &credentials(step), now),
            "failed" => manager.failed(image),
            "prune" => manager.prune(
                &list(&step["images"]).into_iter().collect(),
                Timestamp::from_second(9_000_000_000).unwrap(),
            ),
            "restart" => {
                if !text(step, "file").is_empty() {
                    let path = dir.path().join("image_manager").join(text(step, "file"));
                    std::fs::write(path, text(step, "content")).unwrap();
                }
                manager = PullManager::open(dir.path(), policy.clone()).unwrap();
                let listed = |image: &Value| Listed {
                    id: text(image, "id").to_owned(),
                    names: [list(&image["digests"]), list(&image["tags"])].concat(),
                };
                let present: Vec<Listed> =
                    step["present"].as_array().into_iter().flatten().map(listed).collect();
                manager.adopt(&present, now);
            }
            _ => assert_eq!(must(&manager, step, now), step["must"] == true, "step {at} of {story}"),
        }
        for (file, content) in step["changed"].as_object().into_iter().flatten() {
            match content.as_str() {
                Some(content) => drop(expected.insert(file.clone(), content.to_owned())),
                None => drop(expected.remove(file)),
            }
        }
        assert_eq!(files(dir.path()), expected, "step {at} of {story}");
    }
}

#[test]
fn stories() {
    let stories = lines(include_str!("testdata/stories.jsonl"));
    assert_eq!(stories.len(), 60);
    stories.iter().for_each(tell);
}
