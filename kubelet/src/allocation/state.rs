//! Resources by pod, kept in a file.
//!
//! The file is written when what it says has changed, but not when pods go: that is written with the next change, as
//! upstream, which forgets pods that are gone after every start. Upstream: state/state_checkpoint.go, v1.37.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use k8s_openapi::api::core::v1::ResourceRequirements;

use super::checkpoint::{self, Entries};
use super::resources::{PodResources, settled};
use crate::cpumanager::checkpoint::replace;

/// The file of what was promised, in the kubelet's folder.
pub const ALLOCATED: &str = "allocated_pods_state";
/// The file of what is in force, in the kubelet's folder.
pub const ACTUATED: &str = "actuated_pods_state";

/// Resources by pod.
#[derive(Debug, Default)]
pub struct State {
    entries: Entries,
    file: PathBuf,
    /// Of what the file says; zero without a file.
    checksum: u64,
    /// True if the file may say something else.
    dirty: bool,
}

impl State {
    /// Goes on with what the file in `folder` says.
    ///
    /// # Errors
    /// If it cannot be read or is damaged: what pods were promised is then not known, and the kubelet must not start.
    pub fn open(folder: &Path, name: &str) -> Result<Self, String> {
        let file = folder.join(name);
        let failed = |error: String| {
            format!(
                "could not restore state from checkpoint: {error}, please drain this node and delete pod resource information checkpoint file {:?} before restarting Kubelet",
                file.display().to_string()
            )
        };
        let (entries, checksum) = match fs::read_to_string(&file) {
            Ok(text) => checkpoint::read(&text).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Default::default(),
            Err(error) => return Err(failed(error.to_string())),
        };
        Ok(Self { entries, file, checksum, dirty: true })
    }

    /// What is known of a pod.
    pub fn get(&self, uid: &str) -> Option<&Arc<PodResources>> {
        self.entries.get(uid)
    }

    /// What is known of a container.
    pub fn container(&self, uid: &str, name: &str) -> Option<&ResourceRequirements> {
        self.get(uid)?.containers.get(name)
    }

    /// Takes what a pod has now.
    ///
    /// # Errors
    /// If the file cannot be written; what is in memory holds all the same.
    pub fn set(&mut self, uid: &str, resources: Arc<PodResources>) -> Result<(), String> {
        if self.entries.get(uid) != Some(&resources) {
            self.entries.insert(uid.to_owned(), resources);
            self.dirty = true;
        }
        self.store()
    }

    /// Takes what a container has now.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn set_container(
        &mut self,
        uid: &str,
        name: &str,
        resources: &ResourceRequirements,
    ) -> Result<(), String> {
        let mut all = self.entries.get(uid).map(|known| known.as_ref().clone()).unwrap_or_default();
        all.containers.insert(name.to_owned(), settled(resources));
        self.set(uid, Arc::new(all))
    }

    /// Takes what a pod as a whole has now.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn set_pod_level(&mut self, uid: &str, resources: &ResourceRequirements) -> Result<(), String> {
        let mut all = self.entries.get(uid).map(|known| known.as_ref().clone()).unwrap_or_default();
        all.pod = Some(settled(resources));
        self.set(uid, Arc::new(all))
    }

    /// Forgets a pod.
    pub fn remove(&mut self, uid: &str) {
        self.dirty |= self.entries.remove(uid).is_some();
    }

    /// Forgets pods that are not to be kept.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let before = self.entries.len();
        self.entries.retain(|uid, _| keep(uid));
        self.dirty |= self.entries.len() != before;
    }

    #[cfg(test)]
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// As [`Self::set`] without a file.
    #[cfg(test)]
    pub fn keep(&mut self, uid: &str, resources: Arc<PodResources>) {
        self.entries.insert(uid.to_owned(), resources);
    }

    fn store(&mut self) -> Result<(), String> {
        if !self.dirty {
            return Ok(());
        }
        let (text, checksum) = checkpoint::write(&self.entries);
        if checksum != self.checksum {
            replace(&self.file, &text).map_err(|error| {
                format!("cannot write what pods were given to {}: {error}", self.file.display())
            })?;
            self.checksum = checksum;
        }
        self.dirty = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(cpu: &str) -> Arc<PodResources> {
        let requests =
            [("cpu".to_owned(), k8s_openapi::apimachinery::pkg::api::resource::Quantity(cpu.into()))];
        let all = ResourceRequirements { requests: Some(requests.into()), ..Default::default() };
        Arc::new(PodResources { containers: [("c".to_owned(), all)].into(), ..Default::default() })
    }

    #[test]
    fn is_written_when_it_changed() {
        let folder = std::env::temp_dir().join(format!("allocation-state-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join(ALLOCATED);
        let read = || fs::read_to_string(&file).unwrap_or_default();
        let mut state = State::open(&folder, ALLOCATED).unwrap();
        state.set("a", some("1")).unwrap();
        state.set("b", some("2")).unwrap();
        let two = read();
        fs::remove_file(&file).unwrap();
        state.set("a", some("1")).unwrap();
        assert_eq!(read(), "");
        fs::write(&file, &two).unwrap();
        state.remove("b");
        assert_eq!(read(), two);
        state.set("a", some("1")).unwrap();
        assert!(!read().contains("\\\"b\\\"") && read().contains("\\\"a\\\""));
        let again = State::open(&folder, ALLOCATED).unwrap();
        assert_eq!((again.get("a"), again.get("b")), (Some(&some("1")), None));
        fs::write(&file, two.replace("cpu", "gpu")).unwrap();
        let error = State::open(&folder, ALLOCATED).unwrap_err();
        assert!(error.contains("checkpoint is corrupted") && error.contains(ALLOCATED), "{error}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
