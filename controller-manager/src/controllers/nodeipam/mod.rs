//! Node IPAM: gives each node a range of pod addresses, with `--allocate-node-cidrs`.
//!
//! Only the range allocator; that of clouds belongs to their controller managers. Start reading at [`plan`].
//! Upstream: pkg/controller/nodeipam, nodeipam/ipam/range_allocator.go.

mod plan;
mod ranges;

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

use self::plan::{Plan, State};
use self::ranges::Ranges;
use super::shared::key;
use crate::context::Context;
use crate::descriptor::Running;

const WORKERS: usize = 30;

struct Shell {
    client: Client,
    nodes: Store<Node>,
    recorder: EventRecorder,
    state: Mutex<State>,
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
        state: Mutex::new(State::new(from_flags(&context.flags)?)),
    });
    let queue: WorkQueue<String> = WorkQueue::new("cidrallocator_node");
    let (to, of_nodes) = (queue.clone(), shell.clone());
    nodes.subscribe(move |event| {
        if let Event::Deleted(node) = &event {
            of_nodes.state.lock().release(node);
        } else {
            to.add(key(&**event.object()));
        }
    });
    Ok(Box::pin(async move {
        if !nodes.wait_synced(&token).await {
            return;
        }
        // What is given already must be known before anything new is.
        nodes.store().for_each(|_, node| shell.state.lock().occupy(node));
        queue
            .run(WORKERS, &token, move |name: String| {
                let shell = shell.clone();
                async move { shell.sync(&name).await.map(|()| None) }
            })
            .await;
    }))
}

impl Shell {
    async fn sync(&self, name: &str) -> Result<(), String> {
        let Some(node) = self.nodes.get(name) else { return Ok(()) };
        let plan = self.state.lock().plan(&node);
        let cidrs = match plan {
            Plan::Nothing => return Ok(()),
            Plan::Give(cidrs) => cidrs,
            Plan::NoneLeft => {
                let message = format!("Node {name} status is now: CIDRNotAvailable");
                self.recorder.event(&reference(&*node), NORMAL, "CIDRNotAvailable", &message);
                return Err(format!("giving node {name} a range: --cluster-cidr has none left"));
            }
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
