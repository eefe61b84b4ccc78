//! The default ServiceCIDR, named `kubernetes`, with the ranges of `--service-cluster-ip-range`.
//! Upstream: `pkg/controlplane/controller/defaultservicecidr`.

use ipnet::IpNet;
use registry::errors::ApiError;
use serde_json::json;

use crate::local::{Gvr, Local};

pub(super) async fn ensure(local: Local, cidrs: Vec<IpNet>) -> Result<(), ApiError> {
    let cidrs: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": cidrs},
    });
    if local.ensure(Gvr::SERVICE_CIDRS, "", &object).await? {
        return Ok(());
    }
    let found = local.get(Gvr::SERVICE_CIDRS, "", "kubernetes").await?;
    let present: Vec<String> = found
        .as_ref()
        .and_then(|f| f.list_at(&["spec", "cidrs"]))
        .map(|l| l.iter().filter_map(|v| v.as_str()).map(str::to_owned).collect())
        .unwrap_or_default();
    if present != cidrs {
        tracing::warn!(?present, configured = ?cidrs, "default ServiceCIDR does not match --service-cluster-ip-range");
    }
    Ok(())
}
