//! CertificateApproval, CertificateSigning, CertificateSubjectRestriction, ClusterTrustBundleAttest: who may decide
//! about a signer's certificates. Upstream: `plugin/pkg/admission/certificates`.

use async_trait::async_trait;
use auth::authorizer::Attributes as AuthzAttributes;
use base64::Engine as _;

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;
use crate::strategy::Call;

const GROUP: &str = "certificates.k8s.io";

/// Whether the user may do `verb` to a signer, by its name or its domain's wildcard.
/// Upstream: `IsAuthorizedForSignerName` in `pkg/registry/certificates`' `pkg/apis/certificates/authorization`.
pub(crate) async fn may(call: &Call<'_>, verb: &str, signer: &str) -> Result<bool, ApiError> {
    let domain = signer.split('/').next().unwrap_or("");
    for name in [signer.to_owned(), format!("{domain}/*")] {
        let question = AuthzAttributes {
            user: call.request.user.clone(),
            verb: verb.to_owned(),
            name,
            api_group: GROUP.into(),
            api_version: "*".into(),
            resource: "signers".into(),
            resource_request: true,
            ..AuthzAttributes::default()
        };
        if call.core.authorizer()?.authorize(&question).await.allowed() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Approving and denying needs `approve` on the signer.
pub struct CertificateApproval;

#[async_trait]
impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        if !a.is_resource(GROUP, "certificatesigningrequests") || a.subresource() != "approval" {
            return Ok(());
        }
        let signer = a.old.as_ref().and_then(|o| o.str_at(&["spec", "signerName"])).unwrap_or("").to_owned();
        if may(a.call, "approve", &signer).await? {
            return Ok(());
        }
        Err(a.forbidden(format!("user not permitted to approve requests with signerName {signer:?}")))
    }
}

/// Writing a certificate needs `sign` on the signer.
pub struct CertificateSigning;

#[async_trait]
impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        if !a.is_resource(GROUP, "certificatesigningrequests") || a.subresource() != "status" {
            return Ok(());
        }
        let (Some(new), Some(old)) = (&a.object, &a.old) else { return Ok(()) };
        let field = |v: &machinery::Value, f: &str| v.get_path(&["status", f]).cloned().unwrap_or_default();
        let same = ["certificate", "conditions"].iter().all(|f| field(new, f).semantic_eq(&field(old, f)));
        let signer = old.str_at(&["spec", "signerName"]).unwrap_or("").to_owned();
        if same || may(a.call, "sign", &signer).await? {
            return Ok(());
        }
        Err(a.forbidden(format!("user not permitted to sign requests with signerName {signer:?}")))
    }
}

/// Nobody asks for a client certificate of the superusers' group.
pub struct CertificateSubjectRestriction;

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        if !a.is(GROUP, "certificatesigningrequests") {
            return Ok(());
        }
        let Some(csr) = a.object.as_ref() else { return Ok(()) };
        if csr.str_at(&["spec", "signerName"]) != Some("kubernetes.io/kube-apiserver-client") {
            return Ok(());
        }
        let text = csr.str_at(&["spec", "request"]).unwrap_or("");
        let engine = &base64::engine::general_purpose::STANDARD;
        let pem = engine.decode(text).map_err(|e| ApiError::bad_request(e.to_string()))?;
        if organizations_contain(&pem, b"system:masters") {
            return Err(a.forbidden(
                "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
            ));
        }
        Ok(())
    }
}

/// Whether the DER inside a PEM request holds the text as one whole string value. A certificate request has no other
/// place for such a string than its names, so a stray match only refuses more.
fn organizations_contain(pem: &[u8], name: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pem);
    let body: String =
        text.lines().filter(|l| !l.starts_with("-----") && !l.contains(':')).map(str::trim).collect();
    let Ok(der) = base64::engine::general_purpose::STANDARD.decode(body) else { return false };
    let Ok(length) = u8::try_from(name.len()) else { return false };
    der.windows(name.len() + 1).any(|w| w[0] == length && &w[1..] == name)
}

/// Publishing a signer's trust bundle needs `attest` on the signer.
pub struct ClusterTrustBundleAttest;

#[async_trait]
impl Plugin for ClusterTrustBundleAttest {
    fn name(&self) -> &'static str {
        "ClusterTrustBundleAttest"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        if !a.is(GROUP, "clustertrustbundles") {
            return Ok(());
        }
        let signer =
            a.object.as_ref().and_then(|o| o.str_at(&["spec", "signerName"])).unwrap_or("").to_owned();
        if signer.is_empty() || may(a.call, "attest", &signer).await? {
            return Ok(());
        }
        Err(a.forbidden(format!("user not permitted to attest for signerName {signer:?}")))
    }
}
