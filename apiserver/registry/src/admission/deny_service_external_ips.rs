//! DenyServiceExternalIPs: services get no external IPs beyond those they have.
//! Upstream: `plugin/pkg/admission/network/denyserviceexternalips/admission.go`.

use async_trait::async_trait;
use machinery::Value;

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;

/// The plugin.
pub struct DenyServiceExternalIPs;

#[async_trait]
impl Plugin for DenyServiceExternalIPs {
    fn name(&self) -> &'static str {
        "DenyServiceExternalIPs"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        let Some(service) = a.object.as_ref().filter(|_| a.is("", "services")) else { return Ok(()) };
        if is_subset(service, a.old.as_ref()) {
            return Ok(());
        }
        Err(a.forbidden("Use of external IPs is denied by admission control"))
    }
}

fn is_subset(new: &Value, old: Option<&Value>) -> bool {
    let of = |service: &Value| service.list_at(&["spec", "externalIPs"]).cloned().unwrap_or_default();
    let present = old.map(of).unwrap_or_default();
    of(new).iter().all(|ip| present.contains(ip))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_address_is_added() {
        let service = |ips: &[&str]| Value::from(json!({"spec": {"externalIPs": ips}}));
        // New, old, whether it is allowed.
        type Case = (&'static [&'static str], Option<&'static [&'static str]>, bool);
        let cases: [Case; 9] = [
            (&[], None, true),
            (&["1.2.3.4"], None, false),
            (&[], Some(&[]), true),
            (&["1.2.3.4"], Some(&[]), false),
            (&["1.2.3.4"], Some(&["1.2.3.4"]), true),
            (&["1.2.3.4"], Some(&["1.2.3.4", "1.2.3.5"]), true),
            (&["1.2.3.4", "1.2.3.5"], Some(&["1.2.3.4"]), false),
            (&["1.2.3.5", "1.2.3.4"], Some(&["1.2.3.4", "1.2.3.5"]), true),
            (&["1.2.3.6"], Some(&["1.2.3.4"]), false),
        ];
        for (new, old, want) in cases {
            assert_eq!(is_subset(&service(new), old.map(service).as_ref()), want, "{new:?} {old:?}");
        }
        assert!(is_subset(&Value::from(json!({"spec": {}})), None));
    }
}
