//! What can go wrong when talking to an API server.
//!
//! An answer of the server is always kept as its `Status`, so that callers can look at reason, causes and details.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

/// Failure of a call through [`crate::Client`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered, and the answer is a failure.
    #[error("{}", status_text(.0))]
    Api(Box<Status>),
    /// The configuration (kubeconfig, certificate, token, flag) cannot be used.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// No connection to the server.
    #[error("{verb} {url}: connect to {server}: {reason}")]
    Connect {
        /// HTTP method of the call.
        verb: String,
        /// Path and query of the call.
        url: String,
        /// `host:port`.
        server: String,
        /// What the system or TLS said.
        reason: String,
    },
    /// The connection failed while the call was under way; the server may or may not have acted on it.
    #[error("{verb} {url}: {reason}")]
    Transport {
        /// HTTP method of the call.
        verb: String,
        /// Path and query of the call.
        url: String,
        /// What the HTTP layer said.
        reason: String,
    },
    /// The call took longer than allowed.
    #[error("{verb} {url}: no answer within {after:?}")]
    Timeout {
        /// HTTP method of the call.
        verb: String,
        /// Path and query of the call.
        url: String,
        /// The limit.
        after: Duration,
    },
    /// The credentials could not be obtained.
    #[error("getting credentials: {0}")]
    Auth(String),
    /// The server's bytes are not the promised object.
    #[error("decoding {what}: {reason}")]
    Decode {
        /// Kind or URL.
        what: String,
        /// Parser's message.
        reason: String,
    },
    /// The object cannot be written in the wire format.
    #[error("encoding {what}: {reason}")]
    Encode {
        /// Kind.
        what: String,
        /// Writer's message.
        reason: String,
    },
    /// The caller asked for something that cannot be expressed as a request.
    #[error("invalid request: {0}")]
    Invalid(String),
}

/// Result of client calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn status_text(status: &Status) -> String {
    if let Some(message) = status.message.as_deref().filter(|m| !m.is_empty()) {
        return message.to_string();
    }
    match (status.reason.as_deref(), status.code) {
        (Some(reason), _) if !reason.is_empty() => reason.to_string(),
        (_, Some(code)) => format!("the server answered {code}"),
        _ => "unknown".to_string(),
    }
}

impl Error {
    /// The server's `Status`, when there is one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Api(status) => Some(status),
            _ => None,
        }
    }

    /// HTTP code of the server's answer.
    pub fn code(&self) -> Option<u16> {
        self.status().and_then(|s| s.code).and_then(|c| u16::try_from(c).ok())
    }

    /// The `reason` of the server's answer, "" when unknown.
    pub fn reason(&self) -> &str {
        self.status().and_then(|s| s.reason.as_deref()).unwrap_or("")
    }

    fn is(&self, reason: &str, code: u16) -> bool {
        let got = self.reason();
        got == reason || ((got.is_empty() || !known_reason(got)) && self.code() == Some(code))
    }

    /// The object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.is("NotFound", 404)
    }
    /// A create met an object of the same name.
    pub fn is_already_exists(&self) -> bool {
        self.reason() == "AlreadyExists"
    }
    /// An update lost against another one.
    pub fn is_conflict(&self) -> bool {
        self.is("Conflict", 409)
    }
    /// The object failed validation.
    pub fn is_invalid(&self) -> bool {
        self.is("Invalid", 422)
    }
    /// The request itself makes no sense to the server.
    pub fn is_bad_request(&self) -> bool {
        self.is("BadRequest", 400)
    }
    /// The resource version is too old (reason `Expired` or `Gone`).
    pub fn is_expired(&self) -> bool {
        matches!(self.reason(), "Expired" | "Gone") || self.code() == Some(410)
    }
    /// The caller may not do this.
    pub fn is_forbidden(&self) -> bool {
        self.is("Forbidden", 403)
    }
    /// The caller is not authenticated.
    pub fn is_unauthorized(&self) -> bool {
        self.is("Unauthorized", 401)
    }
    /// The server asks to slow down.
    pub fn is_too_many_requests(&self) -> bool {
        self.is("TooManyRequests", 429)
    }
    /// The server cannot serve now.
    pub fn is_service_unavailable(&self) -> bool {
        self.is("ServiceUnavailable", 503)
    }
    /// An internal error of the server.
    pub fn is_internal(&self) -> bool {
        self.is("InternalError", 500)
    }
    /// The server does not offer the verb on the resource.
    pub fn is_method_not_allowed(&self) -> bool {
        self.is("MethodNotAllowed", 405)
    }
    /// The server cannot answer in a format that was asked for.
    pub fn is_not_acceptable(&self) -> bool {
        self.is("NotAcceptable", 406)
    }
    /// The server does not read the format of the body.
    pub fn is_unsupported_media_type(&self) -> bool {
        self.is("UnsupportedMediaType", 415)
    }
    /// The call took too long, on either side.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. }) || matches!(self.reason(), "Timeout" | "ServerTimeout")
    }
    /// No answer of the server: it cannot be reached or the connection broke.
    pub fn is_connection(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Transport { .. })
    }
    /// The watch cache is behind the resource version asked for.
    /// Upstream: apimachinery/pkg/api/errors IsTooLargeResourceVersion.
    pub fn is_too_large_resource_version(&self) -> bool {
        self.is_timeout() && self.has_cause("ResourceVersionTooLarge")
    }
    /// The namespace is being deleted, so nothing can be created in it.
    pub fn is_namespace_terminating(&self) -> bool {
        self.has_cause("NamespaceTerminating")
    }
    /// Whether the status carries a cause of this type.
    pub fn has_cause(&self, kind: &str) -> bool {
        let causes = self.status().and_then(|s| s.details.as_ref()).and_then(|d| d.causes.as_ref());
        causes.is_some_and(|all| all.iter().any(|c| c.reason.as_deref() == Some(kind)))
    }
    /// Seconds the server asks to wait before the next try.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.status()?.details.as_ref()?.retry_after_seconds?;
        u64::try_from(seconds).ok().filter(|s| *s > 0).map(Duration::from_secs)
    }
    /// The same call may succeed later, and nothing about it has to change.
    pub fn is_transient(&self) -> bool {
        self.is_connection()
            || self.is_timeout()
            || self.is_too_many_requests()
            || self.is_internal()
            || self.is_service_unavailable()
            || self.code().is_some_and(|c| c >= 500)
    }
}

