//! `spec.conversion`.

use api::validation::field::{Bad, Error, Path};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionSpec;

use super::enumerated;

const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// Whether one of the review versions is known.
pub(super) fn any_recognized(versions: &[String]) -> bool {
    versions.iter().any(|v| REVIEWS.contains(&v.as_str()))
}

/// Conversion by webhook is refused for now.
pub(super) fn validate(
    root: &Path<'_>,
    spec: &CustomResourceDefinitionSpec,
    recognized: bool,
    errors: &mut Vec<Error>,
) {
    let Some(conversion) = &spec.conversion else { return };
    let path = root.child("conversion");
    errors.extend(enumerated(&path.child("strategy"), &conversion.strategy, &["None", "Webhook"]));
    if conversion.strategy == "Webhook" {
        if spec.preserve_unknown_fields == Some(true) {
            let why = "must be None if spec.preserveUnknownFields is true";
            errors.push(Error::invalid(&path.child("strategy"), "Webhook", why));
        }
        let why =
            "conversion by webhook is not implemented by this server yet: instances could not be converted";
        errors.push(Error::forbidden(&path.child("strategy"), why));
        if let Some(webhook) = conversion.webhook.as_ref().filter(|_| recognized)
            && !any_recognized(&webhook.conversion_review_versions)
        {
            let versions = Bad::json(&webhook.conversion_review_versions);
            let why = "must include at least one of v1, v1beta1";
            errors.push(Error::invalid(&path.child("conversionReviewVersions"), versions, why));
        }
        return;
    }
    let Some(webhook) = &conversion.webhook else { return };
    let why = "should not be set when strategy is not set to Webhook";
    if webhook.client_config.is_some() {
        errors.push(Error::forbidden(&path.child("webhookClientConfig"), why));
    }
    if !webhook.conversion_review_versions.is_empty() {
        errors.push(Error::forbidden(&path.child("conversionReviewVersions"), why));
    }
}
