//! Approves requests of kubelets for client certificates, if their senders may have that.
//! Upstream: pkg/controller/certificates/approver/sarapprove.go.

use std::collections::BTreeMap;

use client::{Client, Meta, WriteParams};
use component::app::Error;
use controller::WorkQueue;
use informer::{Event, Options, Store};
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::request::Request;
use super::{Condition, Csr, certificate, conditions};
use crate::context::Context;
use crate::descriptor::Running;

const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// A permission that suffices, and what the approval says then.
type Way = (&'static str, &'static str);
const SELF_NODE: Way =
    ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.");
const NODE: Way = ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.");

/// The ways in which a request may be approved, in the order of trying.
fn plan(csr: &Csr) -> Result<Vec<Way>, String> {
    let decided = conditions(csr).iter().any(|c| matches!(c.type_.as_str(), "Approved" | "Denied"));
    if decided || !certificate(csr).is_empty() {
        return Ok(Vec::new());
    }
    let request = Request::parse(&csr.spec.request.0)
        .map_err(|e| format!("unable to parse csr {:?}: {e}", csr.name()))?;
    let usages = csr.spec.usages.as_deref().unwrap_or_default();
    if csr.spec.signer_name != SIGNER || request.check_kubelet_client(usages).is_err() {
        return Ok(Vec::new());
    }
    let own = csr.spec.username.as_deref() == Some(&request.common_name);
    Ok(if own { vec![SELF_NODE, NODE] } else { vec![NODE] })
}

fn approved(csr: &Csr, message: &str, now: Timestamp) -> Csr {
    let mut new = csr.clone();
    new.status.get_or_insert_default().conditions.get_or_insert_default().push(Condition {
        type_: "Approved".to_string(),
        status: "True".to_string(),
        reason: Some("AutoApproved".to_string()),
        message: Some(message.to_string()),
        last_update_time: Some(Time(now)),
        last_transition_time: None,
    });
    new
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let requests = context.factory.informer::<Csr>(Options::default());
    let queue: WorkQueue<String> = WorkQueue::new("certificate");
    let to = queue.clone();
    requests.subscribe(move |event| {
        if let Event::Added(csr) | Event::Updated { new: csr, .. } = event {
            to.add(csr.name().to_string());
        }
    });
    let (client, store, token) = (context.client(), requests.store(), context.token.clone());
    Ok(Box::pin(async move {
        if !requests.wait_synced(&token).await {
            return;
        }
        queue
            .run(1, &token, move |name: String| {
                let (client, store) = (client.clone(), store.clone());
                async move { sync(&client, &store, &name).await.map(|()| None) }
            })
            .await;
    }))
}

async fn sync(client: &Client, requests: &Store<Csr>, name: &str) -> Result<(), String> {
    let Some(csr) = requests.get(name) else { return Ok(()) };
    let ways = plan(&csr)?;
    for (permission, message) in &ways {
        if may(client, &csr, permission)
            .await
            .map_err(|e| format!("asking whether csr {name} is allowed: {e}"))?
        {
            let new = approved(&csr, message, Timestamp::now());
            let api = client.all::<Csr>();
            let result = api.replace_with(&new, "approval", &WriteParams::default()).await;
            return result.map(drop).map_err(|e| format!("error updating approval for csr: {e}"));
        }
    }
    if ways.is_empty() {
        return Ok(());
    }
    let tried: Vec<&str> = ways.iter().map(|(p, _)| *p).collect();
    // The permission may be given later.
    Err(format!(
        "recognized csr {name:?} as [{}] but subject access review was not approved",
        tried.join(" ")
    ))
}

