//! Whether mutating webhooks and policies are called a second time, because something later changed what they saw.
//! Upstream: `admission/reinvocation.go`, `plugin/webhook/mutating/reinvocationcontext.go`,
//! `plugin/policy/mutating/reinvocationcontext.go`.

use std::collections::BTreeSet;

use machinery::Value;

/// What is remembered of the first pass.
#[derive(Default)]
pub struct Reinvocation {
    /// Whether this is the second pass.
    again: bool,
    /// Whether a webhook or policy changed the object.
    wanted: bool,
    webhooks: Calls,
    policies: Calls,
}

/// Who is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Webhooks,
    Policies,
}

#[derive(Default)]
struct Calls {
    /// The object as they left it.
    output: Option<Value>,
    /// Reinvocable ones that were called and saw no later change yet.
    called: BTreeSet<String>,
    /// Those to be called again.
    due: BTreeSet<String>,
}

impl Calls {
    fn changed(&mut self) {
        self.due.append(&mut self.called);
    }
}

impl Reinvocation {
    fn calls_of(&mut self, who: Who) -> &mut Calls {
        match who {
            Who::Webhooks => &mut self.webhooks,
            Who::Policies => &mut self.policies,
        }
    }

    /// Starts the second pass if one is wanted.
    pub fn begin_again(&mut self) -> bool {
        self.again = self.wanted;
        self.again
    }

    /// 0 in the first pass, 1 in the second.
    pub(super) fn round(&self) -> usize {
        usize::from(self.again)
    }

    /// They begin with this object. In the second pass: what other plugins changed makes all due.
    pub(super) fn begin(&mut self, who: Who, object: Option<&Value>) {
        let again = self.again;
        let calls = self.calls_of(who);
        let same = match (&calls.output, object) {
            (Some(a), Some(b)) => a.semantic_eq(b),
            (None, None) => true,
            _ => false,
        };
        if again && !same {
            calls.changed();
        }
    }

    /// They are done.
    pub(super) fn end(&mut self, who: Who, object: Option<&Value>) {
        self.calls_of(who).output = object.cloned();
    }

    /// Whether this one is called in this pass. One that was not called in the first is not called in the second.
    pub(super) fn calls(&mut self, who: Who, key: &str) -> bool {
        !self.again || self.calls_of(who).due.contains(key)
    }

    /// One was called; all reinvocable ones before it are due if it changed the object.
    pub(super) fn called(&mut self, who: Who, key: &str, changed: bool, reinvocable: bool) {
        if changed {
            self.changed(who);
        }
        if reinvocable {
            self.calls_of(who).called.insert(key.to_owned());
        }
    }

    /// All reinvocable ones that were called are due.
    pub(super) fn changed(&mut self, who: Who) {
        self.calls_of(who).changed();
        self.wanted = true;
    }
}

#[cfg(test)]
mod tests {
    use super::Who::{Policies, Webhooks};
    use super::*;

    #[test]
    fn only_earlier_reinvocable_webhooks_are_due() {
        let object = Value::from(serde_json::json!({"a": 1}));
        let mut r = Reinvocation::default();
        r.begin(Webhooks, Some(&object));
        r.called(Webhooks, "a", true, true);
        r.called(Webhooks, "b", false, false);
        r.called(Webhooks, "c", true, true);
        r.called(Policies, "p", false, true);
        r.end(Webhooks, Some(&object));
        r.end(Policies, Some(&object));
        assert!(r.begin_again());
        r.begin(Webhooks, Some(&object));
        r.begin(Policies, Some(&object));
        assert_eq!(["a", "b", "c"].map(|w| r.calls(Webhooks, w)), [true, false, false]);
        assert!(!r.calls(Policies, "p"));
    }

    #[test]
    fn other_plugins_changes_make_all_due() {
        for who in [Webhooks, Policies] {
            let mut r = Reinvocation::default();
            r.begin(who, None);
            r.called(who, "a", true, true);
            r.end(who, Some(&Value::from(1_i64)));
            assert!(r.begin_again());
            r.begin(who, Some(&Value::from(2_i64)));
            assert!(r.calls(who, "a"));
        }
    }

    #[test]
    fn nothing_changed() {
        let mut r = Reinvocation::default();
        r.called(Webhooks, "a", false, true);
        assert!(!r.begin_again());
    }
}
