//! Rules of single fields that upstream implements in code: all are about names and priorities that are reserved for
//! Kubernetes' own requesters and responders of evictions.
//! Upstream: `pkg/apis/core/v1/validation.go`, `pkg/apis/lifecycle/v1alpha1/validation.go`.

use machinery::Value;

use super::{Error, Path};

/// `reservedKubernetesRespondersPriority`.
const RESERVED: i64 = 1000;

/// What is wrong with the name or priority of a responder, or the name of a requester.
pub(super) fn check(value: &Value, path: &Path<'_>) -> Option<Error> {
    match value {
        Value::Str(name) if is_reserved(name) => {
            let detail = "domain names *.k8s.io, *.kubernetes.io are reserved";
            Some(Error::invalid(path, name.as_str(), detail))
        }
        Value::Int(priority) if (0..RESERVED).contains(priority) => {
            let detail = "priorities 0-999 are reserved for responders with *.k8s.io suffix";
            Some(Error::invalid(path, *priority, detail))
        }
        _ => None,
    }
}

/// `ValidateForbiddenReservedDomainSuffixes`.
fn is_reserved(name: &str) -> bool {
    let domain = name.split('/').next().unwrap_or_default().to_lowercase();
    let domain = domain.trim().trim_end_matches('.');
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|own| domain.strip_suffix(own).is_some_and(|before| before.is_empty() || before.ends_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_and_priorities() {
        let wrong = |value: Value| check(&value, &Path::new("x")).is_some();
        for name in ["k8s.io/a", "a.k8s.io/b", " A.Kubernetes.IO. /x", "kubernetes.io"] {
            assert!(wrong(name.into()), "{name}");
        }
        for name in ["ak8s.io/a", "example.com/k8s.io", ""] {
            assert!(!wrong(name.into()), "{name}");
        }
        assert!(wrong(0_i64.into()) && wrong(999_i64.into()));
        assert!(!wrong(1000_i64.into()) && !wrong((-1_i64).into()));
    }
}
