//! PodGroupProtection: pod groups are not removed while pods belong to them; a controller takes the finalizer off.
//! Upstream: `plugin/pkg/admission/scheduling/podgroupprotection/admission.go`.

use async_trait::async_trait;

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;
use crate::meta;

const FINALIZER: &str = "scheduling.k8s.io/podgroup-protection";

/// The plugin; it does nothing while the feature GenericWorkload is off.
pub struct PodGroupProtection;

#[async_trait]
impl Plugin for PodGroupProtection {
    fn name(&self) -> &'static str {
        "PodGroupProtection"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), ApiError> {
        if !(a.call.core.settings.gates.generic_workload && a.is("scheduling.k8s.io", "podgroups")) {
            return Ok(());
        }
        let Some(group) = a.object.as_mut() else { return Ok(()) };
        let mut finalizers: Vec<String> = meta::finalizers(group).into_iter().map(str::to_owned).collect();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
            meta::set_finalizers(group, finalizers);
        }
        Ok(())
    }
}