async fn may(client: &Client, csr: &Csr, permission: &str) -> client::Result<bool> {
    let text = |s: &str| Some(s.to_string());
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: csr.spec.username.clone(),
            uid: csr.spec.uid.clone(),
            groups: csr.spec.groups.clone(),
            extra: csr.spec.extra.clone().map(|e| e.into_iter().collect::<BTreeMap<_, _>>()),
            resource_attributes: Some(ResourceAttributes {
                group: text("certificates.k8s.io"),
                resource: text("certificatesigningrequests"),
                verb: text("create"),
                subresource: text(permission),
                version: text("*"),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let answer = client.all::<SubjectAccessReview>().create(&review).await?;
    Ok(answer.status.is_some_and(|s| s.allowed))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use proptest::prelude::*;

    use super::super::request::tests::pem;
    use super::*;
    use crate::scenario;

    /// What a scenario's request holds.
    #[derive(serde::Deserialize)]
    struct Asked {
        name: String,
        organization: String,
        #[serde(default)]
        addresses: Vec<String>,
    }

    #[test]
    fn scenarios() {
        scenario::check("certificates/testdata/approver", |given| {
            let mut csr: Csr = given.one();
            if let Some(Asked { name, organization, addresses }) = given.setting("asked") {
                let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
                csr.spec.request = ByteString(pem(&name, &organization, &addresses).into_bytes());
            }
            match plan(&csr) {
                Err(e) => format!("failed: {e}"),
                Ok(ways) if ways.is_empty() => "left to others".to_string(),
                Ok(ways) => {
                    ways.iter().map(|(may, _)| format!("approve if its sender may create {may}\n")).collect()
                }
            }
        });
    }

    fn csr(user: &str, signer: &str, usages: &[&str], pem: &str) -> Csr {
        let mut csr = Csr::default();
        csr.spec.request = ByteString(pem.as_bytes().to_vec());
        csr.spec.signer_name = signer.to_string();
        csr.spec.username = Some(user.to_string());
        csr.spec.usages = Some(usages.iter().map(ToString::to_string).collect());
        csr
    }

    const USAGES: &[&str] = &["client auth", "digital signature"];

    fn check(csr: &Csr, expected: &[Way]) {
        assert_eq!(plan(csr).as_deref(), Ok(expected));
    }

    #[test]
    fn kubelets_ask_for_themselves_or_are_asked_for() {
        let request = pem("system:node:n1", "system:nodes", &[]);
        check(&csr("system:node:n1", SIGNER, USAGES, &request), &[SELF_NODE, NODE]);
        check(&csr("system:bootstrap:abc", SIGNER, USAGES, &request), &[NODE]);
    }

    #[test]
    fn other_requests_are_left_to_people() {
        let request = pem("system:node:n1", "system:nodes", &[]);
        check(&csr("u", "example.com/signer", USAGES, &request), &[]);
        check(&csr("u", SIGNER, &["server auth"], &request), &[]);
        check(&csr("u", SIGNER, USAGES, &pem("somebody", "system:nodes", &[])), &[]);
    }

    #[test]
    fn what_is_decided_stays_decided() {
        let request = pem("system:node:n1", "system:nodes", &[]);
        let mut denied = csr("u", SIGNER, USAGES, &request);
        denied.status.get_or_insert_default().conditions =
            Some(vec![Condition { type_: "Denied".to_string(), ..Condition::default() }]);
        check(&denied, &[]);
    }

    #[test]
    fn bytes_that_are_no_request_are_told() {
        assert!(plan(&csr("u", SIGNER, USAGES, "nonsense")).is_err());
    }

    proptest! {
        /// An approved request asks for nothing more.
        #[test]
        fn one_approval_is_enough(user in "system:node:n1|other") {
            let csr = csr(&user, SIGNER, USAGES, &pem("system:node:n1", "system:nodes", &[]));
            let approved = approved(&csr, NODE.1, Timestamp::UNIX_EPOCH);
            prop_assert_eq!(plan(&approved), Ok(vec![]));
        }

        /// What is decided, has its certificate, or is another signer's is left alone, whatever it holds.
        #[test]
        fn a_satisfied_view_needs_nothing(decision in "Approved|Denied", signer in "[a-z]{1,5}[.]example/[a-z]{1,5}", bytes in prop::collection::vec(any::<u8>(), 1..50)) {
            let request = pem("system:node:n1", "system:nodes", &[]);
            let mut decided = csr("system:node:n1", SIGNER, USAGES, "nonsense");
            decided.status.get_or_insert_default().conditions =
                Some(vec![Condition { type_: decision, ..Condition::default() }]);
            prop_assert_eq!(plan(&decided), Ok(vec![]));
            let mut issued = csr("system:node:n1", SIGNER, USAGES, "nonsense");
            issued.status.get_or_insert_default().certificate = Some(ByteString(bytes));
            prop_assert_eq!(plan(&issued), Ok(vec![]));
            prop_assert_eq!(plan(&csr("system:node:n1", &signer, USAGES, &request)), Ok(vec![]));
        }

        /// No bytes make it panic.
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut csr = csr("u", SIGNER, USAGES, "");
            csr.spec.request = ByteString(bytes);
            prop_assert!(plan(&csr).is_err());
        }
    }
}
