//! What is next for a claim. Pure. Upstream: pv_controller.go syncClaim, syncUnboundClaim, syncBoundClaim, provisionClaim.

use std::sync::Arc;

use client::Meta;
use controller::{NORMAL, WARNING};
use k8s_openapi::api::core::v1::{PersistentVolume as Volume, PersistentVolumeClaim as Claim};
use k8s_openapi::api::storage::v1::StorageClass;

use super::bind::{Write, bind, with_status};
use super::facts::{
    BETA_PROVISIONER, BIND_COMPLETED, BOUND_BY_CONTROLLER, PROVISIONER, SELECTED_NODE, annotate, annotation,
    claim_class, claim_key, claim_phase, claim_uid, has, is_claimed, is_for, migrated, names_class,
    note_migration, volume_name,
};
use super::matching::{best, mismatch};

const DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// Everything a decision depends on.
pub struct View<'a> {
    pub claim: &'a Claim,
    pub volumes: &'a [Arc<Volume>],
    pub classes: &'a [Arc<StorageClass>],
    /// Names of live pods that name the claim and are on no node yet.
    pub waiting_pods: &'a [String],
    pub provisions: bool,
}

/// Said to whoever looks at the claim.
pub type Told = (&'static str, &'static str, String);

/// The write that is next, if any, and what to tell.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub write: Option<Write>,
    /// Told after the write.
    pub told: Option<Told>,
}

impl Plan {
    fn write(write: Option<Write>) -> Self {
        Self { write, told: None }
    }

    fn telling(mut self, kind: &'static str, reason: &'static str, message: String) -> Self {
        self.told = Some((kind, reason, message));
        self
    }
}

/// Decides.
///
/// # Errors
/// Something in the objects contradicts itself; what, is told by the event too where upstream does.
pub fn plan(view: &View<'_>) -> Result<Plan, (String, Plan)> {
    let mut noted = view.claim.clone();
    if note_migration(&mut noted.metadata, &[PROVISIONER, BETA_PROVISIONER]) {
        return Ok(Plan::write(Some(Write::Claim(Box::new(noted)))));
    }
    if has(&view.claim.metadata, BIND_COMPLETED) { bound(view) } else { unbound(view) }
}

fn plain(error: String) -> (String, Plan) {
    (error, Plan::default())
}

fn pending(claim: &Claim) -> Result<Plan, (String, Plan)> {
    let new = with_status(claim, "Pending", None).map_err(plain)?;
    Ok(Plan::write(new.map(|c| Write::ClaimStatus(Box::new(c)))))
}

fn find<'a>(view: &View<'a>, name: &str) -> Option<&'a Arc<Volume>> {
    view.volumes.iter().find(|v| v.name() == name)
}

fn unbound(view: &View<'_>) -> Result<Plan, (String, Plan)> {
    let claim = view.claim;
    let name = volume_name(claim);
    if name.is_empty() {
        return any_volume(view);
    }
    let Some(volume) = find(view, name) else { return pending(claim) };
    if !is_claimed(volume) {
        return match mismatch(volume, claim) {
            None => bind(volume, claim).map(Plan::write).map_err(plain),
            Some(why) => {
                let message = format!("Cannot bind to requested volume {name:?}: {why}");
                Ok(pending(claim)?.telling(WARNING, "VolumeMismatch", message))
            }
        };
    }
    if is_for(volume, claim) {
        return bind(volume, claim).map(Plan::write).map_err(plain);
    }
    let message = format!("volume {name:?} already bound to a different claim.");
    if !has(&claim.metadata, BOUND_BY_CONTROLLER) {
        return Ok(pending(claim)?.telling(WARNING, "FailedBinding", message));
    }
    let error = format!(
        "invalid binding of claim {:?} to volume {name:?}: volume already claimed by {:?}",
        claim.key(),
        claim_key(volume).unwrap_or_default()
    );
    Err((error, Plan::default().telling(WARNING, "FailedBinding", message)))
}

