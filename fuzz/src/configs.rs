//! Files that daemons read.

use crate::text;
use client::kubeconfig::Kubeconfig;

pub fn kubeconfig(data: &[u8]) {
    if let Ok(mut config) = Kubeconfig::parse(&text(data)) {
        config.resolve(std::path::Path::new("/nowhere"));
        let _ = config.select("");
    }
}

pub fn component_config(data: &[u8]) {
    let kinds = [("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration"), ("v1", "Any")];
    if let Ok(d) = component::config::decode::<serde_json::Value>("file", data, &kinds) {
        let _ = d.strict();
    }
    if let Ok(d) = component::config::decode::<kube_proxy::config::KubeProxyConfiguration>("file", data, &kinds) {
        let _ = d.strict();
    }
}
