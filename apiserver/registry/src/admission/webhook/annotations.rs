//! What audit events tell of webhooks: which changed the object and how, and which failed without consequence.
//! Upstream: `plugin/webhook/mutating/dispatcher.go` (`webhookAnnotator`), `validating/dispatcher.go`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Hook, Phase, review};
use crate::audit::Audit;

/// Which call of a request: its phase, the pass, and the position of the webhook. Mutating webhooks are counted among
/// all, validating ones among those that are called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) phase: Phase,
    pub(super) round: usize,
    pub(super) index: usize,
}

#[derive(Serialize)]
struct Mutation<'a> {
    configuration: &'a str,
    webhook: &'a str,
    mutated: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Patch<'a> {
    configuration: &'a str,
    webhook: &'a str,
    patch: Vec<BTreeMap<String, &'a RawValue>>,
    patch_type: &'static str,
}

/// JSON as Go writes it.
fn json(value: &impl Serialize) -> Option<String> {
    let text = serde_json::to_vec(value).ok()?;
    let mut out = Vec::with_capacity(text.len());
    machinery::json::write_compact(&text, &mut out);
    String::from_utf8(out).ok()
}

impl Place {
    fn key(self, prefix: &str) -> String {
        format!("{prefix}.webhook.admission.k8s.io/round_{}_index_{}", self.round, self.index)
    }

    /// A mutating webhook was called.
    pub(super) fn mutated(self, audit: &Audit, hook: &Hook, mutated: bool) {
        if !audit.enabled() {
            return;
        }
        let value = json(&Mutation { configuration: &hook.configuration, webhook: &hook.name, mutated });
        value.into_iter().for_each(|value| audit.annotate_admission(&self.key("mutation"), value));
    }

    /// A patch was applied; shown where the bodies of requests are.
    pub(super) fn patched(self, audit: &Audit, hook: &Hook, patch: &[u8]) {
        if !audit.wants_request() {
            return;
        }
        let Ok(patch) = serde_json::from_slice(patch) else { return };
        let (configuration, webhook) = (hook.configuration.as_str(), hook.name.as_str());
        let value = json(&Patch { configuration, webhook, patch, patch_type: review::JSON_PATCH });
        value.into_iter().for_each(|value| audit.annotate_admission(&self.key("patch"), value));
    }

    /// A call failed, and the request goes on.
    pub(super) fn failed_open(self, audit: &Audit, hook: &Hook) {
        let prefix = match self.phase {
            Phase::Mutating => "failed-open.mutation",
            Phase::Validating => "failed-open.validating",
        };
        audit.annotate_admission(&self.key(prefix), hook.name.as_str());
    }
}
