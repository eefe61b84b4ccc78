//! The pods of sets, counted as they change. A round that would look at each pod of a set, after each change of one, looks at
//! every pod as often as there are pods.

use controller::controller_of;
use informer::{Name, Shared, Store, Tally};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use machinery::labels::Selector;

use super::Set;
use super::plan::Count;
use crate::kept::{LabelSet, Pod};
use crate::pods;

/// What pods of a set have alike: what decides whose they are, and how they count.
#[derive(Clone, Debug, PartialEq)]
pub struct Sort {
    namespace: Option<Name>,
    labels: Option<Shared<LabelSet>>,
    owners: Option<Shared<Vec<OwnerReference>>>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Unready,
    Terminating,
}

fn state(pod: &Pod) -> Option<State> {
    match (pods::is_terminal(pod), pods::is_deleted(pod)) {
        (true, _) => None,
        (false, true) => Some(State::Terminating),
        (false, false) => Some(if pods::is_ready(pod) { State::Ready } else { State::Unready }),
    }
}

/// Counts the pods of each set of a kind, by the set's uid.
pub fn start<K: Set>(all: &Store<Pod>) -> Tally<Sort> {
    all.tally(|pod| {
        let owner = controller_of(&pod.metadata).filter(|o| o.kind == K::KIND)?;
        let sort = Sort {
            namespace: pod.metadata.namespace.clone(),
            labels: pod.metadata.labels.clone(),
            owners: pod.metadata.owner_references.clone(),
            state: state(pod)?,
        };
        Some((owner.uid.as_str(), sort))
    })
}

/// The count of a set's pods, unless some must be looked at one by one: they match the selector no longer.
pub fn count<K: Set>(
    tally: &Tally<Sort>,
    set: &K,
    selector: &Selector,
    template: &Selector,
) -> Option<Count> {
    let mut total = Count::default();
    for (sort, number) in tally.of(set.uid()) {
        let owned = sort.owners.as_ref().and_then(|o| o.iter().find(|r| r.controller == Some(true)));
        let is_own = sort.namespace.as_deref() == set.meta().namespace.as_deref()
            && owned.is_some_and(|o| o.name == set.name());
        if !is_own {
            continue;
        }
        if sort.state == State::Terminating {
            total.terminating += number;
            continue;
        }
        if !selector.matches(&sort.labels) {
            return None;
        }
        total.active += number;
        if template.matches(&sort.labels) {
            total.labelled += number;
        }
        if sort.state == State::Ready {
            total.ready += number;
        }
    }
    total.available = total.ready;
    Some(total)
}
