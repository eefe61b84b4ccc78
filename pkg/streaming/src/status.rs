//! How a command ended, as the runtime says it and as a client over a WebSocket is told.
//!
//! Upstream: client-go/tools/remotecommand `errorDecoderV2`, `errorDecoderV4`; apiserver/pkg/util/proxy
//! streamtranslator.go `codeExitToStatusError`, v1.37. `e2e/oracle/streaming` records its answers.

use serde::{Deserialize, Serialize};

use crate::backend::Protocol;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Well.
    Success,
    /// With another code than 0.
    Exit(u8),
    /// It was not run, or nobody knows.
    Failed(String),
}

impl Verdict {
    /// Reads what came on the error stream, which says nothing when all was well.
    pub fn read(protocol: Protocol, message: &[u8]) -> Self {
        let text = || String::from_utf8_lossy(message);
        match protocol {
            _ if message.is_empty() => Verdict::Success,
            Protocol::V1 => Verdict::Failed(format!("Error executing remote command: {}", text())),
            Protocol::V2 | Protocol::V3 => {
                Verdict::Failed(format!("error executing remote command: {}", text()))
            }
            Protocol::V4 | Protocol::V5 => match serde_json::from_slice::<Status>(message) {
                Ok(status) => status.verdict(),
                Err(error) => {
                    Verdict::Failed(format!("error stream protocol error: {error} in {:?}", text()))
                }
            },
        }
    }

    /// The code of HTTP that it is counted under.
    pub fn code(&self) -> u16 {
        // A command that fails was run as asked.
        if matches!(self, Verdict::Failed(_)) { 500 } else { 200 }
    }

    /// The message for the client.
    pub fn write(&self) -> Vec<u8> {
        let status = match self {
            Verdict::Success => Status { status: "Success".to_owned(), ..Status::default() },
            Verdict::Exit(code) => {
                let cause = Cause { reason: EXIT_CODE.to_owned(), message: code.to_string() };
                Status::failure(
                    NON_ZERO,
                    format!(
                        "command terminated with non-zero exit code: command terminated with exit code {code}"
                    ),
                    cause,
                )
            }
            Verdict::Failed(why) => {
                let cause = Cause { reason: String::new(), message: why.clone() };
                let message = format!("Internal error occurred: {why}");
                Status { code: 500, ..Status::failure("InternalError", message, cause) }
            }
        };
        serde_json::to_vec(&status).unwrap_or_default()
    }
}

const NON_ZERO: &str = "NonZeroExitCode";
const EXIT_CODE: &str = "ExitCode";

/// What is used of `metav1.Status`, in the order in which upstream writes it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Status {
    #[serde(skip_deserializing)]
    metadata: Metadata,
    #[serde(skip_serializing_if = "String::is_empty")]
    status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "is_zero")]
    code: i32,
}

#[derive(Debug, Default, Serialize)]
struct Metadata {}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Cause {
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(code: &i32) -> bool {
    *code == 0
}

impl Status {
    fn failure(reason: &str, message: String, cause: Cause) -> Self {
        let details = Some(Details { causes: vec![cause] });
        Status {
            status: "Failure".to_owned(),
            message,
            reason: reason.to_owned(),
            details,
            ..Status::default()
        }
    }

    fn verdict(self) -> Verdict {
        let failed = |why: &str| Verdict::Failed(format!("error stream protocol error: {why}"));
        match self.status.as_str() {
            "Success" => return Verdict::Success,
            "Failure" if self.reason == NON_ZERO => {}
            "Failure" => return Verdict::Failed(self.message),
            _ => return failed("unknown error"),
        }
        let Some(details) = self.details else { return failed("details must be set") };
        let Some(cause) = details.causes.into_iter().find(|cause| cause.reason == EXIT_CODE) else {
            return failed("no ExitCode cause given");
        };
        let digits = cause.message.bytes().all(|b| b.is_ascii_digit());
        match cause.message.parse() {
            Ok(code) if digits => Verdict::Exit(code),
            _ => failed(&format!("invalid exit code value {:?}", cause.message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What upstream's translator says (`e2e/oracle/streaming verdicts`).
    const VERDICTS: &str = include_str!("../testdata/verdicts.jsonl");

    #[derive(Deserialize)]
    struct Recorded {
        protocol: String,
        message: String,
        told: String,
    }

    #[test]
    fn as_upstream() {
        for line in VERDICTS.lines() {
            let recorded: Recorded = serde_json::from_str(line).unwrap();
            let protocol = match recorded.protocol.as_str() {
                "v4.channel.k8s.io" => Protocol::V4,
                "v3.channel.k8s.io" => Protocol::V3,
                "v2.channel.k8s.io" => Protocol::V2,
                _ => Protocol::V1,
            };
            let told = Verdict::read(protocol, recorded.message.as_bytes()).write();
            assert_eq!(String::from_utf8_lossy(&told), recorded.told, "{line}");
        }
    }
}
