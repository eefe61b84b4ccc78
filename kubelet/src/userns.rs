//! Ranges of user ids for pods with a user namespace of their own: one range per pod, kept in the pod's folder so that a
//! restart (or the other kubelet) finds it again. Upstream: pkg/kubelet/userns/userns_manager.go, v1.37.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::process::Command;

use cri::v1;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::paths::Paths;
use crate::pod::view::PodView;

/// Every range is a multiple of this.
const UNIT: u32 = 65_536;
/// User whose subordinate ids are for pods.
const USER: &str = "kubelet";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    host_id: u32,
    container_id: u32,
    length: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Mappings {
    uid_mappings: Vec<Mapping>,
    gid_mappings: Vec<Mapping>,
}

/// Hands out ranges.
pub struct UserNamespaces {
    paths: Paths,
    /// Ids per pod.
    length: u32,
    /// Ranges by number, the first and how many there are.
    first: u32,
    count: u32,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    by_pod: HashMap<String, u32>,
    by_number: BTreeMap<u32, String>,
}

impl UserNamespaces {
    /// Ranges out of `ids` (first and number); takes up what pods on disk have.
    ///
    /// # Errors
    /// If the ids cannot be divided into enough ranges, or a pod's file makes no sense.
    pub fn new(paths: Paths, length: u32, ids: (u32, u32), pods: u32) -> Result<Self, String> {
        let (from, number) = ids;
        if length == 0 || !length.is_multiple_of(UNIT) {
            return Err(format!("kubelet user namespace length {length} is not a multiple of {UNIT}"));
        }
        if from % length != 0 {
            return Err(format!("kubelet user assigned ID {from} is not a multiple of {length}"));
        }
        if from < length {
            return Err(format!("kubelet user assigned ID {from} must be greater or equal to {length}"));
        }
        if number % length != 0 {
            return Err(format!("kubelet user assigned IDs length {number} is not a multiple of {length}"));
        }
        if number / length < pods {
            return Err(format!("kubelet user assigned IDs are not enough to support {pods} pods"));
        }
        let all =
            Self { paths, length, first: from / length, count: number / length, used: Mutex::default() };
        let folders = std::fs::read_dir(all.paths.pods()).into_iter().flatten().flatten();
        for folder in folders {
            let uid = folder.file_name().to_string_lossy().into_owned();
            all.take_up(&uid).map_err(|e| format!("record pod mappings for existing pod {uid:?}: {e}"))?;
        }
        Ok(all)
    }

    fn file(&self, uid: &str) -> PathBuf {
        self.paths.pod(uid).join("userns")
    }

    /// The range that the pod's folder names, if it does.
    fn take_up(&self, uid: &str) -> Result<Option<u32>, String> {
        let text = match std::fs::read(self.file(uid)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| format!("cannot read {}: {e}", self.file(uid).display()))?,
        };
        let found: Mappings = serde_json::from_slice(&text)
            .map_err(|e| format!("invalid user namespace mappings file: {e}"))?;
        let number = self.check(&found)?;
        let mut used = self.used.lock();
        match used.by_number.get(&number) {
            Some(other) if other != uid => Err(format!("range picked for pod {uid:?} already taken")),
            _ => {
                used.by_number.insert(number, uid.to_owned());
                used.by_pod.insert(uid.to_owned(), number);
                Ok(Some(number))
            }
        }
    }

    fn check(&self, found: &Mappings) -> Result<u32, String> {
        let [mapping] = found.uid_mappings.as_slice() else {
            return Err("invalid user namespace configuration: no more than one mapping allowed.".to_owned());
        };
        if found.gid_mappings != found.uid_mappings {
            return Err(
                "invalid user namespace configuration: GID and UID mapping should be identical".to_owned()
            );
        }
        if mapping.container_id != 0 {
            return Err("invalid user namespace configuration: UID 0 must be mapped".to_owned());
        }
        if mapping.length != self.length {
            return Err(format!("wrong user namespace length {}", mapping.length));
        }
        if mapping.host_id % self.length != 0 {
            return Err(format!("wrong user namespace offset specified {}", mapping.host_id));
        }
        let number = mapping.host_id / self.length;
        if number < self.first || number - self.first >= self.count {
            return Err(format!("id {} is out of range", mapping.host_id));
        }
        Ok(number)
    }

    fn create(&self, uid: &str) -> Result<u32, String> {
        let mut used = self.used.lock();
        let free = (self.first..self.first + self.count).find(|number| !used.by_number.contains_key(number));
        let number = free.ok_or("could not find an empty slot to allocate a user namespace")?;
        let mapping = [Mapping { host_id: number * self.length, container_id: 0, length: self.length }];
        let mappings = Mappings { uid_mappings: mapping.to_vec(), gid_mappings: mapping.to_vec() };
        // On disk before it is in use, so that no crash lets two pods share a range.
        self.write(uid, &mappings).map_err(|e| format!("cannot write {}: {e}", self.file(uid).display()))?;
        used.by_number.insert(number, uid.to_owned());
        used.by_pod.insert(uid.to_owned(), number);
        Ok(number)
    }

    fn write(&self, uid: &str, mappings: &Mappings) -> io::Result<()> {
        use std::io::Write as _;
        let path = self.file(uid);
        let temporary = path.with_extension("tmp");
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(mappings)?)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        std::fs::File::open(self.paths.pod(uid))?.sync_all()
    }

    /// The user namespace of a pod as the runtime takes it. `supported` tells whether its handler can make one.
    ///
    /// # Errors
    /// If the handler cannot, or no range is left.
    pub fn of(&self, pod: &Pod, handler: &str, supported: bool) -> Result<v1::UserNamespace, String> {
        if pod.spec().host_users != Some(false) {
            return Ok(v1::UserNamespace { mode: v1::NamespaceMode::Node.into(), ..Default::default() });
        }
        if !supported {
            return Err(if handler.is_empty() {
                "can't set `spec.hostUsers: false`, runtime does not support user namespaces".to_owned()
            } else {
                format!(
                    "can't set `spec.hostUsers: false`, RuntimeClass handler {handler:?} does not support user namespaces"
                )
            });
        }
        let uid = pod.uid();
        let number = match self.take_up(uid).map_err(|e| format!("user namespace: {e}"))? {
            Some(number) => number,
            None => self.create(uid).map_err(|e| format!("create user namespace: {e}"))?,
        };
        let ids = vec![v1::IdMapping { host_id: number * self.length, container_id: 0, length: self.length }];
        Ok(v1::UserNamespace { mode: v1::NamespaceMode::Pod.into(), uids: ids.clone(), gids: ids })
    }

    /// Gives a pod's range back.
    pub fn release(&self, uid: &str) {
        let mut used = self.used.lock();
        let Some(number) = used.by_pod.remove(uid) else { return };
        used.by_number.remove(&number);
        // The folder goes anyway; a file that stays in it would only keep the range taken.
        let _ = std::fs::remove_file(self.file(uid));
    }
}

