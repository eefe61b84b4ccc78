//! Where one certificate of a pod is in its life, and what comes next. No effects; clock and randomness are arguments.
//!
//! ```text
//! initial -> waiting -> fresh <-> refreshing;  waiting or refreshing -> denied, failed
//! ```
//! Upstream: handleProjection in pkg/kubelet/podcertificate/podcertificatemanager.go, v1.37.

use std::time::Duration;

use k8s_openapi::api::certificates::v1::PodCertificateRequest;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use machinery::golang::quote;
use machinery::pem;

/// A request that has not been seen for so long is gone; before, the watch may just be late.
const ASSUME_DELETED: SignedDuration = SignedDuration::from_mins(10);
/// A certificate that should have been replaced so long ago is overdue.
const OVERDUE: SignedDuration = SignedDuration::from_mins(10);
/// Times are moved by up to this, so that pods do not all ask at once. In seconds.
pub const SPREAD: i64 = 5 * 60;

/// A certificate in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The key in PEM.
    pub key: Vec<u8>,
    /// The chain in PEM, the leaf first.
    pub chain: Vec<u8>,
    begin_refresh: Timestamp,
    not_after: Timestamp,
    said_overdue: bool,
    said_expired: bool,
}

/// A request under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    /// The key in PEM that the certificate will be for.
    key: Vec<u8>,
    /// Name of the request.
    name: String,
    abandon_at: Timestamp,
}

/// Where a certificate is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing has been done.
    #[default]
    Initial,
    /// The first one has been asked for.
    Waiting(Requested),
    /// There will be none: a signer said so.
    Denied { reason: String, message: String },
    /// There will be none: a signer could not.
    Failed { reason: String, message: String },
    /// It is there.
    Fresh(Issued),
    /// It is there, and its successor has been asked for.
    Refreshing(Issued, Requested),
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing until the request changes or this time comes.
    Rest(Option<Timestamp>),
    /// Make a key and a request, then call [`State::requested`].
    Request,
    /// Look again soon, and why.
    Retry(String),
}

/// A warning to be written about the pod: reason and message.
pub type Warning = (String, String);

/// The moment, and by how much times are moved now: at most [`SPREAD`] seconds.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub now: Timestamp,
    pub jitter: SignedDuration,
}

fn after(at: Timestamp, span: SignedDuration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}

impl Issued {
    /// Warns once of each kind of lateness.
    fn late(&mut self, now: Timestamp, warnings: &mut Vec<Warning>) {
        let mut warn = |said: &mut bool, is: bool, reason: &str, message: &str| {
            if is && !std::mem::replace(said, true) {
                warnings.push((reason.to_owned(), message.to_owned()));
            }
        };
        let overdue = now > after(self.begin_refresh, OVERDUE);
        warn(
            &mut self.said_overdue,
            overdue,
            "CertificateOverdueForRefresh",
            "PodCertificate refresh overdue",
        );
        warn(&mut self.said_expired, now > self.not_after, "CertificateExpired", "PodCertificate expired");
    }

    /// The next time at which it becomes late.
    fn next_lateness(&self, now: Timestamp) -> Option<Timestamp> {
        let overdue = after(self.begin_refresh, OVERDUE);
        [overdue, self.not_after].into_iter().filter(|at| *at >= now).min()
    }

    fn metric(&self, now: Timestamp) -> &'static str {
        match () {
            () if now > self.not_after => "expired",
            () if now > after(self.begin_refresh, OVERDUE) => "overdue_for_refresh",
            () => "fresh",
        }
    }
}

/// What became of a request.
enum Verdict {
    Pending,
    Done(State, Vec<Warning>),
    Issued(Issued),
}

fn verdict(request: &PodCertificateRequest, key: &[u8], at: Moment) -> Verdict {
    let name = |field: &Option<String>| field.clone().unwrap_or_default();
    let full = format!("{}/{}", name(&request.metadata.namespace), name(&request.metadata.name));
    let Some(status) = &request.status else { return Verdict::Pending };
    for condition in status.conditions.iter().flatten() {
        let (reason, message) = (condition.reason.clone(), condition.message.clone());
        // Upstream passes the text as an argument of a format without a place for it, and events look accordingly.
        let warning = |what: &str| {
            let text = format!(
                "PodCertificateRequest {full} {what}, reason={}, message={}",
                quote(&reason),
                quote(&message)
            );
            (condition.type_.clone(), format!("{reason}%!(EXTRA string={text})"))
        };
        match condition.type_.as_str() {
            "Denied" => {
                let warnings = vec![warning("was denied")];
                return Verdict::Done(State::Denied { reason, message }, warnings);
            }
            "Failed" => {
                let warnings = vec![warning("failed")];
                return Verdict::Done(State::Failed { reason, message }, warnings);
            }
            "Issued" => {
                let time = |field: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
                    field.as_ref().map_or(at.now, |t| t.0)
                };
                return Verdict::Issued(Issued {
                    key: key.to_vec(),
                    chain: clean(status.certificate_chain.as_deref().unwrap_or_default()),
                    begin_refresh: after(time(&status.begin_refresh_at), at.jitter),
                    not_after: time(&status.not_after),
                    said_overdue: false,
                    said_expired: false,
                });
            }
            _ => {}
        }
    }
    Verdict::Pending
}

