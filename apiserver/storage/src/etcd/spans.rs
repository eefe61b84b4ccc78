//! A channel to etcd whose calls are told as spans. Made only where there are traces.
//! Upstream: `newETCD3Client` of apiserver/pkg/storage/storagebackend/factory/etcd3.go.

use etcd_client::{BalancedChannelBuilder, Channel};
use http::Uri;
use tokio::sync::mpsc::Sender;
use tonic::transport::channel::Change;
use tonic::transport::{self, Endpoint};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;
use traces::Traces;

/// Makes channels whose calls are told.
pub(super) struct Spans<'a> {
    pub(super) traces: &'a Traces,
    /// Where the calls go, if that is one place.
    pub(super) server: &'a str,
}

impl Spans<'_> {
    /// Tells the calls of a channel.
    pub(super) fn around(&self, channel: transport::Channel) -> Channel {
        let told = traces::grpc::Traced::new(channel, Some(self.traces), self.server)
            .map_response(|response| response.map(tonic::body::Body::new))
            .map_err(Into::into);
        Channel::Custom(BoxCloneSyncService::new(told))
    }
}

impl BalancedChannelBuilder for Spans<'_> {
    type Error = transport::Error;

    fn balanced_channel(self, size: usize) -> Result<(Channel, Sender<Change<Uri, Endpoint>>), Self::Error> {
        let (channel, updates) = transport::Channel::balance_channel(size);
        Ok((self.around(channel), updates))
    }
}

/// `host:port` or a socket's path, if there is one endpoint.
pub(super) fn server(endpoints: &[String]) -> &str {
    match endpoints {
        [one] => {
            let rest = one.split_once("://").map_or(one.as_str(), |(_, rest)| rest);
            rest.strip_prefix("unix:")
                .unwrap_or(rest)
                .trim_end_matches(|c| c == '/' && !rest.starts_with('/'))
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        for (endpoints, want) in [
            (&["http://127.0.0.1:2379"][..], "127.0.0.1:2379"),
            (&["https://etcd:2379/"], "etcd:2379"),
            (&["127.0.0.1:2379"], "127.0.0.1:2379"),
            (&["unix:///run/etcd.sock"], "/run/etcd.sock"),
            (&["a:1", "b:1"], ""),
        ] {
            let endpoints: Vec<String> = endpoints.iter().map(|e| (*e).to_owned()).collect();
            assert_eq!(server(&endpoints), want);
        }
    }
}
