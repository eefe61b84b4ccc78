//! Which device class stands behind an extended resource: nodes that do not offer the resource themselves may have
//! devices of the class. Upstream: dynamic-resource-allocation/deviceclass/extendedresourcecache. Differs from it in
//! one thing: a class that loses a name to a newer one keeps its implicit name whatever the order of events.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use k8s_openapi::api::resource::v1::DeviceClass;

type Hash = foldhash::fast::RandomState;

/// A class under the name that every class has. Upstream: resourceapi.ResourceDeviceClassPrefix.
const IMPLICIT: &str = "deviceclass.resource.kubernetes.io/";

/// The resource that stands for a class without further ado.
pub fn implicit(class: &str) -> String {
    format!("{IMPLICIT}{class}")
}

/// Upstream: pkg/apis/core/v1/helper IsExtendedResourceName.
pub fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.split('/').next().unwrap_or_default().ends_with("kubernetes.io")
}

/// Whether devices can stand behind a resource of this name. Upstream: schedutil.IsDRAExtendedResourceName.
pub fn may_be_devices(name: &str) -> bool {
    is_extended(name) || name.starts_with(IMPLICIT)
}

/// The classes that stand behind resources.
#[derive(Clone, Debug, Default)]
pub struct Backing {
    classes: BTreeMap<String, Arc<DeviceClass>>,
    /// Names of classes by the resource they name.
    explicit: HashMap<String, String, Hash>,
}

impl Backing {
    /// A class came, changed or went (`None`). Whether that changes what stands behind a resource.
    pub fn set(&mut self, name: &str, class: Option<Arc<DeviceClass>>) -> bool {
        let new = class.is_some();
        let old = match class {
            Some(class) => self.classes.insert(name.to_string(), class),
            None => self.classes.remove(name),
        };
        let explicit = self.chosen();
        let changed = old.is_some() != new || explicit != self.explicit;
        self.explicit = explicit;
        changed
    }

    /// Of classes with one resource's name the newest, of equally new ones the first by name.
    fn chosen(&self) -> HashMap<String, String, Hash> {
        let mut chosen: HashMap<String, String, Hash> = HashMap::default();
        let made = |c: &DeviceClass| c.metadata.creation_timestamp.as_ref().map(|t| t.0);
        for (name, class) in &self.classes {
            let Some(resource) = &class.spec.as_ref().and_then(|s| s.extended_resource_name.as_ref()) else {
                continue;
            };
            let known = chosen.get(*resource).and_then(|known| self.classes.get(known));
            if known.is_none_or(|known| made(class) > made(known)) {
                chosen.insert((*resource).clone(), name.clone());
            }
        }
        chosen
    }

    /// Name of the class behind a resource.
    pub fn class_of(&self, resource: &str) -> Option<&str> {
        let implicit = || {
            let class = resource.strip_prefix(IMPLICIT)?;
            self.classes.get_key_value(class).map(|(name, _)| name.as_str())
        };
        self.explicit.get(resource).map(String::as_str).or_else(implicit)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_class_stands_behind_a_name() {
        let mut backing = Backing::default();
        let mut set = |name: &str, day: u32, resource: Option<&str>| {
            let class = json!({
                "metadata": { "name": name, "creationTimestamp": format!("2026-01-0{day}T00:00:00Z") },
                "spec": { "extendedResourceName": resource },
            });
            let class = serde_json::from_value(class).unwrap();
            let changed = backing.set(name, Some(Arc::new(class)));
            (changed, backing.class_of("example.com/gpu").map(str::to_string))
        };
        assert_eq!(set("b", 2, Some("example.com/gpu")), (true, Some("b".into())));
        assert_eq!(set("a", 1, Some("example.com/gpu")), (true, Some("b".into())));
        assert_eq!(set("a", 2, Some("example.com/gpu")), (true, Some("a".into())));
        assert_eq!(set("a", 3, Some("example.com/gpu")), (false, Some("a".into())));
        assert_eq!(set("a", 3, None), (true, Some("b".into())));
        assert!(backing.set("b", None));
        assert_eq!(backing.class_of("example.com/gpu"), None);
        assert_eq!(backing.class_of("deviceclass.resource.kubernetes.io/a"), Some("a"));
        assert_eq!(backing.class_of("deviceclass.resource.kubernetes.io/b"), None);
    }
}