/// Upstream: apimachinery/pkg/api/errors knownReasons.
fn known_reason(reason: &str) -> bool {
    matches!(
        reason,
        "Unauthorized"
            | "Forbidden"
            | "NotFound"
            | "AlreadyExists"
            | "Conflict"
            | "Gone"
            | "Invalid"
            | "ServerTimeout"
            | "StoreReadError"
            | "Timeout"
            | "TooManyRequests"
            | "BadRequest"
            | "MethodNotAllowed"
            | "NotAcceptable"
            | "RequestEntityTooLarge"
            | "UnsupportedMediaType"
            | "InternalError"
            | "Expired"
            | "ServiceUnavailable"
    )
}

/// Builds the `Status` of an answer that carries none.
/// Upstream: apimachinery/pkg/api/errors NewGenericServerResponse.
pub fn generic_status(code: u16, verb: &str, text: &str, retry_after: Option<u64>) -> Status {
    let (reason, message) = match code {
        409 if verb == "POST" => ("AlreadyExists", "the server reported a conflict".into()),
        409 => ("Conflict", "the server reported a conflict".into()),
        404 => ("NotFound", "the server could not find the requested resource".into()),
        400 => ("BadRequest", "the server rejected our request for an unknown reason".into()),
        401 => ("Unauthorized", "the server has asked for the client to provide credentials".into()),
        403 => ("Forbidden", text.to_string()),
        406 => ("NotAcceptable", or(text, "the server was unable to respond with a content type that the client supports")),
        415 => ("UnsupportedMediaType", or(text, "the server was unable to understand the request's content type")),
        405 => ("MethodNotAllowed", "the server does not allow this method on the requested resource".into()),
        422 => ("Invalid", "the server rejected our request due to an error in our request".into()),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request".into()),
        504 => (
            "Timeout",
            "the server was unable to return a response in the time allotted, but may still be processing the request"
                .into(),
        ),
        429 => (
            "TooManyRequests",
            "the server has received too many requests and has asked us to try again later".into(),
        ),
        500.. => (
            "InternalError",
            format!("an error on the server ({text:?}) has prevented the request from succeeding"),
        ),
        _ => (
            "Unknown",
            format!("the server responded with the status code {code} but did not return more information"),
        ),
    };
    let details = k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusDetails {
        retry_after_seconds: retry_after.and_then(|s| i32::try_from(s).ok()),
        ..Default::default()
    };
    Status {
        code: Some(i32::from(code)),
        message: Some(message),
        reason: Some(reason.to_string()),
        status: Some("Failure".to_string()),
        details: Some(details),
        ..Default::default()
    }
}

fn or(text: &str, default: &str) -> String {
    if text.is_empty() { default.to_string() } else { text.to_string() }
}
