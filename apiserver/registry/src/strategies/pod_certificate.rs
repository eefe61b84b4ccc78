//! Requests of pods for certificates. Works in v1beta1, which has all fields of v1.
//! Upstream: `pkg/registry/certificates/podcertificaterequest/strategy.go`.

mod spec;
mod status;

use ::api::validation::field::{Bad, Error as FieldError, Path};
use ::api::validation::objectmeta::{name_is_subdomain, validate_kube_object_meta};
use async_trait::async_trait;
use k8s_openapi::api::certificates::v1beta1::PodCertificateRequest;
use machinery::{Value, golang};

use super::{validated, validated_update};
use crate::admission::certificates::may;
use crate::errors::ApiError;
use crate::strategy::{Call, Finish, Strategy, generic_prepare_for_update, reset_metadata_for_status};
use crate::untagged;

/// The strategy.
pub struct PodCertificates;

#[async_trait]
impl Strategy for PodCertificates {
    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, |request: &PodCertificateRequest| {
            let path = Path::new("metadata");
            let mut errors = validate_kube_object_meta(&request.metadata, true, name_is_subdomain, &path);
            errors.extend(spec::validate(&request.spec));
            errors
        })
    }

    fn prepare_for_update(&self, call: &Call<'_>, object: &mut Value, old: &Value) {
        generic_prepare_for_update(call, object, old);
        if call.is_status() {
            reset_metadata_for_status(object, old);
        }
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        validated_update(object, old, |new: &PodCertificateRequest, old: &PodCertificateRequest| {
            if call.is_status() {
                return status::validate(new, old, call.now);
            }
            let changed = new.spec != old.spec;
            let spec = object.get("spec").unwrap_or(&Value::Null);
            let bad = || Bad::Raw(untagged::print(spec, untagged::POD_CERTIFICATE_REQUEST_SPEC));
            let error = || FieldError::invalid(&Path::new("spec"), bad(), "field is immutable");
            changed.then(error).into_iter().collect()
        })
    }

    /// Changing the status needs `sign` on the signer; what is invalid is told before that.
    async fn begin_update(
        &self,
        call: &Call<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<Option<Box<dyn Finish>>, ApiError> {
        let status = |object: &Value| object.get("status").cloned().unwrap_or_default();
        if !call.is_status()
            || status(object).semantic_eq(&status(old))
            || !self.validate_update(call, object, old).is_empty()
        {
            return Ok(None);
        }
        let signer = old.str_at(&["spec", "signerName"]).unwrap_or_default();
        if may(call, "sign", signer).await? {
            return Ok(None);
        }
        let spec = Path::new("spec");
        let (user, quoted) = (golang::quote(&call.request.user.name), golang::quote(signer));
        let detail = format!("User {user} is not permitted to \"sign\" for signer {quoted}");
        let error = FieldError::forbidden(&spec.child("signerName"), detail);
        let kind = call.resource.row.kind;
        Err(ApiError::invalid_fields(kind.group, kind.kind, &call.request.info.name, &[error]))
    }
}
