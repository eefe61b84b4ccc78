//! Deletes requests of pods for certificates a while after they were made: every flow is over by then.
//! Upstream: pkg/controller/certificates/cleaner/pcrcleaner.go.

use std::time::Duration;

use client::{DeleteParams, Meta};
use component::app::Error;
use informer::Options;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::PodCertificateRequest;

use crate::context::Context;
use crate::descriptor::Running;

/// How often upstream looks; age is no event.
const PERIOD: Duration = Duration::from_secs(5 * 60);
const AGE: SignedDuration = SignedDuration::from_mins(15);

/// Nobody needs this request any more.
fn is_over(request: &PodCertificateRequest, now: Timestamp) -> bool {
    let created = request.metadata.creation_timestamp.as_ref().map(|t| t.0);
    created.is_none_or(|at| at.checked_add(AGE).is_ok_and(|end| now >= end))
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let requests = context.factory.informer::<PodCertificateRequest>(Options::default());
    let (client, token) = (context.client(), context.token.clone());
    Ok(Box::pin(async move {
        if !requests.wait_synced(&token).await {
            return;
        }
        let work = async {
            loop {
                for request in requests.store().list().iter().filter(|r| is_over(r, Timestamp::now())) {
                    let api = client.namespaced::<PodCertificateRequest>(request.namespace());
                    let gone = api.delete(request.name(), &DeleteParams::with_uid(request.uid())).await;
                    if let Err(error) = gone
                        && !error.is_not_found()
                    {
                        let name = request.key();
                        tracing::error!(pcr = name, %error, "Error while attempting to clean PodCertificateRequest");
                    }
                }
                tokio::time::sleep(PERIOD).await;
            }
        };
        tokio::select! {
            () = token.cancelled() => {}
            () = work => {}
        }
    }))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use proptest::prelude::*;

    use super::*;
    use crate::scenario;

    #[test]
    fn scenarios() {
        scenario::check("certificates/testdata/pod_certificate_cleaner", |given| {
            let request: PodCertificateRequest = given.one();
            let line = |now: &Timestamp| {
                format!("{now}: {}\n", if is_over(&request, *now) { "delete" } else { "keep" })
            };
            given.setting::<Vec<Timestamp>>("times").expect("times").iter().map(line).collect()
        });
    }

    fn request(minute: i64) -> PodCertificateRequest {
        let mut request = PodCertificateRequest::default();
        request.metadata.creation_timestamp = Some(Time(at(minute)));
        request
    }

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).expect("a time")
    }

    #[test]
    fn requests_go_after_a_quarter_of_an_hour() {
        for (minute, over) in [(0, false), (14, false), (15, true), (60, true)] {
            assert_eq!(is_over(&request(0), at(minute)), over, "after {minute} minutes");
        }
    }

    proptest! {
        /// Looked at every five minutes, all requests have gone twenty minutes after the last one was made.
        #[test]
        fn plan_then_apply_settles(made in prop::collection::vec(0i64..100, 1..9)) {
            let mut left: Vec<PodCertificateRequest> = made.iter().copied().map(request).collect();
            let last = made.iter().max().copied().unwrap_or_default();
            for minute in (0..=last + 20).step_by(5) {
                left.retain(|r| !is_over(r, at(minute)));
                let young = made.iter().filter(|m| **m > minute - 15).count();
                prop_assert_eq!(left.len(), young);
            }
            prop_assert!(left.is_empty());
        }

        /// What is younger than a quarter of an hour is left alone, and after that time it is not.
        #[test]
        fn a_satisfied_view_needs_nothing(made in 0i64..100, age in 0i64..30) {
            prop_assert_eq!(is_over(&request(made), at(made + age)), age >= 15);
        }

        /// What is over stays over.
        #[test]
        fn time_only_goes_one_way(made in 0i64..100, now in 0i64..200, more in 0i64..100) {
            prop_assert!(!is_over(&request(made), at(now)) || is_over(&request(made), at(now + more)));
        }
    }
}
