//! Whose credentials give access to an image that was pulled. Decides only.
//!
//! Upstream: pulledRecordMergeNewCreds and MustAttemptImagePull in image_pull_manager.go, v1.37.

use std::collections::{BTreeMap, BTreeSet};

use super::records::{Credentials, PullSecret, PullServiceAccount, PulledRecord};

/// A record with this many secrets gets no more only because one of a pod's matches.
const REMEMBERED: usize = 100;

/// What a pod has to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Its pull secrets that have something for the image.
    pub secrets: Vec<PullSecret>,
    /// Its service account, if that is what has access.
    pub account: Option<PullServiceAccount>,
}

/// What came of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// The pod has nothing of the kind.
    None,
    /// It has.
    Known,
    /// It has in a secret that is to be remembered: another with the same content, or the same with another.
    Remember(PullSecret),
}

/// Compares what a pod has with what an image was pulled with.
pub fn compare(known: &Credentials, access: &Access) -> Match {
    let few = known.kubernetes_secrets.len() < REMEMBERED;
    for own in &access.secrets {
        for old in &known.kubernetes_secrets {
            let same_content = !old.credential_hash.is_empty() && own.credential_hash == old.credential_hash;
            let same_secret = own.place() == old.place();
            match (same_content, same_secret) {
                (true, true) => return Match::Known,
                (true, false) if !few => return Match::Known,
                (true, false) => return Match::Remember(own.clone()),
                (false, true) if few => return Match::Remember(own.clone()),
                (false, _) => {}
            }
        }
    }
    let of_account = |account| known.kubernetes_service_accounts.contains(account);
    if access.account.as_ref().is_some_and(of_account) { Match::Known } else { Match::None }
}

/// The record with more credentials for an image's name; `None` if it says all that already.
pub fn merge(mut record: PulledRecord, name: &str, more: Option<&Credentials>) -> Option<PulledRecord> {
    let more = more.filter(|more| more.node_pods_accessible || !more.is_empty())?;
    let Some(known) = record.credential_mapping.get_mut(name) else {
        record.credential_mapping.insert(name.to_owned(), more.clone());
        return Some(record);
    };
    if known.node_pods_accessible {
        return None;
    }
    if more.node_pods_accessible {
        *known = Credentials::of_node();
    } else if !more.kubernetes_secrets.is_empty() {
        merge_secrets(&mut known.kubernetes_secrets, &more.kubernetes_secrets)?;
    } else {
        merge_accounts(&mut known.kubernetes_service_accounts, &more.kubernetes_service_accounts)?;
    }
    Some(record)
}

fn merge_secrets(known: &mut Vec<PullSecret>, more: &[PullSecret]) -> Option<()> {
    let mut all: BTreeMap<(String, String, String), PullSecret> =
        known.iter().map(|secret| (secret.order(), secret.clone())).collect();
    let mut changed = false;
    for secret in more {
        changed |= all.insert(secret.order(), secret.clone()).as_ref() != Some(secret);
    }
    changed.then(|| *known = all.into_values().collect())
}

fn merge_accounts(known: &mut Vec<PullServiceAccount>, more: &[PullServiceAccount]) -> Option<()> {
    let place = |a: &PullServiceAccount| (a.namespace.clone(), a.name.clone(), a.uid.clone());
    let mut all: BTreeMap<_, _> = known.iter().map(|account| (place(account), account.clone())).collect();
    let before: BTreeSet<_> = all.keys().cloned().collect();
    all.extend(more.iter().map(|account| (place(account), account.clone())));
    let changed = all.keys().any(|place| !before.contains(place));
    changed.then(|| *known = all.into_values().collect())
}
