//! Node IPAM: gives each node a range of pod addresses, with `--allocate-node-cidrs`.
//!
//! Only the range allocator; that of clouds belongs to their controller managers. Start reading at [`ranges`].
//! Upstream: pkg/controller/nodeipam, nodeipam/ipam/range_allocator.go.

mod ranges;

use std::collections::HashMap;
use std::sync::Arc;

use client::{Client, Meta, Patch, PatchParams};
use component::app::Error;
use component::flags::FlagSet;
use controller::{EventRecorder, NORMAL, WorkQueue, reference};
use informer::{Event, Options, Store};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use serde_json::json;

use self::ranges::Ranges;
use super::shared::key;
use crate::context::Context;
use crate::descriptor::Running;

const WORKERS: usize = 30;

#[derive(Default)]
struct State {
    /// One per cluster range: first family, then second.
    ranges: Vec<Ranges>,
    /// Ranges that are being written, by node uid.
    promised: HashMap<String, Vec<IpNet>>,
}

struct Shell {
    client: Client,
    nodes: Store<Node>,
    recorder: EventRecorder,
    state: Mutex<State>,
}

fn cidrs(node: &Node) -> Vec<IpNet> {
    let texts = node.spec.as_ref().and_then(|s| s.pod_cidrs.as_deref()).unwrap_or_default();
    texts.iter().filter_map(|t| t.parse().ok()).collect()
}

/// The ranges that the flags describe.
fn from_flags(flags: &FlagSet) -> Result<Vec<Ranges>, Error> {
    if flags.string("cidr-allocator-type") != "RangeAllocator" {
        return Err("only --cidr-allocator-type=RangeAllocator is supported".into());
    }
    let parse = |flag: &str| -> Result<Vec<IpNet>, Error> {
        let texts = flags.string(flag).split(',').map(str::trim).filter(|t| !t.is_empty());
        texts.map(|t| t.parse().map_err(|e| format!("reading --{flag} {t:?}: {e}").into())).collect()
    };
    let clusters = parse("cluster-cidr")?;
    if clusters.is_empty() || clusters.len() > 2 {
        return Err("--allocate-node-cidrs needs one --cluster-cidr, or one of each IP family".into());
    }
    let services = parse("service-cluster-ip-range")?;
    let dual = clusters.len() == 2;
    let mask = |cluster: &IpNet| {
        let (family, default) = if cluster.addr().is_ipv4() {
            ("node-cidr-mask-size-ipv4", 24)
        } else {
            ("node-cidr-mask-size-ipv6", 64)
        };
        let set = |flag: &str| u8::try_from(flags.int(flag)).ok().filter(|m| *m > 0);
        set(family).or_else(|| set("node-cidr-mask-size").filter(|_| !dual)).unwrap_or(default)
    };
    let mut all = Vec::new();
    for cluster in clusters {
        let mut ranges = Ranges::new(cluster, mask(&cluster))?;
        services.iter().for_each(|s| ranges.occupy(s));
        all.push(ranges);
    }
    Ok(all)
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let token = context.token.clone();
    if !context.flags.bool("allocate-node-cidrs") {
        return Ok(Box::pin(async move { token.cancelled().await }));
    }
    let nodes = context.factory.informer::<Node>(Options::default());
    let shell = Arc::new(Shell {
        client: context.client(),
        nodes: nodes.store(),
        recorder: context.recorder("cidrAllocator"),
        state: Mutex::new(State { ranges: from_flags(&context.flags)?, ..State::default() }),
    });
    let queue: WorkQueue<String> = WorkQueue::new("cidrallocator_node");
    let (to, of_nodes) = (queue.clone(), shell.clone());
    nodes.subscribe(move |event| {
        if let Event::Deleted(node) = &event {
            of_nodes.release(node);
        } else {
            to.add(key(&**event.object()));
        }
    });
    Ok(Box::pin(async move {
        if !nodes.wait_synced(&token).await {
            return;
        }
        // What is given already must be known before anything new is.
        nodes.store().for_each(|_, node| shell.occupy(node));
        queue
            .run(WORKERS, &token, move |name: String| {
                let shell = shell.clone();
                async move { shell.sync(&name).await.map(|()| None) }
            })
            .await;
    }))
}

impl Shell {
    fn occupy(&self, node: &Node) {
        let mut state = self.state.lock();
        let given = cidrs(node);
        if !given.is_empty() {
            // A promise that somebody else forestalled is free again.
            for (ranges, unused) in state
                .promised
                .remove(node.uid())
                .into_iter()
                .flatten()
                .enumerate()
                .filter(|(_, c)| !given.contains(c))
            {
                if let Some(ranges) = state.ranges.get_mut(ranges) {
                    ranges.release(&unused);
                }
            }
        }
        for (ranges, cidr) in state.ranges.iter_mut().zip(&given) {
            ranges.occupy(cidr);
        }
    }

    fn release(&self, node: &Node) {
        let mut state = self.state.lock();
        let promised = state.promised.remove(node.uid()).unwrap_or_default();
        let given = cidrs(node);
        let lost = if given.is_empty() { promised } else { given };
        for (ranges, cidr) in state.ranges.iter_mut().zip(&lost) {
            ranges.release(cidr);
        }
    }

    /// The ranges for a node: the same ones until they are written.
    fn promise(&self, node: &Node) -> Option<Vec<IpNet>> {
        let mut state = self.state.lock();
        if let Some(promised) = state.promised.get(node.uid()) {
            return Some(promised.clone());
        }
        let mut cidrs = Vec::new();
        for at in 0..state.ranges.len() {
            match state.ranges[at].next() {
                Some(cidr) => cidrs.push(cidr),
                None => {
                    for (ranges, cidr) in state.ranges.iter_mut().zip(&cidrs) {
                        ranges.release(cidr);
                    }
                    return None;
                }
            }
        }
        state.promised.insert(node.uid().to_string(), cidrs.clone());
        Some(cidrs)
    }

    async fn sync(&self, name: &str) -> Result<(), String> {
        let Some(node) = self.nodes.get(name).filter(|n| n.metadata.deletion_timestamp.is_none()) else {
            return Ok(());
        };
        if !cidrs(&node).is_empty() {
            self.occupy(&node);
            return Ok(());
        }
        let Some(cidrs) = self.promise(&node) else {
            let message = format!("Node {name} status is now: CIDRNotAvailable");
            self.recorder.event(&reference(&*node), NORMAL, "CIDRNotAvailable", &message);
            return Err(format!("giving node {name} a range: --cluster-cidr has none left"));
        };
        let texts: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
        let patch = Patch::Strategic(json!({
            "metadata": {"uid": node.uid()}, "spec": {"podCIDR": texts.first(), "podCIDRs": texts},
        }));
        match self.client.all::<Node>().patch(name, &patch, &PatchParams::default()).await {
            Err(error) if !error.is_not_found() => {
                Err(format!("writing ranges {} of node {name}: {error}", texts.join(",")))
            }
            _ => Ok(()),
        }
    }
}
