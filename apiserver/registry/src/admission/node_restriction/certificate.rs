//! A kubelet asks for certificates of its own pods only, and only from signers that these name.
//! Upstream: `admitPodCertificateRequest` in `plugin/pkg/admission/noderestriction/admission.go`.

use auth::authorizer::Attributes as AuthzAttributes;
use machinery::Value;
use machinery::golang::quote;

use super::super::{Attributes, Operation};
use super::{MIRROR, node_of};
use crate::errors::ApiError;
use crate::meta;

/// A kubelet's copy may be newer or older than what is stored here, so it may try again.
fn again(text: String) -> ApiError {
    ApiError::internal_plain(text)
}

pub(super) async fn admit(a: &Attributes<'_>, node: &str) -> Result<(), ApiError> {
    if a.operation != Operation::Create {
        let operation = format!("{:?}", a.operation).to_uppercase();
        return Err(a.forbidden(format!("unexpected operation {operation}")));
    }
    if !a.subresource().is_empty() {
        return Err(a.forbidden(format!("unexpected subresource {}", a.subresource())));
    }
    let Some(request) = a.object.as_ref() else { return Ok(()) };
    let spec = |field: &str| request.str_at(&["spec", field]).unwrap_or_default();
    let pod_key = quote(&format!("{}/{}", a.namespace, spec("podName")));
    if spec("nodeName") != node {
        return Err(a.forbidden(format!(
            "PodCertificateRequest.Spec.NodeName={}, which is not the requesting node {}",
            quote(spec("nodeName")),
            quote(node)
        )));
    }
    let retrieving = |what: &str, name: &str, error: ApiError| {
        let text =
            format!("while retrieving {what} {name} named in the PodCertificateRequest: {}", error.message);
        ApiError { message: text, ..error }
    };
    let found = a.call.core.find("", "nodes", "", node).await?;
    let found =
        found.ok_or_else(|| retrieving("node", &quote(node), ApiError::not_found("", "nodes", node)))?;
    if meta::uid(&found) != spec("nodeUID") {
        return Err(again(format!(
            "PodCertificateRequest for pod {pod_key} names node UID {}, inconsistent with the running node ({})",
            quote(spec("nodeUID")),
            quote(meta::uid(&found))
        )));
    }
    let pod = a.call.core.find("", "pods", &a.namespace, spec("podName")).await?;
    let pod =
        pod.ok_or_else(|| retrieving("pod", &pod_key, ApiError::not_found("", "pods", spec("podName"))))?;
    if meta::uid(&pod) != spec("podUID") {
        return Err(again(format!(
            "PodCertificateRequest for pod {pod_key} contains pod UID ({}) which differs from running pod {}",
            quote(spec("podUID")),
            quote(meta::uid(&pod))
        )));
    }
    if node_of(&pod) != node {
        return Err(a.forbidden(format!(
            "pod {pod_key} is not running on node {} named in the PodCertificateRequest",
            quote(node)
        )));
    }
    if meta::annotation(&pod, MIRROR).is_some() {
        return Err(a.forbidden(format!("pod {pod_key} is a mirror pod")));
    }
    let account = spec("serviceAccountName");
    let of_pod = pod.str_at(&["spec", "serviceAccountName"]).unwrap_or_default();
    if account != of_pod {
        return Err(a.forbidden(format!(
            "PodCertificateRequest for pod {pod_key} contains serviceAccountName ({}) that differs from running pod ({})",
            quote(account),
            quote(of_pod)
        )));
    }
    let found = a.call.core.find("", "serviceaccounts", &a.namespace, account).await?;
    let found = found.ok_or_else(|| {
        let key = quote(&format!("{}/{account}", a.namespace));
        retrieving("service account", &key, ApiError::not_found("", "serviceaccounts", account))
    })?;
    if meta::uid(&found) != spec("serviceAccountUID") {
        return Err(again(format!(
            "PodCertificateRequest for pod {pod_key} names service account UID {}, which differs from the running service account ({})",
            quote(spec("serviceAccountUID")),
            quote(meta::uid(&found))
        )));
    }
    signer(a, &pod, &pod_key, (spec("signerName"), account)).await
}

/// The pod names the signer, or the node may ask it for any pod's certificate.
async fn signer(
    a: &Attributes<'_>,
    pod: &Value,
    pod_key: &str,
    (signer, account): (&str, &str),
) -> Result<(), ApiError> {
    if names_signer(pod, signer) {
        return Ok(());
    }
    let question = AuthzAttributes {
        user: a.call.request.user.clone(),
        verb: "request-serviceaccounts-podcertificate-signer".into(),
        api_group: a.group().into(),
        api_version: a.call.resource.row.kind.version.into(),
        // Rules cannot name resources with slashes.
        resource: signer.replace('/', ":"),
        namespace: a.namespace.clone(),
        name: account.into(),
        resource_request: true,
        ..AuthzAttributes::default()
    };
    if a.call.core.authorizer()?.authorize(&question).await.allowed() {
        return Ok(());
    }
    Err(a.forbidden(format!(
        "pod {pod_key} does not mount a podCertificate projected volume for signer {}",
        quote(signer)
    )))
}

fn names_signer(pod: &Value, signer: &str) -> bool {
    let volumes = pod.list_at(&["spec", "volumes"]).into_iter().flat_map(|l| l.iter());
    let mut sources =
        volumes.flat_map(|v| v.list_at(&["projected", "sources"]).into_iter().flat_map(|l| l.iter()));
    sources.any(|s| s.str_at(&["podCertificate", "signerName"]) == Some(signer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn signers_of_pods() {
        let pod = Value::from(json!({"spec": {"volumes": [
            {"name": "a", "emptyDir": {}},
            {"name": "b", "projected": {"sources": [{"secret": {}}, {"podCertificate": {"signerName": "a.b/c"}}]}}
        ]}}));
        assert!(names_signer(&pod, "a.b/c"));
        assert!(!names_signer(&pod, "a.b/d") && !names_signer(&Value::Null, "a.b/c"));
    }
}
