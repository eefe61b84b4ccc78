//! ServiceAccount: every pod runs as one, and gets its token. Upstream: `plugin/pkg/admission/serviceaccount`.

use async_trait::async_trait;
use machinery::{List, Value};
use serde_json::json;

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;
use crate::meta;

const MIRROR: &str = "kubernetes.io/config.mirror";
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ENFORCE_MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";
/// An hour and seven seconds: the odd figure tells these tokens from ones users ask for.
const TOKEN_SECONDS: i64 = 3607;

/// The plugin.
pub struct ServiceAccount;

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), ApiError> {
        if !a.is("", "pods") || a.operation != Operation::Create {
            return Ok(());
        }
        let Some(pod) = a.object.as_ref().filter(|p| meta::annotation(p, MIRROR).is_none()) else {
            return Ok(());
        };
        let name = match pod.str_at(&["spec", "serviceAccountName"]).unwrap_or("") {
            "" => "default".to_owned(),
            name => name.to_owned(),
        };
        let account = account(a, &name).await?;
        let Some(pod) = a.object.as_mut() else { return Ok(()) };
        write(pod, &["spec", "serviceAccountName"], Value::from(name.as_str()))?;
        write(pod, &["spec", "serviceAccount"], Value::from(name))?;
        if automounts(&account, pod) {
            mount_token(pod)?;
        }
        let has_pull_secrets = pod.list_at(&["spec", "imagePullSecrets"]).is_some_and(|l| !l.is_empty());
        if let (false, Some(secrets)) = (has_pull_secrets, account.list_at(&["imagePullSecrets"])) {
            write(pod, &["spec", "imagePullSecrets"], Value::from(secrets.clone()))?;
        }
        Ok(())
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        if !a.is("", "pods") || a.operation != Operation::Create {
            return Ok(());
        }
        let Some(pod) = a.object.as_ref() else { return Ok(()) };
        if meta::annotation(pod, MIRROR).is_some() {
            return validate_mirror(a, pod);
        }
        let name = pod.str_at(&["spec", "serviceAccountName"]).unwrap_or("").to_owned();
        if name.is_empty() {
            return Err(a.forbidden("no service account specified for pod"));
        }
        let account = account(a, &name).await?;
        if meta::annotation(&account, ENFORCE_MOUNTABLE) == Some("true") {
            return limit_secrets(a, pod, &account, &name);
        }
        Ok(())
    }
}

async fn account(a: &Attributes<'_>, name: &str) -> Result<Value, ApiError> {
    // The namespace is empty where the path says `namespaces//`: nobody has looked at it yet.
    let found = match a.namespace.as_str() {
        "" => None,
        namespace => a.call.core.find("", "serviceaccounts", namespace, name).await?,
    };
    found.ok_or_else(|| {
        a.forbidden(format!(
            "error looking up service account {}/{name}: serviceaccount {name:?} not found",
            a.namespace
        ))
    })
}

fn write(pod: &mut Value, path: &[&str], value: Value) -> Result<(), ApiError> {
    pod.set_path(path, value).map(|_| ()).map_err(ApiError::internal)
}

/// The pod decides, else the account, else yes.
fn automounts(account: &Value, pod: &Value) -> bool {
    pod.bool_at(&["spec", "automountServiceAccountToken"])
        .or_else(|| account.bool_at(&["automountServiceAccountToken"]))
        .unwrap_or(true)
}

