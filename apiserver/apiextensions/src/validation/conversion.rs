//! `spec.conversion`.

use api::validation::admissionregistration::{webhook_service, webhook_url};
use api::validation::content;
use api::validation::field::{Bad, Error, Path};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinitionSpec, WebhookClientConfig,
};

use super::{Options, ca_bundle, enumerated};

const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// Whether one of the review versions is known.
pub(super) fn any_recognized(versions: &[String]) -> bool {
    versions.iter().any(|v| REVIEWS.contains(&v.as_str()))
}

/// Whether the CA bundle, if there is one, can verify anyone.
pub(super) fn has_useful_bundle(conversion: &CustomResourceConversion) -> bool {
    let config = conversion.webhook.as_ref().and_then(|w| w.client_config.as_ref());
    let bundle = config.and_then(|c| c.ca_bundle.as_ref());
    bundle.is_none_or(|b| ca_bundle::refusal(&b.0).is_none())
}

pub(super) fn validate(
    root: &Path<'_>,
    spec: &CustomResourceDefinitionSpec,
    options: &Options,
    errors: &mut Vec<Error>,
) {
    let Some(conversion) = &spec.conversion else { return };
    let path = root.child("conversion");
    if conversion.strategy != "None" && spec.preserve_unknown_fields == Some(true) {
        let why = "must be None if spec.preserveUnknownFields is true";
        errors.push(Error::invalid(&path.child("strategy"), conversion.strategy.as_str(), why));
    }
    errors.extend(enumerated(&path.child("strategy"), &conversion.strategy, &["None", "Webhook"]));
    let webhook = conversion.webhook.as_ref();
    let config = webhook.and_then(|w| w.client_config.as_ref());
    let reviews = webhook.map(|w| w.conversion_review_versions.as_slice()).unwrap_or_default();
    let (at_config, at_reviews) = (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    if conversion.strategy == "Webhook" {
        match config {
            Some(config) => client(&at_config, config, options, errors),
            None => errors.push(Error::required(&at_config, "required when strategy is set to Webhook")),
        }
        review_versions(&at_reviews, reviews, options.recognized_review_version, errors);
        return;
    }
    let why = "should not be set when strategy is not set to Webhook";
    if config.is_some() {
        errors.push(Error::forbidden(&at_config, why));
    }
    if !reviews.is_empty() {
        errors.push(Error::forbidden(&at_reviews, why));
    }
}

fn client(path: &Path<'_>, config: &WebhookClientConfig, options: &Options, errors: &mut Vec<Error>) {
    match (&config.url, &config.service) {
        (Some(url), None) => errors.extend(webhook_url(url, &path.child("url"))),
        (None, Some(service)) => {
            let port = i64::from(service.port.unwrap_or(443));
            let url_path = service.path.as_deref();
            // Upstream passes name and namespace the other way round, and its errors name them so.
            let found =
                webhook_service(&service.name, &service.namespace, url_path, port, &path.child("service"));
            errors.extend(found);
        }
        _ => errors.push(Error::required(path, "exactly one of url or service is required")),
    }
    if options.useful_bundle
        && let Some(bundle) = &config.ca_bundle
        && let Some(why) = ca_bundle::refusal(&bundle.0)
    {
        errors.push(Error::invalid(&path.child("caBundle"), Bad::json(bundle), why));
    }
}

fn review_versions(path: &Path<'_>, versions: &[String], recognized: bool, errors: &mut Vec<Error>) {
    if versions.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        if versions[..index].contains(version) {
            errors.push(Error::invalid(&path.index(index), version, "duplicate version"));
            continue;
        }
        let refusals = content::dns1035_label(version);
        errors.extend(refusals.into_iter().map(|why| Error::invalid(&path.index(index), version, why)));
    }
    if recognized && !any_recognized(versions) {
        let why = "must include at least one of v1, v1beta1";
        errors.push(Error::invalid(path, Bad::json(&versions), why));
    }
}
