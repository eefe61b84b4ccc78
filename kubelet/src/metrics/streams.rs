//! Commands, terminals and ports over WebSockets. Upstream: pkg/kubelet/server/metrics/metrics.go, v1.37.

use std::sync::OnceLock;

use component::metrics::{Counter, Family, Opts, default_registry};

/// Counts a request that is translated here.
pub fn count(subresource: &str) {
    static REQUESTS: OnceLock<Family<Counter>> = OnceLock::new();
    let requests = REQUESTS.get_or_init(|| {
        let opts = Opts::new(
            "kubelet_websocket_streaming_requests_total",
            "Total number of WebSocket streaming requests (exec/attach/portforward) received by the kubelet.",
        );
        Family::registered(opts.labels(&["subresource"]), &[], default_registry())
    });
    requests.with(&[subresource]).inc();
}
