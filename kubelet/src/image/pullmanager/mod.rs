//! Who may use an image that is on the node already: those who have pulled it, or could.
//!
//! [`PullManager`] remembers with which credentials each image was pulled, in files that either kubelet can go on with
//! ([`records`]). [`policy`] says which images have to be verified at all, [`credentials`] who matches. Records are read
//! from disk when they are needed, not kept in memory. Upstream: pkg/kubelet/images/pullmanager, v1.37.

pub mod credentials;
#[cfg(test)]
mod oracle_tests;
pub mod policy;
pub mod records;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use self::credentials::{Access, Match};
use self::policy::Policy;
use self::records::{Credentials, PulledRecord, Records};
use super::reference::without_tag;
use crate::metrics::images::{self, Checked};

/// Remembers who pulled what.
#[derive(Debug)]
pub struct PullManager {
    policy: Policy,
    /// Pulls under way by image; held while files change, so that those and the counts agree.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    records: Records,
    pulls: HashMap<String, u32>,
}

/// What is to be done about an image that is on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The pod may use it.
    Present,
    /// The pod has to show credentials to the registry.
    Pull,
    /// The pod may use it if it has one of these.
    Compare(Credentials),
}

/// An image as the runtime lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The runtime's id.
    pub id: String,
    /// Tags and digests.
    pub names: Vec<String>,
}

impl From<cri::v1::Image> for Listed {
    fn from(image: cri::v1::Image) -> Self {
        Self { id: image.id, names: image.repo_digests.into_iter().chain(image.repo_tags).collect() }
    }
}

impl PullManager {
    /// Opens the records below the kubelet's folder.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn open(root: &Path, policy: Policy) -> io::Result<Self> {
        let records = Records::open(root)?;
        Ok(Self { policy, state: Mutex::new(State { records, pulls: HashMap::new() }) })
    }

    /// True if a pull was under way when the kubelet stopped, so that [`Self::adopt`] has something to do.
    pub fn is_interrupted(&self) -> bool {
        !self.state.lock().records.intents().is_empty()
    }

    /// Takes over what was pulled while the kubelet was away: such images are known, but by nobody's credentials.
    pub fn adopt(&self, present: &[Listed], now: Timestamp) {
        let state = self.state.lock();
        let pulling: HashSet<String> = state.records.intents().into_iter().collect();
        for image in present {
            for name in image.names.iter().filter(|name| pulling.contains(*name)) {
                if let Err(error) = state.write(name, &image.id, None, now) {
                    tracing::error!(image_ref = image.id, error, "Failed to write an image pull record");
                    continue;
                }
                if let Err(error) = state.records.delete_intent(name) {
                    tracing::info!(image = name, %error, "Failed to remove image pull intent file");
                }
            }
        }
    }

    /// Notes that a pull of an image begins; [`Self::pulled`] or [`Self::failed`] must follow.
    ///
    /// # Errors
    /// If that cannot be written down, so that nothing must be pulled.
    pub fn intend(&self, image: &str) -> Result<(), String> {
        let mut state = self.state.lock();
        let written = state.records.write_intent(image);
        written.map_err(|error| format!("failed to record image pull intent: {error}"))?;
        let count = state.pulls.entry(image.to_owned()).or_default();
        *count = count.saturating_add(1);
        Ok(())
    }

    /// Notes that an image was pulled with these credentials.
    pub fn pulled(&self, image: &str, image_ref: &str, credentials: &Credentials, now: Timestamp) {
        let mut state = self.state.lock();
        if let Err(error) = state.write(image, image_ref, Some(credentials), now) {
            // The intent stays: it says that the kubelet pulled the image, and is turned into a record at the next start.
            tracing::error!(image_ref, error, "Failed to write image pulled record");
            return;
        }
        state.end(image);
    }

    /// Notes that a pull came to nothing.
    pub fn failed(&self, image: &str) {
        self.state.lock().end(image);
    }

    /// What is to be done for a pod that wants an image that is here; nothing is asked about the pod yet.
    /// Upstream: MustAttemptImagePull in image_pull_manager.go.
    pub fn check(&self, image: &str, image_ref: &str) -> Check {
        let known = self.state.lock().known(image, image_ref);
        let (record, by_kubelet) = match known {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "Unable to access cache records about image pulls");
                images::checked(Checked::Error);
                return Check::Pull;
            }
        };
        if !self.policy.requires_verification(image, by_kubelet) {
            images::checked(Checked::PolicyAllowed);
            return Check::Present;
        }
        let name = match without_tag(image) {
            Ok(name) => name,
            Err(_) if record.is_none() => "",
            Err(error) => {
                tracing::error!(image, error, "Failed to parse image name, forcing verification");
                images::checked(Checked::Error);
                return Check::Pull;
            }
        };
        match record.and_then(|mut record| record.credential_mapping.remove(name)) {
            Some(credentials) if credentials.node_pods_accessible => {
                images::checked(Checked::RecordFound);
                Check::Present
            }
            Some(credentials) if !credentials.is_empty() => Check::Compare(credentials),
            _ => {
                images::checked(Checked::MustAuthenticate);
                Check::Pull
            }
        }
    }

    /// Whether what a pod has gives it access to an image that others pulled with `known`.
    pub fn may_use(
        &self,
        image: &str,
        image_ref: &str,
        known: &Credentials,
        access: &Access,
        now: Timestamp,
    ) -> bool {
        let (allowed, remember) = match credentials::compare(known, access) {
            Match::None => (false, None),
            Match::Known => (true, None),
            Match::Remember(secret) => (true, Some(Credentials::of_secret(secret))),
        };
        if let Some(more) = remember
            && let Err(error) = self.state.lock().write(image, image_ref, Some(&more), now)
        {
            tracing::error!(image, image_ref, error, "Failed to write an image pulled record");
        }
        images::checked(if allowed { Checked::RecordFound } else { Checked::MustAuthenticate });
        allowed
    }

    /// Forgets images that the runtime no longer has, unless their record is from after `until`. Upstream gives its
    /// PruneUnknownRecords only those that garbage collection looked at, so that images in use lose their records.
    pub fn prune(&self, present: &HashSet<String>, until: Timestamp) {
        let state = self.state.lock();
        for record in state.records.pulled() {
            let newer = record.last_updated_time.is_some_and(|at| at >= until);
            if newer || present.contains(&record.image_ref) {
                continue;
            }
            if let Err(error) = state.records.delete_pulled(&record.image_ref) {
                tracing::error!(image_ref = record.image_ref, %error, "Failed to remove an ImagePulledRecord");
            }
        }
    }
}