/// The ids that may be given to pods: those of the user `kubelet`, or all above the node's own.
///
/// # Errors
/// If that user exists and its ids cannot be found out.
pub fn available_ids(length: u32) -> Result<(u32, u32), String> {
    let all = (length, u32::MAX.wrapping_sub(length).wrapping_add(1));
    let user = nix::unistd::User::from_name(USER).map_err(|e| format!("cannot look up user {USER}: {e}"))?;
    if user.is_none() {
        return Ok(all);
    }
    let ask = |arguments: &[&str]| match Command::new("getsubids").args(arguments).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot run getsubids: {error}")),
        Ok(output) if output.status.success() => {
            Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
        }
        Ok(output) => Err(format!("error retrieving additional ids for user {USER:?}: {}", output.status)),
    };
    let (Some(uids), Some(gids)) = (ask(&[USER])?, ask(&["-g", USER])?) else { return Ok(all) };
    if uids != gids {
        return Err(format!("mismatched subuids and subgids for user {USER:?}"));
    }
    parse(&uids)
}

/// Reads `0: kubelet 65536 2147483648`.
fn parse(output: &str) -> Result<(u32, u32), String> {
    let mut lines = output.lines().filter(|line| !line.trim().is_empty());
    let wrong = || {
        format!(
            "error parsing getsubids output {output:?}: it must be one line like \"0: kubelet 65536 65536000\""
        )
    };
    let (Some(line), None) = (lines.next(), lines.next()) else { return Err(wrong()) };
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, USER, first, number] = words[..] else { return Err(wrong()) };
    Ok((first.parse().map_err(|_| wrong())?, number.parse().map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"uid": uid}, "spec": {"containers": [], "hostUsers": false}}),
        )
        .unwrap()
    }

    #[test]
    fn ranges_survive_and_are_not_shared() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths { root: dir.path().to_owned(), pod_logs: String::new() };
        for uid in ["a", "b", "c"] {
            std::fs::create_dir_all(paths.pod(uid)).unwrap();
        }
        let make = || UserNamespaces::new(paths.clone(), UNIT, (UNIT, 2 * UNIT), 2).unwrap();
        let host = |all: &UserNamespaces, uid: &str| all.of(&pod(uid), "", true).map(|n| n.uids[0].host_id);
        let all = make();
        assert_eq!((host(&all, "a"), host(&all, "b")), (Ok(65_536), Ok(131_072)));
        assert!(host(&all, "c").unwrap_err().contains("empty slot"));
        let again = make();
        assert_eq!(host(&again, "b"), Ok(131_072));
        again.release("a");
        assert_eq!(host(&again, "c"), Ok(65_536));
        let error = all.of(&pod("a"), "runsc", false).unwrap_err();
        assert!(error.contains("RuntimeClass handler \"runsc\" does not support"), "{error}");
        std::fs::copy(paths.pod("c").join("userns"), paths.pod("a").join("userns")).unwrap();
        assert!(host(&again, "a").unwrap_err().contains("already taken"));
    }

    #[test]
    fn refuses_bad_ids() {
        let paths = Paths { root: "/nonexistent".into(), pod_logs: String::new() };
        let new = |length, ids| UserNamespaces::new(paths.clone(), length, ids, 2).err().unwrap_or_default();
        assert!(new(1, (UNIT, UNIT)).contains("not a multiple of 65536"));
        assert!(new(UNIT, (UNIT + 1, UNIT)).contains("is not a multiple"));
        assert!(new(UNIT, (0, UNIT)).contains("must be greater"));
        assert!(new(UNIT, (UNIT, UNIT)).contains("not enough to support 2 pods"));
        assert_eq!(parse("0: kubelet 65536 7208960\n"), Ok((65_536, 7_208_960)));
        assert!(parse("0: kubelet 1 2\n1: kubelet 3 4\n").is_err());
    }
}