/// The certificates alone, without headers and text between them.
fn clean(chain: &str) -> Vec<u8> {
    let blocks = pem::blocks(chain.as_bytes());
    blocks.iter().map(|b| pem::encode("CERTIFICATE", &b.bytes)).collect::<String>().into_bytes()
}

impl State {
    /// Name of the request under way.
    pub fn request_name(&self) -> Option<&str> {
        match self {
            State::Waiting(request) | State::Refreshing(_, request) => Some(&request.name),
            _ => None,
        }
    }

    /// Looks at the request under way (`None` if it has not been seen) and at the clock.
    pub fn step(
        self,
        namespace: &str,
        request: Option<&PodCertificateRequest>,
        at: Moment,
    ) -> (State, Vec<Warning>, Next) {
        let mut warnings = Vec::new();
        match self {
            State::Initial => (self, warnings, Next::Request),
            State::Denied { .. } | State::Failed { .. } => (self, warnings, Next::Rest(None)),
            State::Fresh(issued) if at.now < issued.begin_refresh => {
                let when = Some(issued.begin_refresh);
                (State::Fresh(issued), warnings, Next::Rest(when))
            }
            State::Fresh(mut issued) => {
                issued.late(at.now, &mut warnings);
                (State::Fresh(issued), warnings, Next::Request)
            }
            State::Waiting(asked) => match request.map(|r| verdict(r, &asked.key, at)) {
                Some(Verdict::Done(state, warnings)) => (state, warnings, Next::Rest(None)),
                Some(Verdict::Issued(issued)) => Self::fresh(issued),
                Some(Verdict::Pending) => (State::Waiting(asked), warnings, Next::Rest(None)),
                None if at.now > asked.abandon_at => {
                    let full = quote(&format!("{namespace}/{}", asked.name));
                    let why = format!("PodCertificateRequest {full} appears to have been deleted");
                    (State::Initial, warnings, Next::Retry(why))
                }
                None => {
                    let why = asked.unseen(namespace);
                    (State::Waiting(asked), warnings, Next::Retry(why))
                }
            },
            State::Refreshing(mut issued, asked) => match request.map(|r| verdict(r, &asked.key, at)) {
                Some(Verdict::Done(state, warnings)) => (state, warnings, Next::Rest(None)),
                Some(Verdict::Issued(new)) => Self::fresh(new),
                Some(Verdict::Pending) => {
                    issued.late(at.now, &mut warnings);
                    let when = issued.next_lateness(at.now);
                    (State::Refreshing(issued, asked), warnings, Next::Rest(when))
                }
                None if at.now > asked.abandon_at => {
                    let why = "PodCertificateRequest appears to have been deleted".to_owned();
                    (State::Fresh(issued), warnings, Next::Retry(why))
                }
                None => {
                    let why = asked.unseen(namespace);
                    (State::Refreshing(issued, asked), warnings, Next::Retry(why))
                }
            },
        }
    }

    fn fresh(issued: Issued) -> (State, Vec<Warning>, Next) {
        let when = Some(issued.begin_refresh);
        (State::Fresh(issued), Vec::new(), Next::Rest(when))
    }

    /// A request has been made.
    #[must_use]
    pub fn requested(self, key: Vec<u8>, name: &str, created: Timestamp, jitter: SignedDuration) -> State {
        let abandon_at = after(after(created, ASSUME_DELETED), jitter);
        let asked = Requested { key, name: name.to_owned(), abandon_at };
        match self {
            State::Fresh(issued) | State::Refreshing(issued, _) => State::Refreshing(issued, asked),
            _ => State::Waiting(asked),
        }
    }

    /// Key and chain for the volume.
    ///
    /// # Errors
    /// If there are none, and why.
    pub fn bundle(&self) -> Result<(Vec<u8>, Vec<u8>), String> {
        let refused = |how: &str, reason: &str, message: &str| {
            Err(format!(
                "PodCertificateRequest was permanently {how}: reason={} message={}",
                quote(reason),
                quote(message)
            ))
        };
        match self {
            State::Initial | State::Waiting(_) => Err("credential bundle is not issued yet".to_owned()),
            State::Denied { reason, message } => refused("denied", reason, message),
            State::Failed { reason, message } => refused("failed", reason, message),
            State::Fresh(issued) | State::Refreshing(issued, _) => {
                Ok((issued.key.clone(), issued.chain.clone()))
            }
        }
    }

    /// The value of the label `state` of `kubelet_podcertificate_states`.
    pub fn metric(&self, now: Timestamp) -> &'static str {
        match self {
            State::Initial | State::Waiting(_) => "not_yet_issued",
            State::Denied { .. } => "denied",
            State::Failed { .. } => "failed",
            State::Fresh(issued) | State::Refreshing(issued, _) => issued.metric(now),
        }
    }
}

impl Requested {
    fn unseen(&self, namespace: &str) -> String {
        format!(
            "while getting PodCertificateRequest {}: podcertificaterequest.certificates.k8s.io {} not found",
            quote(&format!("{namespace}/{}", self.name)),
            quote(&self.name)
        )
    }
}

/// `duration` until `at`, for a timer.
pub fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests;
