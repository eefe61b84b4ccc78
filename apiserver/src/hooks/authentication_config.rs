//! `kube-system/extension-apiserver-authentication`: the CA bundles and header names by which extension servers
//! recognise clients. Upstream: `pkg/controlplane/controller/clusterauthenticationtrust`.

use std::sync::Arc;

use auth::request_header::RequestHeaderConfig;
use auth::x509::CaBundle;
use registry::errors::ApiError;
use serde_json::json;

use crate::local::{Gvr, Local};

/// The bundles in use.
#[derive(Clone, Default)]
pub(crate) struct Bundles {
    pub(crate) client: Option<Arc<CaBundle>>,
    pub(crate) front_proxy: Option<Arc<CaBundle>>,
}

const NAME: &str = "extension-apiserver-authentication";

fn data(bundles: &Bundles, headers: &RequestHeaderConfig) -> serde_json::Map<String, serde_json::Value> {
    let mut data = serde_json::Map::new();
    let pem = |bundle: &CaBundle| json!(String::from_utf8_lossy(bundle.pem()));
    if let Some(bundle) = &bundles.client {
        data.insert("client-ca-file".to_owned(), pem(bundle));
    }
    if let Some(bundle) = &bundles.front_proxy {
        data.insert("requestheader-client-ca-file".to_owned(), pem(bundle));
        for (key, list) in [
            ("requestheader-allowed-names", &headers.allowed_names),
            ("requestheader-extra-headers-prefix", &headers.extra_header_prefixes),
            ("requestheader-group-headers", &headers.group_headers),
            ("requestheader-uid-headers", &headers.uid_headers),
            ("requestheader-username-headers", &headers.username_headers),
        ] {
            if !list.is_empty() || key != "requestheader-uid-headers" {
                data.insert(key.to_owned(), json!(json!(list).to_string()));
            }
        }
    }
    data
}

pub(super) async fn ensure(
    local: Local,
    bundles: Bundles,
    headers: RequestHeaderConfig,
) -> Result<(), ApiError> {
    let wanted = data(&bundles, &headers);
    let mut object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME, "namespace": "kube-system"},
        "data": wanted,
    });
    let Some(found) = local.get(Gvr::CONFIG_MAPS, "kube-system", NAME).await? else {
        return local.create(Gvr::CONFIG_MAPS, "kube-system", &object).await;
    };
    let same = |(key, value): (&String, &serde_json::Value)| found.str_at(&["data", key]) == value.as_str();
    if wanted.iter().all(same) && found.map_at(&["data"]).map_or(0, machinery::Map::len) == wanted.len() {
        return Ok(());
    }
    object["metadata"]["resourceVersion"] =
        json!(found.str_at(&["metadata", "resourceVersion"]).unwrap_or_default());
    local.update(Gvr::CONFIG_MAPS, "kube-system", &object).await
}
