//! IP addresses, which are named by what they are.

use k8s_openapi::api::networking::v1::IPAddress;

use crate::validation::content::Refusals;
use crate::validation::core::ip::validate_ip_strict;
use crate::validation::field::{Error, Path};
use crate::validation::objectmeta::{validate_kube_object_meta, validate_object_meta_update};
use crate::validation::{content, dns_subdomain, refusals, text};

/// `ValidateIPAddressName`: an address in canonical form.
pub fn name_is_address(name: &str, _prefix: bool) -> Refusals {
    validate_ip_strict(name, &Path::ROOT).into_iter().map(|e| e.detail).collect()
}

/// `ValidateIPAddress`. Typed objects do not tell an absent parent from an empty one: `parented` does.
pub fn validate(address: &IPAddress, parented: bool) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&address.metadata, false, name_is_address, &Path::new("metadata"));
    let parent = &address.spec.parent_ref;
    let spec = Path::new("spec");
    let path = spec.child("parentRef");
    if !parented {
        errors.push(Error::required(&path, "").covered());
        return errors;
    }
    if !text(&parent.group).is_empty() {
        errors.extend(dns_subdomain(text(&parent.group), &path.child("group")));
    }
    let namespace = text(&parent.namespace);
    for (value, name) in
        [(parent.resource.as_str(), "resource"), (&parent.name, "name"), (namespace, "namespace")]
    {
        let at = path.child(name);
        if value.is_empty() && name != "namespace" {
            errors.push(Error::required(&at, "").covered());
        }
        errors.extend(refusals(&at, value, content::path_segment(value, false)));
    }
    errors
}

/// `ValidateIPAddressUpdate`; that the parent stays is told by the type's own rules.
pub fn validate_update(new: &IPAddress, old: &IPAddress, parented: bool) -> Vec<Error> {
    let mut errors = validate(new, parented);
    errors.extend(validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata")));
    errors
}
