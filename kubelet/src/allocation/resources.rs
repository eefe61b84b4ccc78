//! The resources of one pod that may change while it runs, and a pod's spec with them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use component::features::{self, Gate};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use machinery::quantity::Quantity as Number;

use crate::pod::resources::Quantities;
use crate::pod::view::{PodView, init_containers};

/// What a pod was promised, or what is in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodResources {
    /// By container.
    pub containers: BTreeMap<String, ResourceRequirements>,
    /// Of the pod as a whole.
    pub pod: Option<ResourceRequirements>,
    /// Sizes of volumes in memory; see the module's text.
    pub volumes: Option<BTreeMap<String, Option<Quantity>>>,
}

/// Whether resources of a pod as a whole may change.
pub fn changes_pod_level() -> bool {
    features::enabled(Gate::InPlacePodLevelResourcesVerticalScaling)
}

/// A quantity as files have it; `None` if the text is none.
pub fn canonical(quantity: &Quantity) -> Option<Quantity> {
    Number::parse(&quantity.0).ok().map(|number| Quantity(number.canonical()))
}

/// Resources with quantities as files have them. Text that is no quantity stays: the API server lets none pass.
pub fn settled(resources: &ResourceRequirements) -> ResourceRequirements {
    let list = |list: &Option<Quantities>| {
        let one = |(name, q): (&String, &Quantity)| (name.clone(), canonical(q).unwrap_or_else(|| q.clone()));
        list.as_ref().map(|list| list.iter().map(one).collect())
    };
    ResourceRequirements {
        limits: list(&resources.limits),
        requests: list(&resources.requests),
        claims: resources.claims.clone(),
    }
}

/// A pod's containers of which resources may change, init containers first.
pub fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    init_containers(pod.spec()).iter().chain(&pod.spec().containers)
}

/// True if two quantities are the same amount.
pub fn same_amount(a: &Quantity, b: &Quantity) -> bool {
    a == b
        || match (Number::parse(&a.0), Number::parse(&b.0)) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        }
}

fn same_list(a: Option<&Quantities>, b: Option<&Quantities>) -> bool {
    let empty = Quantities::new();
    let (a, b) = (a.unwrap_or(&empty), b.unwrap_or(&empty));
    a.len() == b.len() && a.iter().all(|(name, q)| b.get(name).is_some_and(|other| same_amount(q, other)))
}

/// True if two mean the same, however they are written.
pub fn same(a: &ResourceRequirements, b: &ResourceRequirements) -> bool {
    same_list(a.limits.as_ref(), b.limits.as_ref())
        && same_list(a.requests.as_ref(), b.requests.as_ref())
        && a.claims.as_deref().unwrap_or_default() == b.claims.as_deref().unwrap_or_default()
}

/// As [`same`] of what pods as a whole have; nothing differs from an empty one, as upstream.
pub fn same_pod_level(a: Option<&ResourceRequirements>, b: Option<&ResourceRequirements>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same(a, b),
        (a, b) => a.is_none() == b.is_none(),
    }
}

/// A container's resources; absent ones are empty.
pub fn of_container(container: &Container) -> Cow<'_, ResourceRequirements> {
    container.resources.as_ref().map_or_else(|| Cow::Owned(ResourceRequirements::default()), Cow::Borrowed)
}

impl PodResources {
    /// What the pod's spec says. Upstream: ResourceInfoForPod.
    pub fn of(pod: &Pod) -> Self {
        let one = |c: &Container| (c.name.clone(), settled(&of_container(c)));
        Self {
            containers: containers(pod).map(one).collect(),
            pod: pod.spec().resources.as_ref().filter(|_| changes_pod_level()).map(settled),
            volumes: None,
        }
    }

    fn fits(&self, container: &Container) -> bool {
        self.containers.get(&container.name).is_none_or(|known| same(known, &of_container(container)))
    }

    /// The pod with these resources; `None` if it has them. Upstream: updatePodFromAllocation.
    pub fn apply(&self, pod: &Pod) -> Option<Arc<Pod>> {
        let levels = changes_pod_level();
        let same_level = !levels || same_pod_level(pod.spec().resources.as_ref(), self.pod.as_ref());
        if same_level && containers(pod).all(|container| self.fits(container)) {
            return None;
        }
        let mut out = pod.clone();
        let spec = out.spec.get_or_insert_default();
        if levels {
            spec.resources.clone_from(&self.pod);
        }
        for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
            if !self.fits(container) {
                container.resources = self.containers.get(&container.name).cloned();
            }
        }
        Some(Arc::new(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(container: Value, level: Value) -> Pod {
        serde_json::from_value(json!({"spec": {"resources": level,
            "containers": [{"name": "c", "resources": container}]}}))
        .unwrap()
    }

    #[test]
    fn only_what_differs_is_replaced() {
        let cpu = |cpu: &str| json!({"requests": {"cpu": cpu}});
        let known = PodResources::of(&pod(cpu("1000m"), Value::Null));
        assert_eq!(known.containers["c"].requests.as_ref().unwrap()["cpu"], Quantity("1".into()));
        assert!(known.apply(&pod(cpu("1"), Value::Null)).is_none());
        let changed = known.apply(&pod(cpu("2"), Value::Null)).unwrap();
        assert_eq!(changed.spec().containers[0].resources.as_ref(), known.containers.get("c"));
        let level = known.apply(&pod(cpu("1"), cpu("3"))).unwrap();
        assert_eq!(level.spec().resources, None);
        let other: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "x"}]}})).unwrap();
        assert!(known.apply(&other).is_none());
        assert!(!same_pod_level(None, Some(&ResourceRequirements::default())));
        let empty = ResourceRequirements { limits: Some(Quantities::new()), ..Default::default() };
        assert!(same(&empty, &ResourceRequirements::default()));
    }
}
