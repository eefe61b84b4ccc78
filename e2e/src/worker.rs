//! More nodes: each a network namespace with its own containerd, kubelet and kube-proxy, in the first node's network.
//!
//! A worker is a [`Cluster`] of which only the node's daemons are started. Its pods' addresses are those the controller
//! manager gives the node; routes on every host lead to them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cgroup;
use crate::cluster::Cluster;
use crate::host;
use crate::pki::Pki;
use crate::process::Processes;
use crate::spec::{self, Spec};

impl Cluster {
    /// The nodes besides the first that are asked for, prepared but not started.
    pub(crate) fn workers(&self) -> Result<Vec<Self>> {
        (2..=self.spec.nodes).map(|number| self.worker(number)).collect()
    }

    /// The nodes besides the first that have a folder here, however many are asked for now.
    pub(crate) fn workers_found(&self) -> Result<Vec<Self>> {
        numbers_found(&self.spec.dir)?.into_iter().map(|number| self.worker(number)).collect()
    }

    /// A node with copies of what the cluster's own folder holds, or, if it joined by a token, with what it got.
    fn worker(&self, number: u8) -> Result<Self> {
        let spec = self.host(number)?;
        let mut pki = Pki { dir: spec.dir.join("kubernetes") };
        if !pki.bootstraps() {
            pki = self.pki.join(&pki.dir, &spec.node, spec.address, &spec.server)?;
        }
        Ok(Self::of(spec, pki))
    }

    /// A host that knows nothing of the cluster but the API server's address.
    pub(crate) fn stranger_host(&self, number: u8) -> Result<Self> {
        let spec = self.host(number)?;
        let pki = Pki { dir: spec.dir.join("kubernetes") };
        fs::create_dir_all(pki.dir.join("pki")).with_context(|| format!("creating {}", pki.dir.display()))?;
        Ok(Self::of(spec, pki))
    }

    /// Another host of the control plane, prepared but not started.
    pub(crate) fn control_plane_host(&self, number: u8) -> Result<Self> {
        let mut spec = self.host(number)?;
        spec.server = spec::server(spec.address);
        let dir = spec.dir.join("kubernetes");
        let pki = self.pki.control_plane(&dir, &spec.node, spec.address, spec::SERVICE_IP, &spec.server)?;
        Ok(Self::of(spec, pki))
    }

    fn of(spec: Spec, pki: Pki) -> Self {
        let processes = Processes { dir: spec.dir.clone(), netns: spec.netns.clone() };
        Self { spec, processes, pki }
    }

    /// The number at the end of the node's name.
    pub(crate) fn number(&self) -> u8 {
        self.spec.node.trim_start_matches("node").parse().unwrap_or(1)
    }

    /// Makes the namespace, cgroups and folder of another host.
    fn host(&self, number: u8) -> Result<Spec> {
        let (Some(first), IpAddr::V4(address)) = (&self.spec.netns, self.spec.address) else {
            bail!(
                "more than one node takes a cluster in network namespaces of its own (cluster up --isolated)"
            );
        };
        let [a, b, c, _] = address.octets();
        let (node, name) = (format!("node{number}"), format!("{first}-{number}"));
        let spec = Spec {
            dir: self.spec.dir.join(&node),
            address: Ipv4Addr::new(a, b, c, number).into(),
            cgroup_root: Some(format!("/{name}")),
            netns: Some(name.clone()),
            node,
            nodes: 1,
            ..self.spec.clone()
        };
        fs::create_dir_all(&spec.dir).with_context(|| format!("creating {}", spec.dir.display()))?;
        host::create_beside(first, &name, spec.address)?;
        if spec.dual_stack {
            host::give_second_address(&name, spec::node_ip_6(number))?;
        }
        cgroup::create(&format!("/{name}"))?;
        Ok(spec)
    }

    /// Starts a worker's daemons and waits until the node is Ready.
    pub(crate) fn join(&self, worker: &Self) -> Result<()> {
        fs::create_dir_all(worker.spec.dir.join("cni"))?;
        let images = worker.spec.dir.join("images.tar");
        if !images.exists() {
            fs::hard_link(self.spec.dir.join("images.tar"), &images).context("linking the image archive")?;
        }
        worker.start_containerd()?;
        worker.start_daemon("kube-proxy")?;
        worker.start_daemon("kubelet")?;
        let pod_cidrs = self.pod_cidrs(worker)?;
        let pod_cidrs: Vec<&str> = pod_cidrs.split_whitespace().collect();
        worker.write_network(&pod_cidrs)?;
        self.connect(worker, &pod_cidrs)?;
        self.wait_node(worker)
    }

    /// The addresses that the controller manager gave the worker's pods, of one family or both.
    fn pod_cidrs(&self, worker: &Self) -> Result<String> {
        let (kubectl, node) = (self.kubectl("admin"), worker.spec.node.as_str());
        let read = || kubectl.run(&["get", "node", node, "-o", "jsonpath={.spec.podCIDRs[*]}"]);
        worker.wait("kubelet", Duration::from_secs(60), || Ok(!read()?.is_empty()))?;
        read()
    }

    /// Routes between the worker and every other node that has addresses for pods already.
    fn connect(&self, worker: &Self, pod_cidrs: &[&str]) -> Result<()> {
        let path = "jsonpath={range .items[*]}{.metadata.name}|{.spec.podCIDRs[*]}|\
                    {.status.addresses[?(@.type==\"InternalIP\")].address}{\"\\n\"}{end}";
        let nodes = self.kubectl("admin").run(&["get", "nodes", "-o", path])?;
        for line in nodes.lines() {
            let [node, cidrs, addresses] = line.split('|').collect::<Vec<_>>()[..] else { continue };
            if node == worker.spec.node {
                continue;
            }
            let first = self.spec.netns.as_deref().unwrap_or_default();
            let number = node.strip_prefix("node").unwrap_or_default();
            let name = if node == self.spec.node { first.to_string() } else { format!("{first}-{number}") };
            let mine = worker.spec.netns.as_deref().unwrap_or_default();
            // Both lists begin with the first family.
            for (cidr, address) in cidrs.split_whitespace().zip(addresses.split_whitespace()) {
                let address =
                    address.parse().with_context(|| format!("node {node} has the address {address:?}"))?;
                host::route(mine, cidr, address)?;
            }
            let own = [worker.spec.address, spec::node_ip_6(worker.number())];
            for (cidr, address) in pod_cidrs.iter().zip(own) {
                host::route(&name, cidr, address)?;
            }
        }
        ensure!(!nodes.is_empty(), "the API server knows no nodes");
        Ok(())
    }
}

/// The numbers of the folders `node2`, `node3`, ... in a cluster's folder, in order.
fn numbers_found(dir: &Path) -> Result<Vec<u8>> {
    let entries = fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    let mut numbers: Vec<u8> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("node")?.parse().ok())
        .filter(|number| *number >= 2)
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_node_with_a_folder() -> Result<()> {
        let dir = tempfile::tempdir()?;
        for name in ["node3", "node2", "node10", "node1", "nodes", "node300", "kubelet"] {
            fs::create_dir(dir.path().join(name))?;
        }
        assert_eq!(numbers_found(dir.path())?, [2, 3, 10]);
        Ok(())
    }
}
