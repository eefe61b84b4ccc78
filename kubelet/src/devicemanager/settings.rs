//! What plugins want in a container. Upstream: deviceRunContainerOptions in pod_devices.go.

use std::collections::{BTreeMap, BTreeSet};

use cri::v1;

use super::state::Given;

/// What a container gets besides what its pod says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceSettings {
    /// Environment; what the pod says counts more.
    pub envs: BTreeMap<String, String>,
    /// Mounts.
    pub mounts: Vec<v1::Mount>,
    /// Device files.
    pub devices: Vec<v1::Device>,
    /// Annotations; the kubelet's own count more.
    pub annotations: BTreeMap<String, String>,
    /// Devices that the runtime knows by name.
    pub cdi_devices: Vec<v1::CdiDevice>,
}

/// All that the answers of plugins say for one container. Of two that disagree the first counts, by name of the resource.
pub fn settings<'a>(given: impl Iterator<Item = &'a Given>) -> DeviceSettings {
    let mut out = DeviceSettings::default();
    let (mut mounts, mut devices, mut names) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for answer in given.map(|g| &g.answer) {
        for (all, new) in [(&mut out.envs, &answer.envs), (&mut out.annotations, &answer.annotations)] {
            for (key, value) in new {
                let known = all.entry(key.clone()).or_insert_with(|| value.clone());
                if known != value {
                    tracing::error!(key, known, value, "Device plugins disagree");
                }
            }
        }
        for device in answer.devices.iter().filter(|d| devices.insert(d.container_path.clone())) {
            out.devices.push(v1::Device {
                container_path: device.container_path.clone(),
                host_path: device.host_path.clone(),
                permissions: device.permissions.clone(),
            });
        }
        for mount in answer.mounts.iter().filter(|m| mounts.insert(m.container_path.clone())) {
            out.mounts.push(v1::Mount {
                container_path: mount.container_path.clone(),
                host_path: mount.host_path.clone(),
                readonly: mount.read_only,
                ..v1::Mount::default()
            });
        }
        for device in answer.cdi_devices.iter().filter(|d| names.insert(d.name.clone())) {
            out.cdi_devices.push(v1::CdiDevice { name: device.name.clone() });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use deviceplugin::v1beta1::{CdiDevice, ContainerAllocateResponse, DeviceSpec, Mount};

    #[test]
    fn the_first_counts() {
        let one = |host: &str, name: &str| Given {
            answer: ContainerAllocateResponse {
                envs: [("E".to_owned(), host.to_owned())].into(),
                mounts: vec![Mount { container_path: "/m".into(), host_path: host.into(), read_only: true }],
                devices: vec![DeviceSpec {
                    container_path: format!("/dev/{name}"),
                    host_path: host.into(),
                    permissions: "rw".into(),
                }],
                annotations: [(name.to_owned(), host.to_owned())].into(),
                cdi_devices: vec![CdiDevice { name: "v/c=1".into() }, CdiDevice { name: name.into() }],
            },
            ..Given::default()
        };
        let found = settings([one("/a", "x"), one("/b", "y")].iter());
        assert_eq!(found.envs, [("E".to_owned(), "/a".to_owned())].into());
        assert_eq!(found.mounts.len(), 1);
        assert!(found.mounts[0].host_path == "/a" && found.mounts[0].readonly);
        let devices: Vec<_> = found.devices.iter().map(|d| (&*d.container_path, &*d.host_path)).collect();
        assert_eq!(devices, [("/dev/x", "/a"), ("/dev/y", "/b")]);
        assert_eq!(found.annotations.len(), 2);
        let names: Vec<_> = found.cdi_devices.iter().map(|d| &*d.name).collect();
        assert_eq!(names, ["v/c=1", "x", "y"]);
    }
}
