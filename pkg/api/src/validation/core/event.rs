//! Events, under either set of field names. Upstream: `pkg/apis/core/validation/events.go`.

use k8s_openapi::api::core::v1::Event;

use crate::validation::field::{Error, Path};
use crate::validation::objectmeta::{
    name_is_subdomain, validate_kube_object_meta, validate_object_meta_update,
};
use crate::validation::{content, immutable, refusals, semantic_eq, text};

/// Longest texts, in bytes.
const SHORT_MAX: usize = 128;
const NOTE_MAX: usize = 1024;

/// `ValidateEventCreate`; `strict` for what comes through events.k8s.io.
pub fn validate(event: &Event, strict: bool) -> Vec<Error> {
    let mut errors = validate_legacy(event, strict);
    if !strict {
        return errors;
    }
    errors.extend(validate_kube_object_meta(
        &event.metadata,
        true,
        name_is_subdomain,
        &Path::new("metadata"),
    ));
    errors.extend(validate_series(event));
    if event.event_time.is_none() {
        errors.push(Error::required(&Path::new("eventTime"), ""));
    }
    let kind = text(&event.type_);
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(Error::invalid(&Path::new("type"), "", format!("has invalid value: {kind}")));
    }
    let source = event.source.as_ref();
    let sourced = source.is_some_and(|s| !text(&s.component).is_empty() || !text(&s.host).is_empty());
    for (set, name) in [
        (event.first_timestamp.is_some(), "firstTimestamp"),
        (event.last_timestamp.is_some(), "lastTimestamp"),
        (event.count.is_some_and(|n| n != 0), "count"),
        (sourced, "source"),
    ] {
        if set {
            errors.push(Error::invalid(&Path::new(name), "", "needs to be unset"));
        }
    }
    errors
}

/// `ValidateEventUpdate`; through events.k8s.io, nothing but the series may change.
pub fn validate_update(new: &Event, old: &Event, strict: bool) -> Vec<Error> {
    let mut errors = validate_legacy(new, strict);
    if !strict {
        return errors;
    }
    errors.extend(validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata")));
    if !semantic_eq(&new.series, &old.series) {
        errors.extend(validate_series(new));
    }
    macro_rules! fixed {
        ($($field:ident $name:literal),*) => {$(
            errors.extend(immutable(&new.$field, &old.$field, &Path::new($name)));
        )*};
    }
    // The reason is judged twice, as upstream does.
    fixed!(involved_object "involvedObject", reason "reason", message "message", source "source",
        first_timestamp "firstTimestamp", last_timestamp "lastTimestamp");
    let count = |e: &Event| e.count.unwrap_or(0);
    errors.extend(immutable(&count(new), &count(old), &Path::new("count")));
    fixed!(reason "reason", type_ "type");
    let micros = |e: &Event| e.event_time.as_ref().map(|t| t.0.as_microsecond());
    if micros(new) != micros(old) {
        fixed!(event_time "eventTime");
    }
    fixed!(action "action", related "related", reporting_component "reportingController",
        reporting_instance "reportingInstance");
    errors
}

fn validate_series(event: &Event) -> Vec<Error> {
    let Some(series) = &event.series else { return Vec::new() };
    let mut errors = Vec::new();
    if series.count.unwrap_or(0) < 2 {
        errors.push(Error::invalid(&Path::new("series.count"), "", "should be at least 2"));
    }
    if series.last_observed_time.is_none() {
        errors.push(Error::required(&Path::new("series.lastObservedTime"), ""));
    }
    errors
}

/// `legacyValidateEvent`.
fn validate_legacy(event: &Event, strict: bool) -> Vec<Error> {
    let (namespace, subject) = (text(&event.metadata.namespace), text(&event.involved_object.namespace));
    let elsewhere = match (&event.event_time, subject) {
        (None, "") => !matches!(namespace, "" | "default"),
        (None, subject) => namespace != subject,
        (Some(_), subject) => subject.is_empty() && !matches!(namespace, "default" | "kube-system"),
    };
    let mut errors = Vec::new();
    if elsewhere {
        let object = Path::new("involvedObject");
        let detail = "does not match event.namespace";
        errors.push(Error::invalid(&object.child("namespace"), subject, detail));
    }
    if event.event_time.is_none() {
        return errors;
    }
    let name = if strict { "reportingController" } else { "reportingComponent" };
    let (controller, at) = (text(&event.reporting_component), Path::new(name));
    if controller.is_empty() {
        errors.push(Error::required(&at, ""));
    }
    errors.extend(refusals(&at, controller, content::qualified_name(controller)));
    for (value, name) in [
        (text(&event.reporting_instance), "reportingInstance"),
        (text(&event.action), "action"),
        (text(&event.reason), "reason"),
    ] {
        if value.is_empty() {
            errors.push(Error::required(&Path::new(name), ""));
        }
        errors.extend(too_long(value, SHORT_MAX, &Path::new(name)));
    }
    errors.extend(too_long(text(&event.message), NOTE_MAX, &Path::new("message")));
    errors
}

fn too_long(value: &str, most: usize, path: &Path) -> Option<Error> {
    (value.len() > most).then(|| Error::invalid(path, "", format!("can have at most {most} characters")))
}
