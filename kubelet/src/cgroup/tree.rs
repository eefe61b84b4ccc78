//! Names of the control groups of pods. Upstream: pkg/kubelet/cm/pod_container_manager_linux.go, v1.37.

use super::name::CgroupName;
use crate::pod::qos::QosClass;

/// The group of all pods, below the configured root.
const PODS: &str = "kubepods";
/// Prefix of a pod's group.
const POD_PREFIX: &str = "pod";

/// The group of all pods.
pub fn pods(root: &CgroupName) -> CgroupName {
    root.child(PODS)
}

/// A service class's group.
pub fn class(root: &CgroupName, class: QosClass) -> CgroupName {
    match class {
        QosClass::Guaranteed => pods(root),
        QosClass::Burstable => pods(root).child("burstable"),
        QosClass::BestEffort => pods(root).child("besteffort"),
    }
}

/// A pod's group.
pub fn pod(root: &CgroupName, qos: QosClass, uid: &str) -> CgroupName {
    class(root, qos).child(&format!("{POD_PREFIX}{uid}"))
}

/// The pod that a group belongs to, from the last part of its name.
pub fn pod_of(name: &str) -> Option<&str> {
    name.strip_prefix(POD_PREFIX).filter(|uid| !uid.is_empty() && *uid != "s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let root = CgroupName::default();
        assert_eq!(pod(&root, QosClass::Guaranteed, "u").to_cgroupfs(), "/kubepods/podu");
        assert_eq!(pod(&root, QosClass::BestEffort, "u").to_cgroupfs(), "/kubepods/besteffort/podu");
        assert_eq!(pod_of("podu"), Some("u"));
        assert_eq!(pod_of("burstable"), None);
    }
}
