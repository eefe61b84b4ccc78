use serde_json::{Value, json};

use super::*;

const HOUR: i64 = 3600;

fn at(seconds: i64) -> Moment {
    Moment { now: Timestamp::from_second(seconds).unwrap(), jitter: SignedDuration::from_secs(60) }
}

fn request(kind: &str) -> PodCertificateRequest {
    let conditions: Value = match kind {
        "" => json!([]),
        kind => json!([{"type": kind, "status": "True", "reason": "R", "message": "M \"m\"",
            "lastTransitionTime": "1970-01-01T00:00:00Z"}]),
    };
    serde_json::from_value(json!({
        "metadata": {"namespace": "n", "name": "req-1"},
        "spec": {"nodeName": "", "nodeUID": "", "podName": "", "podUID": "", "serviceAccountName": "",
            "serviceAccountUID": "", "signerName": "", "stubPKCS10Request": ""},
        "status": {
            "conditions": conditions,
            "certificateChain": "x\n-----BEGIN Y-----\nK: v\n\nAAEC\n-----END Y-----\n",
            "beginRefreshAt": "1970-01-01T10:00:00Z",
            "notAfter": "1970-01-01T20:00:00Z"
        }
    }))
    .unwrap()
}

fn step(state: State, seen: Option<&PodCertificateRequest>, seconds: i64) -> (State, Vec<Warning>, Next) {
    state.step("n", seen, at(seconds))
}

fn asked(state: State, key: &str, seconds: i64) -> State {
    state.requested(key.into(), "req-1", at(seconds).now, at(seconds).jitter)
}

fn refreshing() -> State {
    let (state, ..) = step(asked(State::Initial, "k1", 0), Some(&request("Issued")), 10);
    let (state, _, next) = step(state, None, 10 * HOUR + 60);
    assert_eq!(next, Next::Request);
    asked(state, "k2", 10 * HOUR + 60)
}

#[test]
fn issues_and_refreshes() {
    let (state, _, next) = step(State::Initial, None, 0);
    assert_eq!(next, Next::Request);
    let state = asked(state, "k1", 0);
    assert_eq!(state.request_name(), Some("req-1"));
    assert_eq!(state.bundle().unwrap_err(), "credential bundle is not issued yet");
    let (state, _, next) = step(state, Some(&request("")), 5);
    assert_eq!((next, state.metric(at(5).now)), (Next::Rest(None), "not_yet_issued"));
    let (state, warnings, next) = step(state, Some(&request("Issued")), 10);
    // The time of renewal is moved.
    assert_eq!((warnings, next), (vec![], Next::Rest(Some(at(10 * HOUR + 60).now))));
    let chain = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";
    assert_eq!(state.bundle().unwrap(), ("k1".into(), chain.into()));
    let (state, _, next) = step(state, None, 10 * HOUR + 59);
    assert_eq!(next, Next::Rest(Some(at(10 * HOUR + 60).now)));
    assert_eq!(state.metric(at(10 * HOUR).now), "fresh");
    let state = refreshing();
    assert_eq!(state.bundle().unwrap().0, b"k1");
    let (state, ..) = step(state, Some(&request("Issued")), 11 * HOUR);
    assert_eq!(state.bundle().unwrap().0, b"k2");
}

#[test]
fn says_that_it_is_late_once() {
    let overdue = ("CertificateOverdueForRefresh".to_owned(), "PodCertificate refresh overdue".to_owned());
    let expired = ("CertificateExpired".to_owned(), "PodCertificate expired".to_owned());
    let pending = request("");
    let begin = 10 * HOUR + 60;
    let (state, warnings, next) = step(refreshing(), Some(&pending), begin + 1);
    assert_eq!((warnings, next), (vec![], Next::Rest(Some(at(begin + 600).now))));
    let (state, warnings, next) = step(state, Some(&pending), begin + 601);
    assert_eq!((warnings, next), (vec![overdue], Next::Rest(Some(at(20 * HOUR).now))));
    assert_eq!(state.metric(at(begin + 601).now), "overdue_for_refresh");
    let (state, warnings, next) = step(state, Some(&pending), 20 * HOUR + 1);
    assert_eq!((warnings, next), (vec![expired], Next::Rest(None)));
    assert_eq!(state.metric(at(20 * HOUR + 1).now), "expired");
    let (_, warnings, _) = step(state, Some(&pending), 20 * HOUR + 2);
    assert_eq!(warnings, []);
}

#[test]
fn refusals_are_final() {
    for (kind, how, what) in [("Denied", "denied", "was denied"), ("Failed", "failed", "failed")] {
        for state in [asked(State::Initial, "k", 0), refreshing()] {
            let (state, warnings, next) = step(state, Some(&request(kind)), 11 * HOUR);
            let text = format!(
                "R%!(EXTRA string=PodCertificateRequest n/req-1 {what}, reason=\"R\", message=\"M \\\"m\\\"\")"
            );
            assert_eq!((warnings, next), (vec![(kind.to_owned(), text)], Next::Rest(None)));
            let text =
                format!("PodCertificateRequest was permanently {how}: reason=\"R\" message=\"M \\\"m\\\"\"");
            assert_eq!(state.bundle().unwrap_err(), text);
            assert_eq!(state.metric(at(0).now), how);
            assert_eq!(step(state.clone(), None, 99 * HOUR), (state, vec![], Next::Rest(None)));
        }
    }
}

#[test]
fn a_request_that_is_gone_is_made_again() {
    let unseen = "while getting PodCertificateRequest \"n/req-1\": podcertificaterequest.certificates.k8s.io \"req-1\" not found";
    let (state, _, next) = step(asked(State::Initial, "k", 0), None, 660);
    assert_eq!(next, Next::Retry(unseen.to_owned()));
    let (state, _, next) = step(state, None, 661);
    let gone = "PodCertificateRequest \"n/req-1\" appears to have been deleted";
    assert_eq!((state, next), (State::Initial, Next::Retry(gone.to_owned())));
    let begin = 10 * HOUR + 60;
    let (state, _, next) = step(refreshing(), None, begin + 660);
    assert_eq!(next, Next::Retry(unseen.to_owned()));
    let (state, _, next) = step(state, None, begin + 661);
    assert_eq!(next, Next::Retry("PodCertificateRequest appears to have been deleted".to_owned()));
    assert!(matches!(state, State::Fresh(_)));
}
