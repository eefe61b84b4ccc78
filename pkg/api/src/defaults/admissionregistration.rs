//! Defaults of the admissionregistration group. Upstream: pkg/apis/admissionregistration/*/defaults.go.

use super::fields::{empty, if_nil, items};
use super::{Context, Function};
use machinery::Map;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("admissionregistration/v1.MatchResources", match_resources),
    ("admissionregistration/v1.MutatingAdmissionPolicySpec", policy_spec),
    ("admissionregistration/v1.MutatingWebhook", mutating),
    ("admissionregistration/v1.Rule", rule),
    ("admissionregistration/v1.ServiceReference", service),
    ("admissionregistration/v1.ValidatingAdmissionPolicySpec", policy_spec),
    ("admissionregistration/v1.ValidatingWebhook", validating),
    ("admissionregistration/v1alpha1.MatchResources", match_resources),
    ("admissionregistration/v1alpha1.MutatingAdmissionPolicySpec", policy_spec),
    ("admissionregistration/v1alpha1.ParamRef", param_ref),
    ("admissionregistration/v1alpha1.ValidatingAdmissionPolicySpec", policy_spec),
    ("admissionregistration/v1beta1.MatchResources", match_resources),
    ("admissionregistration/v1beta1.MutatingAdmissionPolicySpec", policy_spec),
    ("admissionregistration/v1beta1.MutatingWebhook", mutating_beta),
    ("admissionregistration/v1beta1.ServiceReference", service),
    ("admissionregistration/v1beta1.ValidatingAdmissionPolicySpec", policy_spec),
    ("admissionregistration/v1beta1.ValidatingWebhook", validating_beta),
];

fn validating(m: &mut Map, _: &Context) {
    if_nil(m, "failurePolicy", "Fail");
    if_nil(m, "matchPolicy", "Equivalent");
    if_nil(m, "namespaceSelector", empty());
    if_nil(m, "objectSelector", empty());
    if_nil(m, "timeoutSeconds", 10);
}

fn mutating(m: &mut Map, context: &Context) {
    validating(m, context);
    if_nil(m, "reinvocationPolicy", "Never");
}

fn validating_beta(m: &mut Map, _: &Context) {
    if_nil(m, "failurePolicy", "Ignore");
    if_nil(m, "matchPolicy", "Exact");
    if_nil(m, "namespaceSelector", empty());
    if_nil(m, "objectSelector", empty());
    if_nil(m, "sideEffects", "Unknown");
    if_nil(m, "timeoutSeconds", 30);
    if items(m, "admissionReviewVersions").is_empty() {
        m.insert("admissionReviewVersions", vec!["v1beta1"]);
    }
}

fn mutating_beta(m: &mut Map, context: &Context) {
    validating_beta(m, context);
    if_nil(m, "reinvocationPolicy", "Never");
}

fn rule(m: &mut Map, _: &Context) {
    if_nil(m, "scope", "*");
}

fn service(m: &mut Map, _: &Context) {
    if_nil(m, "port", 443);
}

fn policy_spec(m: &mut Map, _: &Context) {
    if_nil(m, "failurePolicy", "Fail");
}

fn match_resources(m: &mut Map, _: &Context) {
    if_nil(m, "matchPolicy", "Equivalent");
    if_nil(m, "namespaceSelector", empty());
    if_nil(m, "objectSelector", empty());
}

fn param_ref(m: &mut Map, _: &Context) {
    if_nil(m, "parameterNotFoundAction", "Deny");
}
