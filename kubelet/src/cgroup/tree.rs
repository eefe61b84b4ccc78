//! Names of the control groups of pods. Upstream: pkg/kubelet/cm/pod_container_manager_linux.go, v1.37.

use crate::pod::qos::QosClass;

/// The group of all pods, below the configured root.
pub const PODS: &str = "kubepods";
/// Prefix of a pod's group.
const POD_PREFIX: &str = "pod";

/// Path of a service class's group below the configured root.
pub fn class(class: QosClass) -> String {
    match class {
        QosClass::Guaranteed => PODS.to_owned(),
        QosClass::Burstable => format!("{PODS}/burstable"),
        QosClass::BestEffort => format!("{PODS}/besteffort"),
    }
}

/// Path of a pod's group below the configured root.
pub fn pod(qos: QosClass, uid: &str) -> String {
    format!("{}/{POD_PREFIX}{uid}", class(qos))
}

/// The pod that a group belongs to, from the last part of its path.
pub fn pod_of(name: &str) -> Option<&str> {
    name.strip_prefix(POD_PREFIX).filter(|uid| !uid.is_empty() && *uid != "s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(pod(QosClass::Guaranteed, "u"), "kubepods/podu");
        assert_eq!(pod(QosClass::BestEffort, "u"), "kubepods/besteffort/podu");
        assert_eq!(pod_of("podu"), Some("u"));
        assert_eq!(pod_of("burstable"), None);
    }
}