impl State {
    /// The record of an image, and whether the kubelet pulled it or is pulling it.
    fn known(&self, image: &str, image_ref: &str) -> io::Result<(Option<PulledRecord>, bool)> {
        let record = self.records.read_pulled(image_ref)?;
        let by_kubelet =
            record.is_some() || self.pulls.contains_key(image) || self.records.has_intent(image)?;
        Ok((record, by_kubelet))
    }

    /// Writes a record if there is something new. Without credentials the image is known, but to nobody.
    fn write(
        &self,
        image: &str,
        image_ref: &str,
        credentials: Option<&Credentials>,
        now: Timestamp,
    ) -> Result<(), String> {
        let name = without_tag(image).map_err(|e| format!("invalid image name {image:?}: {e}"))?;
        // A record that cannot be read is written anew.
        let old = self.records.read_pulled(image_ref).unwrap_or_else(|error| {
            tracing::info!(image, %error, "Failed to retrieve an ImagePulledRecord");
            None
        });
        let record = match old {
            Some(old) => credentials::merge(old, name, credentials),
            None => {
                let mapping = credentials.map(|c| (name.to_owned(), c.clone()));
                let credential_mapping = mapping.into_iter().collect();
                Some(PulledRecord {
                    image_ref: image_ref.to_owned(),
                    credential_mapping,
                    last_updated_time: None,
                })
            }
        };
        let Some(record) = record else { return Ok(()) };
        let record = PulledRecord { last_updated_time: Some(now), ..record };
        self.records.write_pulled(&record).map_err(|e| e.to_string())
    }

    /// One pull less; the last one's file goes.
    fn end(&mut self, image: &str) {
        match self.pulls.get_mut(image) {
            Some(count) if *count > 1 => *count = count.saturating_sub(1),
            _ => match self.records.delete_intent(image) {
                Ok(()) => drop(self.pulls.remove(image)),
                Err(error) => tracing::error!(image, %error, "Failed to remove image pull intent"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_newer_than_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let manager = PullManager::open(dir.path(), Policy::Always).unwrap();
        let at = |s| Timestamp::from_second(s).unwrap();
        for (image_ref, second) in [("old", 1), ("used", 1), ("new", 9)] {
            manager.pulled("a", image_ref, &Credentials::of_node(), at(second));
        }
        manager.prune(&HashSet::from(["used".to_owned()]), at(5));
        let left = ["old", "used", "new"].map(|image_ref| manager.check("a", image_ref) == Check::Present);
        assert_eq!(left, [false, true, true]);
    }

    #[test]
    fn a_disk_that_refuses_stops_the_pull() {
        let dir = tempfile::tempdir().unwrap();
        let manager = PullManager::open(dir.path(), Policy::Always).unwrap();
        std::fs::remove_dir_all(dir.path().join("image_manager")).unwrap();
        std::fs::write(dir.path().join("image_manager"), "").unwrap();
        assert!(manager.intend("a").unwrap_err().starts_with("failed to record image pull intent: "));
        assert_eq!(manager.check("a", "r"), Check::Pull);
    }
}
