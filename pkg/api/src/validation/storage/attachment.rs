//! Volume attachments.

use std::collections::BTreeMap;

use k8s_openapi::api::storage::v1::{VolumeAttachment, VolumeAttachmentSource, VolumeError};

use super::size;
use crate::validation::content::{self, range};
use crate::validation::core::persistent_volume::validate_inline_spec;
use crate::validation::field::{Error, Path};
use crate::validation::objectmeta::{name_is_subdomain, validate_kube_object_meta};
use crate::validation::{dns_subdomain, text};

const METADATA_MAX: usize = 256 * 1024;
const DRIVER_NAME_MAX: usize = 63;
const MESSAGE_MAX: usize = 1024;

/// `ValidateVolumeAttachment`; that the specification stays is told by the type's own rules.
pub fn validate(attachment: &VolumeAttachment) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&attachment.metadata, false, name_is_subdomain, &Path::new("metadata"));
    let (spec, path) = (&attachment.spec, Path::new("spec"));
    errors.extend(validate_attacher(&spec.attacher, &path.child("attacher")));
    errors.extend(validate_source(&spec.source, &path.child("source")));
    errors.extend(dns_subdomain(&spec.node_name, &path.child("nodeName")));
    if let Some(status) = &attachment.status {
        let path = Path::new("status");
        let at = path.child("attachmentMetadata");
        errors.extend(validate_metadata(status.attachment_metadata.as_ref(), &at));
        for (error, name) in [(&status.attach_error, "attachError"), (&status.detach_error, "detachError")] {
            errors.extend(error.iter().flat_map(|e| validate_error(e, &path.child(name))));
        }
    }
    if let Some(name) = &spec.source.persistent_volume_name {
        errors.extend(dns_subdomain(name, &Path::new("spec.source.persistentVolumeName")));
    }
    errors
}

/// `ValidateVolumeAttachmentUpdate`.
pub fn validate_update(new: &VolumeAttachment, _old: &VolumeAttachment) -> Vec<Error> {
    validate(new)
}

/// `ValidateCSIDriverName`, whose rules are the type's too.
fn validate_attacher(name: &str, path: &Path) -> Vec<Error> {
    if name.is_empty() {
        return vec![Error::required(path, "").covered()];
    }
    let mut errors = Vec::new();
    if name.len() > DRIVER_NAME_MAX {
        errors.push(Error::too_long(path, DRIVER_NAME_MAX).covered());
    }
    let wrong = content::dns_subdomain(&name.to_lowercase()).into_iter();
    errors.extend(wrong.map(|m| Error::invalid(path, name, m).covered()));
    errors
}

fn validate_source(source: &VolumeAttachmentSource, path: &Path) -> Vec<Error> {
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (&source.inline_volume_spec, &source.persistent_volume_name) {
        (None, None) => vec![Error::required(path, one)],
        (Some(_), Some(_)) => vec![Error::forbidden(path, one)],
        (None, Some(name)) if name.is_empty() => {
            let detail = "must specify non empty persistentVolumeName";
            vec![Error::required(&path.child("persistentVolumeName"), detail)]
        }
        (None, Some(_)) => Vec::new(),
        (Some(spec), None) => validate_inline_spec(spec, &path.child("inlineVolumeSpec")),
    }
}

fn validate_metadata(metadata: Option<&BTreeMap<String, String>>, path: &Path) -> Option<Error> {
    metadata.filter(|m| size(m) > METADATA_MAX).map(|_| Error::too_long(path, METADATA_MAX))
}

fn validate_error(error: &VolumeError, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if text(&error.message).len() > MESSAGE_MAX {
        errors.push(Error::too_long(&path.child("message"), MESSAGE_MAX));
    }
    if let Some(code) = error.error_code.filter(|c| *c < 0) {
        errors.push(Error::invalid(&path.child("errorCode"), code, range(0, i64::from(i32::MAX))));
    }
    errors
}
