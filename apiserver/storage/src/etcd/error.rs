//! What etcd's errors mean. The texts are those of etcd's `api/v3rpc/rpctypes`; codes alone do not tell them apart.

use tonic::Code;

use crate::error::Error;

/// Turns a client error into ours.
pub fn interpret(error: etcd_client::Error) -> Error {
    match error {
        etcd_client::Error::GRpcStatus(status) => status_error(status.code(), status.message()),
        etcd_client::Error::InvalidArgs(why) | etcd_client::Error::EndpointError(why) => Error::Invalid(why),
        other => Error::Unavailable(other.to_string()),
    }
}

/// Whether the request cannot have reached a server, so that even a write may be repeated.
pub fn never_sent(error: &etcd_client::Error) -> bool {
    match error {
        etcd_client::Error::GRpcStatus(status) => {
            status.code() == Code::Unavailable && status.message().contains("tcp connect error")
        }
        _ => false,
    }
}

/// Turns a status into our error.
pub fn status_error(code: Code, message: &str) -> Error {
    let says = |text: &str| message.contains(text);
    match code {
        Code::OutOfRange if says("required revision has been compacted") => {
            Error::Compacted { requested: 0, oldest: 0 }
        }
        Code::OutOfRange if says("required revision is a future revision") => {
            Error::FutureRevision { requested: 0, current: 0 }
        }
        Code::InvalidArgument if says("request is too large") => Error::TooLarge,
        Code::ResourceExhausted if says("database space exceeded") => Error::NoSpace { path: "etcd".into() },
        Code::ResourceExhausted if says("trying to send message larger than max") => Error::TooLarge,
        Code::InvalidArgument | Code::OutOfRange | Code::PermissionDenied | Code::Unauthenticated => {
            Error::Invalid(message.to_owned())
        }
        Code::DeadlineExceeded => Error::Timeout(message.to_owned()),
        Code::DataLoss => Error::Corrupt(message.to_owned()),
        code => Error::Unavailable(format!("etcd: {code:?}: {message}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_decide_where_codes_do_not() {
        let check = |code, text: &str, expected: &str| {
            let debug = format!("{:?}", status_error(code, text));
            assert!(debug.starts_with(expected), "{debug}");
        };
        check(Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted", "Compacted");
        check(Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision", "FutureRevision");
        check(Code::InvalidArgument, "etcdserver: request is too large", "TooLarge");
        check(Code::InvalidArgument, "etcdserver: key is not provided", "Invalid");
        check(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", "NoSpace");
        check(Code::Unavailable, "etcdserver: leader changed", "Unavailable");
        check(Code::Unavailable, "etcdserver: request timed out", "Unavailable");
        check(Code::DeadlineExceeded, "", "Timeout");
    }
}
