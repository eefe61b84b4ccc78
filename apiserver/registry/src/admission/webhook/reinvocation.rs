//! Whether mutating webhooks are called a second time, because something later changed what they saw.
//! Upstream: `admission/reinvocation.go`, `plugin/webhook/mutating/reinvocationcontext.go`.

use std::collections::BTreeSet;

use machinery::Value;

/// What is remembered of the first pass.
#[derive(Default)]
pub struct Reinvocation {
    /// Whether this is the second pass.
    again: bool,
    /// Whether a webhook changed the object.
    wanted: bool,
    /// The object as the webhooks left it.
    output: Option<Value>,
    /// Reinvocable webhooks that were called and saw no later change yet.
    called: BTreeSet<String>,
    /// Webhooks to be called again.
    due: BTreeSet<String>,
}

impl Reinvocation {
    /// Starts the second pass if one is wanted.
    pub fn begin_again(&mut self) -> bool {
        self.again = self.wanted;
        self.again
    }

    /// The webhooks begin with this object. In the second pass: what other plugins changed makes all webhooks due.
    pub(super) fn begin(&mut self, object: Option<&Value>) {
        let same = match (&self.output, object) {
            (Some(a), Some(b)) => a.semantic_eq(b),
            (None, None) => true,
            _ => false,
        };
        if self.again && !same {
            self.changed();
        }
    }

    /// The webhooks are done.
    pub(super) fn end(&mut self, object: Option<&Value>) {
        self.output = object.cloned();
    }

    /// Whether this webhook is called in this pass. One that was not called in the first is not called in the second.
    pub(super) fn calls(&self, webhook: &str) -> bool {
        !self.again || self.due.contains(webhook)
    }

    /// A webhook was called; all reinvocable ones before it are due if it changed the object.
    pub(super) fn called(&mut self, webhook: &str, changed: bool, reinvocable: bool) {
        if changed {
            self.changed();
            self.wanted = true;
        }
        if reinvocable {
            self.called.insert(webhook.to_owned());
        }
    }

    fn changed(&mut self) {
        self.due.append(&mut self.called);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_earlier_reinvocable_webhooks_are_due() {
        let object = Value::from(serde_json::json!({"a": 1}));
        let mut r = Reinvocation::default();
        r.begin(Some(&object));
        r.called("a", true, true);
        r.called("b", false, false);
        r.called("c", true, true);
        r.end(Some(&object));
        assert!(r.begin_again());
        r.begin(Some(&object));
        assert_eq!(["a", "b", "c"].map(|w| r.calls(w)), [true, false, false]);
    }

    #[test]
    fn other_plugins_changes_make_all_due() {
        let mut r = Reinvocation::default();
        r.begin(None);
        r.called("a", true, true);
        r.end(Some(&Value::from(1_i64)));
        assert!(r.begin_again());
        r.begin(Some(&Value::from(2_i64)));
        assert!(r.calls("a"));
    }

    #[test]
    fn nothing_changed() {
        let mut r = Reinvocation::default();
        r.called("a", false, true);
        assert!(!r.begin_again());
    }
}
