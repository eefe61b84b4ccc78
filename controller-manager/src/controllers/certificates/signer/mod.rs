//! Signs approved requests for the four signers of Kubernetes, each with the CA that its flags name.
//!
//! Does not approve. Start reading at [`plan`], then `policy.rs` (for what and how long) and `encode.rs` (the bytes).
//! Upstream: pkg/controller/certificates/signer, cmd/kube-controller-manager/app/certificates.go.

mod authority;
mod encode;
mod policy;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use client::{Client, Meta};
use component::app::Error;
use component::flags::FlagSet;
use controller::WorkQueue;
use controller::limiter::ItemExponential;
use informer::{Event, Options, Store};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use self::authority::Provider;
use self::policy::Signer;
use super::request::{Request, der};
use super::{Condition, Csr, certificate, conditions};
use crate::context::Context;
use crate::descriptor::Running;

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Plan {
    Nothing,
    /// The signer does not issue such certificates, for this reason.
    Fail(String),
    Sign(Signer),
}

/// Decides. A request that cannot be read is an error: who made it may write it anew.
fn plan(csr: &Csr) -> Result<Plan, String> {
    let has = |kind: &str| conditions(csr).iter().any(|c| c.type_ == kind && c.status != "False");
    let denied = conditions(csr).iter().any(|c| c.type_ == "Denied");
    if !certificate(csr).is_empty() || denied || !has("Approved") || has("Failed") {
        return Ok(Plan::Nothing);
    }
    let Some(signer) = Signer::ALL.into_iter().find(|s| s.name() == csr.spec.signer_name) else {
        return Ok(Plan::Nothing);
    };
    let request = Request::parse(&csr.spec.request.0)
        .map_err(|e| format!("unable to parse csr {:?}: {e}", csr.name()))?;
    let usages = csr.spec.usages.as_deref().unwrap_or_default();
    Ok(match signer.check(&request, usages) {
        Ok(()) => Plan::Sign(signer),
        Err(why) => Plan::Fail(why),
    })
}

fn failed(csr: &Csr, why: &str, now: Timestamp) -> Csr {
    let mut new = csr.clone();
    new.status.get_or_insert_default().conditions.get_or_insert_default().push(Condition {
        type_: "Failed".to_string(),
        status: "True".to_string(),
        reason: Some("SignerValidationFailure".to_string()),
        message: Some(why.to_string()),
        last_update_time: Some(Time(now)),
        last_transition_time: None,
    });
    new
}

/// The signers that have a CA, and it.
///
/// # Errors
/// The flags contradict each other, or a file cannot be used.
fn providers(flags: &FlagSet) -> Result<Vec<(Signer, Arc<Provider>)>, Error> {
    let pair = |middle: &str| {
        (
            flags.string(&format!("cluster-signing{middle}-cert-file")),
            flags.string(&format!("cluster-signing{middle}-key-file")),
        )
    };
    let set = |(cert, key): (&str, &str)| !cert.is_empty() || !key.is_empty();
    let of = |signer: Signer| pair(&format!("-{}", signer.flag()));
    let own: Vec<Signer> = Signer::ALL.into_iter().filter(|s| set(of(*s))).collect();
    let (cert, key) = pair("");
    let common = !cert.is_empty() && !key.is_empty();
    if common && !own.is_empty() {
        return Err("cannot specify default and per controller certs at the same time".into());
    }
    if common {
        let provider = Arc::new(Provider::new(cert, key)?);
        return Ok(Signer::ALL.into_iter().map(|s| (s, provider.clone())).collect());
    }
    let load = |signer: Signer| {
        let (cert, key) = of(signer);
        let provider = Provider::new(cert, key)
            .map_err(|e| format!("failed to init {} certificate controller: {e}", signer.name()))?;
        Ok((signer, Arc::new(provider)))
    };
    own.into_iter().map(load).collect()
}

struct Shell {
    client: Client,
    requests: Store<Csr>,
    providers: Vec<(Signer, Arc<Provider>)>,
    longest: SignedDuration,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let (providers, token) = (providers(&context.flags)?, context.token.clone());
    if providers.is_empty() {
        tracing::info!("No --cluster-signing files: approved certificate requests are not signed");
        return Ok(Box::pin(async move { token.cancelled().await }));
    }
    for signer in Signer::ALL.into_iter().filter(|s| providers.iter().all(|(p, _)| p != s)) {
        tracing::info!(
            signer = signer.name(),
            "No CA for this signer, while others have one: it does not sign"
        );
    }
    let requests = context.factory.informer::<Csr>(Options::default());
    let shell = Arc::new(Shell {
        client: context.client(),
        requests: requests.store(),
        providers,
        longest: SignedDuration::try_from(context.flags.duration("cluster-signing-duration"))?,
    });
    // As the approver's: what fails is tried again soon, then less and less often.
    let limiter =
        ItemExponential::new(std::time::Duration::from_millis(200), std::time::Duration::from_secs(1000));
    let queue: WorkQueue<String> = WorkQueue::with_limiter("certificate_signer", limiter);
    let to = queue.clone();
    requests.subscribe(move |event| {
        if !matches!(event, Event::Deleted(_)) {
            to.add(event.object().name().to_string());
        }
    });
    Ok(Box::pin(async move {
        if !requests.wait_synced(&token).await {
            return;
        }
        queue
            .run(5, &token, move |name: String| {
                let shell = shell.clone();
                async move { shell.sync(&name).await.map(|()| None) }
            })
            .await;
    }))
}

impl Shell {
    async fn sync(&self, name: &str) -> Result<(), String> {
        let Some(csr) = self.requests.get(name) else { return Ok(()) };
        let (new, what) = match plan(&csr)? {
            Plan::Nothing => return Ok(()),
            Plan::Fail(why) => (failed(&csr, &why, Timestamp::now()), "adding failure condition"),
            Plan::Sign(signer) => {
                let Some((_, provider)) = self.providers.iter().find(|(s, _)| *s == signer) else {
                    return Ok(());
                };
                let signed = self.sign(&csr, provider).map_err(|e| format!("error auto signing csr: {e}"))?;
                let mut new = (*csr).clone();
                new.status.get_or_insert_default().certificate = Some(ByteString(signed.into_bytes()));
                (new, "updating signature")
            }
        };
        let written = self.client.all::<Csr>().replace_status(&new).await;
        written.map(drop).map_err(|e| format!("error {what} for csr: {e}"))
    }

    fn sign(&self, csr: &Csr, provider: &Provider) -> Result<String, String> {
        let authority = provider.current();
        let ttl = policy::duration(csr.spec.expiration_seconds, self.longest);
        let usages = csr.spec.usages.as_deref().unwrap_or_default();
        let terms = policy::terms(usages, ttl, authority.not_after(), Timestamp::now())?;
        let serial: [u8; 16] = rand::random();
        Ok(pem(&authority.sign(&der(&csr.spec.request.0)?, &terms, &serial)?))
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().copied().map(char::from));
        out.push('\n');
    }
    out + "-----END CERTIFICATE-----\n"
}
