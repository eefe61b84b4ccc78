//! AlwaysPullImages: a pod pulls its images anew, so that only who has the credentials of a private image runs it.
//! Upstream: `plugin/pkg/admission/alwayspullimages/admission.go`.

use std::collections::BTreeSet;

use ::api::validation::field::{Error, Path};
use async_trait::async_trait;
use machinery::Value;

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;

/// In the order in which containers are visited.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// The plugin.
pub struct AlwaysPullImages;

#[async_trait]
impl Plugin for AlwaysPullImages {
    fn name(&self) -> &'static str {
        "AlwaysPullImages"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), ApiError> {
        if ignores(a) {
            return Ok(());
        }
        if let Some(pod) = a.object.as_mut() {
            pull_always(pod);
        }
        Ok(())
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        let Some(pod) = a.object.as_ref().filter(|_| !ignores(a)) else { return Ok(()) };
        let texts: Vec<String> = others(pod).iter().map(|error| a.forbidden(error).message).collect();
        match texts.as_slice() {
            [] => Ok(()),
            // An aggregate has no status of its own.
            [one] => Err(ApiError::new(500, "", one.clone())),
            all => Err(ApiError::new(500, "", format!("[{}]", all.join(", ")))),
        }
    }
}

fn ignores(a: &Attributes<'_>) -> bool {
    if !a.is("", "pods") {
        return true;
    }
    match (&a.object, &a.old) {
        (Some(pod), Some(old)) if a.operation == Operation::Update => images(pod).is_subset(&images(old)),
        _ => false,
    }
}

fn images(pod: &Value) -> BTreeSet<&str> {
    let all = CONTAINERS.iter().filter_map(|list| pod.list_at(&["spec", list])).flat_map(|list| list.iter());
    all.map(|container| container.str_at(&["image"]).unwrap_or_default()).collect()
}

fn pull_always(pod: &mut Value) {
    for list in CONTAINERS {
        let containers = pod.get_path_mut(&["spec", list]).and_then(Value::as_list_mut);
        for container in containers.into_iter().flat_map(|list| list.iter_mut()) {
            if let Some(container) = container.as_map_mut() {
                container.insert("imagePullPolicy", "Always");
            }
        }
    }
    let volumes = pod.get_path_mut(&["spec", "volumes"]).and_then(Value::as_list_mut);
    for volume in volumes.into_iter().flat_map(|list| list.iter_mut()) {
        if let Some(image) = volume.get_mut("image").and_then(Value::as_map_mut) {
            image.insert("pullPolicy", "Always");
        }
    }
}

/// What does not pull always.
fn others(pod: &Value) -> Vec<Error> {
    let spec = Path::new("spec");
    let mut found = Vec::new();
    let mut check = |policy: Option<&str>, path: &Path<'_>| {
        let policy = policy.unwrap_or_default();
        if policy != "Always" {
            found.push(Error::not_supported(path, policy, &["Always"]));
        }
    };
    for list in CONTAINERS {
        let at = spec.child(list);
        let containers = pod.list_at(&["spec", list]).into_iter().flat_map(|list| list.iter());
        for (index, container) in containers.enumerate() {
            check(container.str_at(&["imagePullPolicy"]), &at.index(index).child("imagePullPolicy"));
        }
    }
    let volumes = pod.list_at(&["spec", "volumes"]).into_iter().flat_map(|list| list.iter());
    for (index, volume) in volumes.enumerate() {
        if let Some(image) = volume.get("image").filter(|image| !image.is_null()) {
            let policy = image.str_at(&["pullPolicy"]);
            check(policy, &spec.child("volumes").index(index).child("image").child("pullPolicy"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_pulls_always() {
        let mut pod = Value::from(json!({"spec": {
            "initContainers": [{"name": "init", "image": "a"}, {"name": "late", "imagePullPolicy": "Never"}],
            "containers": [{"name": "main", "imagePullPolicy": "IfNotPresent"}],
            "ephemeralContainers": [{"name": "debug"}],
            "volumes": [{"name": "v", "image": {"reference": "b"}}, {"name": "w", "emptyDir": {}}]}}));
        let texts: Vec<String> = others(&pod).iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 5);
        assert_eq!(
            texts[1],
            "spec.initContainers[1].imagePullPolicy: Unsupported value: \"Never\": supported values: \"Always\""
        );
        assert_eq!(
            texts[4],
            "spec.volumes[0].image.pullPolicy: Unsupported value: \"\": supported values: \"Always\""
        );
        pull_always(&mut pod);
        assert!(others(&pod).is_empty());
        assert_eq!(pod.get_path(&["spec", "volumes"]).unwrap().as_list().unwrap()[1].get("image"), None);
    }

    #[test]
    fn images_are_a_set() {
        let pod = |images: &[&str]| {
            let containers: Vec<_> = images.iter().map(|image| json!({"image": image})).collect();
            Value::from(json!({"spec": {"containers": containers}}))
        };
        assert!(images(&pod(&["a"])).is_subset(&images(&pod(&["b", "a"]))));
        assert!(!images(&pod(&["c"])).is_subset(&images(&pod(&["b", "a"]))));
    }
}
