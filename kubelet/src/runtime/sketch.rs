//! What is on the runtime, in as few words as show that something changed. Start reading at [`sketch`].
//!
//! Runtimes without events are asked for this every second, so only a few fields of their answers are read, and of what
//! was known before nothing is replaced ([`update`]). Upstream: GetPods in pkg/kubelet/kuberuntime/kuberuntime_manager.go.

use std::collections::HashMap;

use cri::{brief, v1};

use super::labels;

/// What the runtime has of one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSketch {
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// Sandboxes, ordered by id.
    pub sandboxes: Vec<SketchSandbox>,
    /// Containers, ordered by id.
    pub containers: Vec<SketchContainer>,
}

/// A sandbox in a [`PodSketch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SketchSandbox {
    /// The runtime's id.
    pub id: String,
    /// True if its namespaces are up.
    pub ready: bool,
    /// Nanoseconds since 1970.
    pub created_at: i64,
}

/// A container in a [`PodSketch`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SketchContainer {
    /// The runtime's id.
    pub id: String,
    /// State.
    pub state: i32,
    /// Name in the spec.
    pub name: String,
    /// How many of that name there were before it.
    pub attempt: u32,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// Sandbox that it belongs to.
    pub sandbox: String,
    /// Image reference.
    pub image: String,
}

/// What there is of each pod, by the pod's id.
pub type Sketches = HashMap<String, PodSketch>;

/// All pods that have something on the runtime.
///
/// # Errors
/// If the runtime does not answer.
pub async fn sketch(cri: &cri::Client) -> cri::Result<Sketches> {
    let (sandboxes, containers) = tokio::try_join!(cri.sandboxes(), cri.containers())?;
    let (mut out, rest) = assemble(sandboxes, containers);
    if !rest.is_empty() {
        // Between two answers sandboxes come and go; labels tell whose their containers are.
        let all = cri.list_containers(v1::ListContainersRequest::default()).await?.containers;
        let known: HashMap<&str, &v1::Container> = all.iter().map(|c| (c.id.as_str(), c)).collect();
        for container in rest {
            let Some(full) = known.get(container.id.as_str()) else { continue };
            let label = |key: &str| full.labels.get(key).cloned().unwrap_or_default();
            let pod = out.entry(label(labels::POD_UID)).or_default();
            if pod.name.is_empty() {
                pod.name = label(labels::POD_NAME);
                pod.namespace = label(labels::POD_NAMESPACE);
            }
            pod.containers.push(container);
        }
    }
    out.remove("");
    // Runtimes answer in any order.
    for pod in out.values_mut() {
        pod.sandboxes.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        pod.containers.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    }
    Ok(out)
}

/// Pods from what the runtime lists, and the containers whose sandbox is not listed.
fn assemble(
    sandboxes: Vec<brief::PodSandbox>,
    containers: Vec<brief::Container>,
) -> (Sketches, Vec<SketchContainer>) {
    let mut by_sandbox: HashMap<String, Vec<SketchContainer>> = HashMap::with_capacity(containers.len());
    for container in containers {
        let metadata = container.metadata.unwrap_or_default();
        let sketch = SketchContainer {
            id: container.id,
            state: container.state,
            name: metadata.name,
            attempt: metadata.attempt,
            created_at: container.created_at,
            sandbox: container.pod_sandbox_id,
            image: container.image_ref,
        };
        match by_sandbox.get_mut(&sketch.sandbox) {
            Some(list) => list.push(sketch),
            None => drop(by_sandbox.insert(sketch.sandbox.clone(), vec![sketch])),
        }
    }
    let mut out = Sketches::with_capacity(sandboxes.len());
    for sandbox in sandboxes {
        let Some(metadata) = sandbox.metadata else { continue };
        let pod = out.entry(metadata.uid).or_default();
        pod.name = metadata.name;
        pod.namespace = metadata.namespace;
        if let Some(mut list) = by_sandbox.remove(&sandbox.id) {
            pod.containers.append(&mut list);
        }
        let ready = sandbox.state == i32::from(v1::PodSandboxState::SandboxReady);
        pod.sandboxes.push(SketchSandbox { id: sandbox.id, ready, created_at: sandbox.created_at });
    }
    (out, by_sandbox.into_values().flatten().collect())
}

/// Takes over what is other than it was; the ids of the pods of which that is so.
pub fn update(known: &mut Sketches, now: Sketches) -> Vec<String> {
    let mut changed: Vec<String> = known.keys().filter(|uid| !now.contains_key(*uid)).cloned().collect();
    known.retain(|uid, _| now.contains_key(uid));
    for (uid, mut pod) in now {
        if known.get(&uid) == Some(&pod) {
            continue;
        }
        pod.sandboxes.shrink_to_fit();
        pod.containers.shrink_to_fit();
        changed.push(uid.clone());
        known.insert(uid, pod);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(id: &str, uid: &str) -> brief::PodSandbox {
        let metadata =
            brief::PodSandboxMetadata { name: uid.to_uppercase(), uid: uid.into(), namespace: "n".into() };
        brief::PodSandbox { id: id.into(), metadata: Some(metadata), state: 0, created_at: 1 }
    }

    fn container(id: &str, sandbox: &str) -> brief::Container {
        let metadata = brief::ContainerMetadata { name: format!("name of {id}"), attempt: 2 };
        brief::Container {
            id: id.into(),
            pod_sandbox_id: sandbox.into(),
            metadata: Some(metadata),
            state: 1,
            ..Default::default()
        }
    }

    #[test]
    fn containers_go_to_the_pods_of_their_sandboxes() {
        let (pods, rest) = assemble(
            vec![sandbox("s1", "u"), sandbox("s2", "v"), sandbox("s3", "u")],
            vec![container("c1", "s1"), container("c2", "s3"), container("c3", "s4"), container("c4", "s1")],
        );
        let ids = |uid: &str| {
            let mut ids: Vec<_> = pods[uid].containers.iter().map(|c| c.id.as_str()).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!((ids("u"), ids("v")), (vec!["c1", "c2", "c4"], vec![]));
        assert_eq!((pods["u"].sandboxes.len(), pods["u"].name.as_str()), (2, "U"));
        assert!(pods["u"].sandboxes[0].ready);
        assert_eq!(rest.iter().map(|c| (c.id.as_str(), c.attempt)).collect::<Vec<_>>(), [("c3", 2)]);
    }

    #[test]
    fn only_changes_are_taken_over() {
        let pods = |list: &[(&str, i32)]| -> Sketches {
            let pod = |state: i32| PodSketch {
                containers: vec![SketchContainer { state, ..SketchContainer::default() }],
                ..PodSketch::default()
            };
            list.iter().map(|(uid, state)| ((*uid).to_owned(), pod(*state))).collect()
        };
        let mut known = Sketches::new();
        let mut step = |now: &[(&str, i32)]| {
            let mut changed = update(&mut known, pods(now));
            changed.sort_unstable();
            assert_eq!(known, pods(now));
            changed
        };
        assert_eq!(step(&[("a", 1), ("b", 1)]), ["a", "b"]);
        assert!(step(&[("a", 1), ("b", 1)]).is_empty());
        assert_eq!(step(&[("b", 2), ("c", 1)]), ["a", "b", "c"]);
    }
}
