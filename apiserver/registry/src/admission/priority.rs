//! Priority: turns the name of a priority class into the number that the scheduler uses, in pods, pod groups and
//! composite pod groups. Upstream: `plugin/pkg/admission/priority/admission.go`.

use async_trait::async_trait;
use machinery::Value;

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;
use crate::meta;

fn write(object: &mut Value, path: &[&str], value: impl Into<Value>) -> Result<(), ApiError> {
    object.set_path(path, value).map(|_| ()).map_err(ApiError::internal)
}

/// The plugin.
pub struct Priority;

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Connect
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), ApiError> {
        match (Prioritized::of(a), a.operation) {
            (Some(kind), Operation::Create) => set_priority(a, kind).await,
            (Some(Prioritized::Pod), Operation::Update) => keep_priority(a),
            _ => Ok(()),
        }
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        if !a.is("scheduling.k8s.io", "priorityclasses") || a.operation == Operation::Delete {
            return Ok(());
        }
        let Some(class) = a.object.as_ref().filter(|c| c.bool_at(&["globalDefault"]) == Some(true)) else {
            return Ok(());
        };
        let all = a.call.core.find_all("scheduling.k8s.io", "priorityclasses", "").await?;
        let other = all
            .iter()
            .find(|c| c.bool_at(&["globalDefault"]) == Some(true) && meta::name(c) != meta::name(class));
        match other {
            Some(other) => Err(a.forbidden(format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                meta::name(other)
            ))),
            None => Ok(()),
        }
    }
}

/// What has a priority.
#[derive(Clone, Copy, PartialEq)]
enum Prioritized {
    Pod,
    PodGroup,
    CompositePodGroup,
}

impl Prioritized {
    fn of(a: &Attributes<'_>) -> Option<Self> {
        let gates = &a.call.core.settings.gates;
        if a.is("", "pods") {
            Some(Self::Pod)
        } else if a.is("scheduling.k8s.io", "podgroups") && gates.generic_workload {
            Some(Self::PodGroup)
        } else if a.is("scheduling.k8s.io", "compositepodgroups") && gates.composite_pod_group {
            Some(Self::CompositePodGroup)
        } else {
            None
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::PodGroup => "pod group",
            Self::CompositePodGroup => "composite pod group",
        }
    }

    /// Why a number that was sent is refused.
    fn other_priority(self, sent: i64, computed: i64) -> String {
        match self {
            Self::Pod => format!(
                "the integer value of priority ({sent}) must not be provided in pod spec; priority admission controller computed {computed} from the given PriorityClass name"
            ),
            _ => format!(
                "priority set in the {} ({sent}) must match the priority computed ({computed}) based on the priority class set in the spec",
                self.name()
            ),
        }
    }
}

/// What was found out on creation stays, when clients do not know it.
fn keep_priority(a: &mut Attributes<'_>) -> Result<(), ApiError> {
    for path in [["spec", "priority"], ["spec", "preemptionPolicy"]] {
        let old = a.old.as_ref().and_then(|o| o.get_path(&path)).filter(|v| !v.is_null());
        if let (Some(pod), Some(old)) = (a.object.as_mut(), old.cloned())
            && pod.get_path(&path).is_none_or(Value::is_null)
        {
            write(pod, &path, old)?;
        }
    }
    Ok(())
}

/// The class that is asked for, or the default one, if there is one.
async fn class_of(a: &Attributes<'_>, asked: &str) -> Result<Option<Value>, ApiError> {
    if asked.is_empty() {
        let all = a.call.core.find_all("scheduling.k8s.io", "priorityclasses", "").await?;
        // Of several defaults (they can slip in at the same time) the lowest counts.
        let defaults = all.into_iter().filter(|c| c.bool_at(&["globalDefault"]) == Some(true));
        return Ok(defaults.min_by_key(|c| c.i64_at(&["value"]).unwrap_or(0)));
    }
    let found = a.call.core.find("scheduling.k8s.io", "priorityclasses", "", asked).await?;
    match found {
        Some(class) => Ok(Some(class)),
        None => Err(a.forbidden(format!("no PriorityClass with name {asked} was found"))),
    }
}

async fn set_priority(a: &mut Attributes<'_>, kind: Prioritized) -> Result<(), ApiError> {
    let object = a.object.clone().unwrap_or_default();
    let class = class_of(a, object.str_at(&["spec", "priorityClassName"]).unwrap_or("")).await?;
    let value = class.as_ref().and_then(|c| c.i64_at(&["value"])).unwrap_or(0);
    let policy = class.as_ref().and_then(|c| c.str_at(&["preemptionPolicy"]));
    let policy = policy.unwrap_or("PreemptLowerPriority").to_owned();
    let preempts = kind == Prioritized::Pod || a.call.core.settings.gates.pod_group_preemption_policy;
    if let Some(sent) = object.i64_at(&["spec", "priority"]).filter(|p| *p != value) {
        return Err(a.forbidden(kind.other_priority(sent, value)));
    }
    let sent = object.str_at(&["spec", "preemptionPolicy"]).filter(|p| preempts && *p != policy);
    if let Some(sent) = sent {
        return Err(a.forbidden(format!(
            "the string value of PreemptionPolicy ({sent}) must not be provided in {} spec; priority admission controller computed {policy} from the given PriorityClass name",
            kind.name()
        )));
    }
    let Some(object) = a.object.as_mut() else { return Ok(()) };
    if let Some(class) = &class {
        write(object, &["spec", "priorityClassName"], meta::name(class))?;
    }
    write(object, &["spec", "priority"], value)?;
    if preempts {
        write(object, &["spec", "preemptionPolicy"], policy)?;
    }
    Ok(())
}
