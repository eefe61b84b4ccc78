//! What can go wrong in a call to the runtime.

use tonic::{Code, Status};

/// Result of a call to the runtime.
pub type Result<T> = std::result::Result<T, Error>;

/// A call to the container runtime that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint given to the kubelet is not a unix socket address.
    #[error(
        "container runtime endpoint {endpoint:?} is not a unix socket address such as unix:///run/containerd/containerd.sock"
    )]
    Endpoint { endpoint: String },
    /// The runtime answered with an error, or did not answer at all.
    #[error("rpc error: code = {} desc = {}", code_name(.0.code()), .0.message())]
    Rpc(#[source] Box<Status>),
    /// The call was not made, and why.
    #[error("{0}")]
    Refused(&'static str),
    /// An answer lacked a part that the interface promises.
    #[error("{call}: the container runtime answered without {part}")]
    Incomplete { call: &'static str, part: &'static str },
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Error::Rpc(Box::new(status))
    }
}

impl Error {
    /// The gRPC code, where the runtime gave one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Error::Rpc(status) => Some(status.code()),
            _ => None,
        }
    }

    /// True if the object asked for does not exist (any more).
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(Code::NotFound)
    }

    /// True if the call took longer than its deadline.
    pub fn is_timeout(&self) -> bool {
        self.code() == Some(Code::DeadlineExceeded)
    }

    /// True if this runtime does not know the call.
    pub fn is_unimplemented(&self) -> bool {
        self.code() == Some(Code::Unimplemented)
    }

    /// The runtime's own words, without the transport's decoration.
    pub fn message(&self) -> String {
        match self {
            Error::Rpc(status) => status.message().to_owned(),
            other => other.to_string(),
        }
    }
}

/// The code's name as Go's gRPC library prints it; users search for these texts.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_go_does() {
        let error = Error::from(Status::not_found("no such container"));
        assert_eq!(error.to_string(), "rpc error: code = NotFound desc = no such container");
        assert!(error.is_not_found());
    }
}
