//! What calls to programs on the node have in common. The programs listen at unix sockets.

use std::path::Path;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// Pause between attempts to reach a program that does not listen yet.
const PAUSE: Duration = Duration::from_millis(50);

/// Connects to a program that may begin to listen a moment later, as nothing tells when it does.
///
/// # Errors
/// If it does not in time.
pub async fn dial(socket: &Path, within: Duration) -> Result<Channel, String> {
    let endpoint =
        Endpoint::from_shared(format!("unix://{}", socket.display())).map_err(|e| e.to_string())?;
    let dial = async {
        loop {
            match endpoint.connect().await {
                Ok(channel) => return channel,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    };
    tokio::time::timeout(within, dial).await.map_err(|_| "context deadline exceeded".to_owned())
}

/// An error as Go's library writes it.
pub fn error_text(status: &Status) -> String {
    let (code, message) = match (status.code(), status.message()) {
        // How this library says that the caller's own limit is over.
        (Code::Cancelled, "Timeout expired") => (Code::DeadlineExceeded, "context deadline exceeded"),
        other => other,
    };
    format!("rpc error: code = {} desc = {message}", code_name(code))
}

/// A code as Go's library writes it.
pub fn code_name(code: Code) -> String {
    match code {
        Code::Ok => "OK".to_owned(),
        Code::Cancelled => "Canceled".to_owned(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_upstreams() {
        let text = |code, message: &str| error_text(&Status::new(code, message));
        assert_eq!(text(Code::Internal, "boom"), "rpc error: code = Internal desc = boom");
        assert_eq!(text(Code::Cancelled, "c"), "rpc error: code = Canceled desc = c");
        let late = "rpc error: code = DeadlineExceeded desc = context deadline exceeded";
        assert_eq!(text(Code::Cancelled, "Timeout expired"), late);
        assert_eq!(code_name(Code::Ok), "OK");
    }
}
