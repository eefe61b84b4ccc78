//! What each controller is called, when it runs, and how it is built.

use component::app::Error;
use component::features::{Gate, Gates};
use futures::future::BoxFuture;

use crate::context::Context;

/// A controller at work; ends with the context's token.
pub type Running = BoxFuture<'static, ()>;

/// Builds a controller: takes its informers (they are started afterwards), returns its work.
pub type Build = fn(&Context) -> Result<Running, Error>;

/// One controller. Upstream: cmd/kube-controller-manager/app/controller_descriptor.go.
#[derive(Clone, Copy)]
pub struct Descriptor {
    /// Canonical name.
    pub name: &'static str,
    /// Older name that `--controllers` accepts; "" = none.
    pub alias: &'static str,
    /// The service account it acts as with `--use-service-account-credentials`.
    pub account: &'static str,
    /// All of them must be on.
    pub gates: &'static [Gate],
    /// Runs only when `--controllers` names it.
    pub off_by_default: bool,
    pub build: Build,
}

/// Why a list of controllers is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not in the list of known controllers")]
pub struct UnknownController(String);

/// The controllers that a `--controllers` value selects, in the table's order.
///
/// # Errors
/// The first name that is no controller's.
pub fn select(
    all: &[Descriptor],
    wanted: &[String],
    gates: &Gates,
) -> Result<Vec<Descriptor>, UnknownController> {
    let known = |name: &str| all.iter().any(|d| d.is_called(name));
    for word in wanted.iter().filter(|w| *w != "*") {
        let name = word.strip_prefix('-').unwrap_or(word);
        if !known(name) {
            return Err(UnknownController(name.to_string()));
        }
    }
    let chosen = |d: &&Descriptor| d.is_chosen(wanted) && d.gates.iter().all(|gate| gates.enabled(*gate));
    Ok(all.iter().filter(chosen).copied().collect())
}

impl Descriptor {
    fn is_called(&self, name: &str) -> bool {
        self.name == name || (!self.alias.is_empty() && self.alias == name)
    }

    /// A name counts more than `*`; the first mention counts. Upstream: IsControllerEnabled.
    fn is_chosen(&self, wanted: &[String]) -> bool {
        for word in wanted {
            if self.is_called(word) {
                return true;
            }
            if word.strip_prefix('-').is_some_and(|w| self.is_called(w)) {
                return false;
            }
        }
        wanted.iter().any(|w| w == "*") && !self.off_by_default
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Descriptor] = &[
        Descriptor {
            name: "a-controller",
            alias: "a",
            account: "a",
            gates: &[],
            off_by_default: false,
            build: none,
        },
        Descriptor {
            name: "b-controller",
            alias: "b",
            account: "b",
            gates: &[],
            off_by_default: true,
            build: none,
        },
    ];

    fn none(_: &Context) -> Result<Running, Error> {
        Ok(Box::pin(async {}))
    }

    fn check(wanted: &[&str], expected: &[&str]) {
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        let chosen = select(TABLE, &wanted, &Gates::default()).expect("known names");
        assert_eq!(chosen.iter().map(|d| d.name).collect::<Vec<_>>(), expected, "{wanted:?}");
    }

    #[test]
    fn selection() {
        check(&["*"], &["a-controller"]);
        check(&["*", "b"], &["a-controller", "b-controller"]);
        check(&["*", "-a-controller", "b-controller"], &["b-controller"]);
        check(&["a"], &["a-controller"]);
        check(&["-a", "*"], &[]);
        let error = select(TABLE, &["c".to_string()], &Gates::default()).map(|_| ()).expect_err("unknown");
        assert_eq!(error.to_string(), "\"c\" is not in the list of known controllers");
    }
}
