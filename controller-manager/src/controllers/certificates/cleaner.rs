//! Deletes requests that nobody needs any more: decided ones after an hour, forgotten ones after a day.
//! Upstream: pkg/controller/certificates/cleaner/cleaner.go.

use std::time::Duration;

use client::{DeleteParams, Meta};
use component::app::Error;
use informer::Options;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Csr, certificate, conditions};
use crate::context::Context;
use crate::descriptor::Running;

/// How often upstream looks; age is no event.
const PERIOD: Duration = Duration::from_secs(3600);
const DECIDED: Duration = Duration::from_secs(3600);
const PENDING: Duration = Duration::from_secs(24 * 3600);

/// The end of the first certificate, if there is one that can be read.
fn expiry(pem: &[u8]) -> Option<i64> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    Some(pem.parse_x509().ok()?.validity().not_after.timestamp())
}

/// Nobody needs this request any more.
fn is_over(csr: &Csr, now: Timestamp) -> bool {
    let older = |time: Option<&Time>, than: Duration| {
        time.is_some_and(|t| t.0 < now && now.duration_since(t.0).unsigned_abs() > than)
    };
    let conditions = conditions(csr);
    if conditions.is_empty() {
        return older(csr.metadata.creation_timestamp.as_ref(), PENDING);
    }
    let issued = certificate(csr);
    conditions.iter().any(|condition| {
        let since = condition.last_update_time.as_ref();
        match condition.type_.as_str() {
            "Denied" | "Failed" => older(since, DECIDED),
            "Approved" if issued.is_empty() => older(since, PENDING),
            "Approved" => older(since, DECIDED) || expiry(issued).is_some_and(|end| end < now.as_second()),
            _ => false,
        }
    })
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let requests = context.factory.informer::<Csr>(Options::default());
    let (client, token) = (context.client(), context.token.clone());
    Ok(Box::pin(async move {
        if !requests.wait_synced(&token).await {
            return;
        }
        let work = async {
            loop {
                for csr in requests.store().list().iter().filter(|c| is_over(c, Timestamp::now())) {
                    let params = DeleteParams::with_uid(csr.uid());
                    match client.all::<Csr>().delete(csr.name(), &params).await {
                        Err(error) if !error.is_not_found() => {
                            tracing::error!(csr = csr.name(), %error, "Error while attempting to clean CSR");
                        }
                        _ => {}
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
    use k8s_openapi::ByteString;
    use proptest::prelude::*;

    use super::super::Condition;
    use super::*;
    use crate::scenario;

    #[test]
    fn scenarios() {
        scenario::check("certificates/testdata/cleaner", |given| {
            let csr: Csr = given.one();
            let line =
                |now: &Timestamp| format!("{now}: {}\n", if is_over(&csr, *now) { "delete" } else { "keep" });
            given.setting::<Vec<Timestamp>>("times").expect("times").iter().map(line).collect()
        });
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(hours * 3600).expect("a time")
    }

    /// Created at hour 0, decided at hour 0.
    fn csr(condition: &str, certificate: &str) -> Csr {
        let mut csr = Csr::default();
        csr.metadata.creation_timestamp = Some(Time(at(0)));
        let status = csr.status.get_or_insert_default();
        if !condition.is_empty() {
            let time = Some(Time(at(0)));
            status.conditions = Some(vec![Condition {
                type_: condition.to_string(),
                last_update_time: time,
                ..Condition::default()
            }]);
        }
        status.certificate = (!certificate.is_empty()).then(|| ByteString(certificate.as_bytes().to_vec()));
        csr
    }

    fn check(condition: &str, certificate: &str, hours: i64, expected: bool) {
        assert_eq!(is_over(&csr(condition, certificate), at(hours)), expected, "{condition} after {hours} h");
    }

    #[test]
    fn decided_requests_go_after_an_hour_pending_ones_after_a_day() {
        for decided in ["Denied", "Failed"] {
            check(decided, "", 1, false);
            check(decided, "", 2, true);
        }
        check("", "", 24, false);
        check("", "", 25, true);
        check("Approved", "", 24, false);
        check("Approved", "", 25, true);
        check("Approved", "some", 1, false);
        check("Approved", "some", 2, true);
        check("Other", "", 99, false);
    }

    #[test]
    fn a_certificate_that_is_over_is_not_waited_for() {
        let mut params = rcgen::CertificateParams::new(vec![]).expect("names");
        params.not_after = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = rcgen::date_time_ymd(1970, 1, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        check("Approved", &pem, 1, true);
    }

    proptest! {
        /// Looked at once an hour, whatever was made and is understood has gone within a day and two hours; the rest stays.
        #[test]
        fn plan_then_apply_settles(all in prop::collection::vec(("|Denied|Failed|Approved|Other", "|some"), 0..9)) {
            let mut left: Vec<Csr> = all.iter().map(|(condition, issued)| csr(condition, issued)).collect();
            for hour in 0..27 {
                left.retain(|csr| !is_over(csr, at(hour)));
            }
            let kept = all.iter().filter(|(condition, _)| condition == "Other").count();
            prop_assert_eq!(left.len(), kept);
            prop_assert!(left.iter().all(|csr| !is_over(csr, at(10_000))));
        }

        /// What was made and decided within the hour is left alone.
        #[test]
        fn a_satisfied_view_needs_nothing(condition in "|Denied|Failed|Approved|Other", issued in "|some", second in 0i64..3600) {
            let now = Timestamp::from_second(second).expect("a time");
            prop_assert!(!is_over(&csr(&condition, &issued), now));
        }

        /// What is over stays over, and what is new is kept.
        #[test]
        fn time_only_goes_one_way(condition in "|Denied|Failed|Approved|Other", hours in 0i64..100, more in 0i64..100) {
            let csr = csr(&condition, "");
            prop_assert!(!is_over(&csr, at(hours)) || is_over(&csr, at(hours + more)));
            prop_assert!(!is_over(&csr, at(0)));
        }
    }
}