/// The claim takes whatever fits.
fn any_volume(view: &View<'_>) -> Result<Plan, (String, Plan)> {
    let claim = view.claim;
    let class = view.classes.iter().find(|c| c.name() == claim_class(claim));
    let delayed = class.is_some_and(|c| c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    let found = best(claim, view.volumes, delayed)
        .map_err(|e| plain(format!("error finding PV for claim {:?}: {e}", claim.key())))?;
    if let Some(volume) = found {
        return bind(&volume, claim).map(Plan::write).map_err(plain);
    }
    if !names_class(claim)
        && let Some(default) = default_class(view.classes)
    {
        let mut new = claim.clone();
        new.spec.get_or_insert_default().storage_class_name = Some(default.to_string());
        return Ok(Plan::write(Some(Write::Claim(Box::new(new)))));
    }
    if delayed && !has(&claim.metadata, SELECTED_NODE) {
        let (reason, message) = match view.waiting_pods {
            [] => (
                "WaitForFirstConsumer",
                "waiting for first consumer to be created before binding".to_string(),
            ),
            [pod] => ("WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
            pods => ("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", pods.join(","))),
        };
        return Ok(pending(claim)?.telling(NORMAL, reason, message));
    }
    if claim_class(claim).is_empty() {
        let message =
            "no persistent volumes available for this claim and no storage class is set".to_string();
        return Ok(pending(claim)?.telling(NORMAL, "FailedBinding", message));
    }
    Ok(if view.provisions { provision(claim, class) } else { Plan::default() })
}

/// The newest of the default classes. Upstream: pkg/volume/util/storageclass.go GetDefaultClass.
fn default_class(classes: &[Arc<StorageClass>]) -> Option<&str> {
    let is_default =
        |c: &&Arc<StorageClass>| DEFAULT.iter().any(|name| annotation(&c.metadata, name) == Some("true"));
    let order = |c: &&Arc<StorageClass>| {
        let created = c.metadata.creation_timestamp.as_ref().map(|t| t.0);
        (std::cmp::Reverse(created), c.name().to_string())
    };
    classes.iter().filter(is_default).min_by_key(order).map(|c| c.name())
}

/// Asks the class's provisioner, which runs elsewhere.
fn provision(claim: &Claim, class: Option<&Arc<StorageClass>>) -> Plan {
    let Some(class) = class else {
        let message = format!("storageclass.storage.k8s.io {:?} not found", claim_class(claim));
        return Plan::default().telling(WARNING, "ProvisioningFailed", message);
    };
    let provisioner = match migrated(&class.provisioner) {
        Some(driver) => driver,
        None if class.provisioner.starts_with("kubernetes.io/") => {
            let message = format!("no volume plugin matched name: {}", class.provisioner);
            return Plan::default().telling(WARNING, "ProvisioningFailed", message);
        }
        None => class.provisioner.as_str(),
    };
    let mut new = claim.clone();
    if annotation(&claim.metadata, PROVISIONER) != Some(provisioner) {
        annotate(&mut new.metadata, BETA_PROVISIONER, provisioner);
        annotate(&mut new.metadata, PROVISIONER, provisioner);
    }
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
         system administrator. If volume creation is delayed, please verify that the provisioner is running and \
         correctly registered."
    );
    let write = (new != *claim).then(|| Write::Claim(Box::new(new)));
    Plan::write(write).telling(NORMAL, "ExternalProvisioning", message)
}

fn lost(claim: &Claim, reason: &'static str, message: &str) -> Result<Plan, (String, Plan)> {
    if claim_phase(claim) == "Lost" {
        return Ok(Plan::default());
    }
    let new = with_status(claim, "Lost", None).map_err(plain)?;
    let plan = Plan::write(new.map(|c| Write::ClaimStatus(Box::new(c))));
    Ok(plan.telling(WARNING, reason, message.to_string()))
}

fn bound(view: &View<'_>) -> Result<Plan, (String, Plan)> {
    let claim = view.claim;
    if volume_name(claim).is_empty() {
        let message = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return lost(claim, "ClaimLost", message);
    }
    let Some(volume) = find(view, volume_name(claim)) else {
        return lost(
            claim,
            "ClaimLost",
            "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
        );
    };
    if !is_claimed(volume) || claim_uid(volume) == claim.uid() {
        return bind(volume, claim).map(Plan::write).map_err(plain);
    }
    lost(claim, "ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
}
