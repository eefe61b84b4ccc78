//! Hooks after a container's start and before its end. Upstream: pkg/kubelet/lifecycle/handlers.go, v1.37.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};

use crate::container::security::describe;
use crate::events::Events;
use crate::http_get::{Error as GetError, Get, address};
use crate::metrics::pods;

/// Longest a hook's request may take; the caller's grace period usually ends it earlier.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// Runs a hook to its end. That it was answered without the HTTPS it asked for is an event.
///
/// # Errors
/// If it fails; the text is for the pod's status.
pub async fn run(
    cri: &cri::Client,
    id: &str,
    pod: &Pod,
    container: &Container,
    handler: &LifecycleHandler,
    pod_ip: &str,
    events: &Events,
) -> Result<(), String> {
    let named = || format!("for Container {:?} in Pod {:?} failed", container.name, describe(pod));
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        let shown = format!("[{}]", command.join(" "));
        return run_in_container(cri, id, command, Duration::ZERO).await.map_err(|(error, output)| {
            format!("Exec lifecycle hook ({shown}) {} - error: {error}, message: {output:?}", named())
        });
    }
    if let Some(action) = &handler.http_get {
        let path = action.path.clone().unwrap_or_default();
        let answered = http(action, container, pod_ip).await;
        if let Ok(Some(host)) = &answered {
            pods::hook_fell_back();
            let message = format!(
                "request to HTTPS lifecycle hook {host} got HTTP response, retry with HTTP succeeded"
            );
            events.warning(pod, "LifecycleHTTPFallback", &message);
        }
        return answered
            .map(drop)
            .map_err(|error| format!("HTTP lifecycle hook ({path}) {} - error: {error}", named()));
    }
    if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.max(0).unsigned_abs())).await;
        return Ok(());
    }
    Err("Cannot run handler: invalid handler".to_owned())
}

/// Asks; where the question was put again in plain HTTP, host and port.
async fn http(
    action: &k8s_openapi::api::core::v1::HTTPGetAction,
    container: &Container,
    pod_ip: &str,
) -> Result<Option<String>, GetError> {
    let mut get = Get::new(action, container, pod_ip, "lifecycle")?;
    match get.send(REQUEST_LIMIT).await {
        // Pods written before https was honoured here still work.
        Err(GetError::PlainAnswer { .. }) => {
            get.scheme = "http".to_owned();
            get.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
            get.send(REQUEST_LIMIT).await.map(|_| Some(address(&get.host, get.port)))
        }
        // Any answer will do; its status is not looked at, as upstream.
        other => other.map(|_| None),
    }
}

/// Runs a command; an exit code other than zero is an error, with what it wrote.
///
/// # Errors
/// Text of the error and the command's output.
pub async fn run_in_container(
    cri: &cri::Client,
    id: &str,
    command: Vec<String>,
    limit: Duration,
) -> Result<(), (String, String)> {
    let shown = command.join(" ");
    match cri.exec_sync(id, command, limit).await {
        Err(error) => Err((error.to_string(), String::new())),
        Ok(answer) => {
            let mut output = answer.stdout;
            output.extend_from_slice(&answer.stderr);
            let output = String::from_utf8_lossy(&output).into_owned();
            if answer.exit_code == 0 {
                return Ok(());
            }
            let stderr = String::from_utf8_lossy(&answer.stderr);
            Err((format!("command '{shown}' exited with {}: {stderr}", answer.exit_code), output))
        }
    }
}
