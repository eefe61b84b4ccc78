//! Removes every pod sandbox through the runtime's own interface, so that its network plugin cleans up too.

use std::time::Duration;

use anyhow::{Context, Result};
use cri::v1::{ListPodSandboxRequest, RemovePodSandboxRequest, StopPodSandboxRequest};

/// Identifiers of all sandboxes.
pub fn sandboxes(endpoint: &str) -> Result<Vec<String>> {
    block(async {
        let client = cri::Client::connect(endpoint, Duration::from_secs(120))?;
        let list = client.list_pod_sandbox(ListPodSandboxRequest { filter: None }).await?;
        Ok(list.items.into_iter().map(|s| s.id).collect())
    })
}

/// Stops and removes the given sandboxes.
pub fn remove(endpoint: &str, ids: &[String]) -> Result<()> {
    block(async {
        let client = cri::Client::connect(endpoint, Duration::from_secs(120))?;
        for id in ids {
            client
                .stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id.clone() })
                .await
                .with_context(|| format!("stopping sandbox {id}"))?;
            client
                .remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id.clone() })
                .await
                .with_context(|| format!("removing sandbox {id}"))?;
        }
        Ok(())
    })
}

fn block<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