fn mount_token(pod: &mut Value) -> Result<(), ApiError> {
    let volumes: List = pod.list_at(&["spec", "volumes"]).cloned().unwrap_or_default();
    let existing =
        volumes.iter().filter_map(|v| v.str_at(&["name"])).find(|n| n.starts_with("kube-api-access-"));
    let name = existing.map_or_else(|| meta::generated_name("kube-api-access-"), str::to_owned);
    let mut mounted = false;
    for field in ["initContainers", "containers"] {
        let Some(Value::List(containers)) = pod.get_path_mut(&["spec", field]) else { continue };
        for container in containers.iter_mut() {
            let mut mounts: List = container.list_at(&["volumeMounts"]).cloned().unwrap_or_default();
            if mounts.iter().any(|m| m.str_at(&["mountPath"]) == Some(TOKEN_PATH)) {
                continue;
            }
            mounts.push(Value::from(json!({"name": name, "readOnly": true, "mountPath": TOKEN_PATH})));
            write(container, &["volumeMounts"], Value::from(mounts))?;
            mounted = true;
        }
    }
    if mounted && !volumes.iter().any(|v| v.str_at(&["name"]) == Some(&name)) {
        let mut volumes = volumes;
        volumes.push(token_volume(&name));
        write(pod, &["spec", "volumes"], Value::from(volumes))?;
    }
    Ok(())
}

fn token_volume(name: &str) -> Value {
    Value::from(json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
            ],
        },
    }))
}

fn validate_mirror(a: &Attributes<'_>, pod: &Value) -> Result<(), ApiError> {
    if !pod.str_at(&["spec", "serviceAccountName"]).unwrap_or("").is_empty() {
        return Err(a.forbidden("a mirror pod may not reference service accounts"));
    }
    let volumes = pod.list_at(&["spec", "volumes"]).into_iter().flat_map(|l| l.iter());
    for volume in volumes {
        let projects_token = volume
            .list_at(&["projected", "sources"])
            .is_some_and(|l| l.iter().any(|s| s.get("serviceAccountToken").is_some_and(|v| !v.is_null())));
        for (field, text) in [
            ("secret", "a mirror pod may not reference secrets"),
            ("persistentVolumeClaim", "a mirror pod may not reference persistentvolumeclaims"),
        ] {
            if volume.get(field).is_some_and(|v| !v.is_null()) {
                return Err(a.forbidden(text));
            }
        }
        if projects_token {
            return Err(a.forbidden("a mirror pod may not use ServiceAccountToken volume projections"));
        }
    }
    Ok(())
}

/// Secrets that an account with the annotation lets its pods use are listed in it.
fn limit_secrets(a: &Attributes<'_>, pod: &Value, account: &Value, name: &str) -> Result<(), ApiError> {
    let listed = |field: &str| -> Vec<String> {
        let list = account.list_at(&[field]).into_iter().flat_map(|l| l.iter());
        list.filter_map(|r| r.str_at(&["name"])).map(str::to_owned).collect()
    };
    let (mountable, pullable) = (listed("secrets"), listed("imagePullSecrets"));
    for volume in pod.list_at(&["spec", "volumes"]).into_iter().flat_map(|l| l.iter()) {
        if let Some(secret) = volume.str_at(&["secret", "secretName"])
            && !mountable.iter().any(|m| m == secret)
        {
            let text = format!(
                "volume with secret.secretName={secret:?} is not allowed because service account {name} does not reference that secret"
            );
            return Err(a.forbidden(text));
        }
    }
    for reference in pod.list_at(&["spec", "imagePullSecrets"]).into_iter().flat_map(|l| l.iter()) {
        let secret = reference.str_at(&["name"]).unwrap_or("");
        if !pullable.iter().any(|p| p == secret) {
            let text = format!(
                "imagePullSecrets[0].name={secret:?} is not allowed because service account {name} does not reference that imagePullSecret"
            );
            return Err(a.forbidden(text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_mounted_once() {
        let mut pod = Value::from(json!({"spec": {"containers": [{"name": "a"}, {"name": "b",
            "volumeMounts": [{"name": "own", "mountPath": TOKEN_PATH}]}]}}));
        mount_token(&mut pod).unwrap();
        let mounts = |i: usize| {
            pod.list_at(&["spec", "containers"]).unwrap()[i].list_at(&["volumeMounts"]).unwrap().len()
        };
        assert_eq!((mounts(0), mounts(1)), (1, 1));
        assert_eq!(pod.list_at(&["spec", "volumes"]).unwrap().len(), 1);
        let account = Value::from(json!({"automountServiceAccountToken": false}));
        assert!(!automounts(&account, &pod));
    }
}
