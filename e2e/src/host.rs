//! Network namespaces that stand for hosts, and the wires between them.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The bridge that hosts are wired to.
const SWITCH: &str = "hosts0";

/// The namespace of the switch: in a host's own, bridged packets would pass that host's rules a second time.
fn switch(first: &str) -> String {
    format!("{first}-net")
}

/// Makes a network namespace with loopback and one address, if it is not there yet.
pub fn create(name: &str, address: IpAddr) -> Result<()> {
    if exists(name) {
        return Ok(());
    }
    ip(&["netns", "add", name])?;
    ip(&["-n", name, "link", "set", "lo", "up"])?;
    // A pair whose other end nobody uses: not every kernel has dummy devices.
    ip(&["-n", name, "link", "add", "node0", "type", "veth", "peer", "name", "node0-peer"])?;
    ip(&["-n", name, "link", "set", "node0-peer", "up"])?;
    give_address(name, address)
}

/// Makes the namespace `name` of another host in the network of the host `first`, if it is not there yet.
pub fn create_beside(first: &str, name: &str, address: IpAddr) -> Result<()> {
    if exists(name) {
        return Ok(());
    }
    let net = switch(first);
    let plug = |wire: &str| {
        ip(&["-n", &net, "link", "set", wire, "master", SWITCH])?;
        ip(&["-n", &net, "link", "set", wire, "up"])
    };
    if !exists(&net) {
        ip(&["netns", "add", &net])?;
        ip(&["-n", &net, "link", "add", SWITCH, "type", "bridge"])?;
        ip(&["-n", &net, "link", "set", SWITCH, "up"])?;
        ip(&["-n", first, "link", "set", "node0-peer", "netns", &net])?;
        plug("node0-peer")?;
    }
    ip(&["netns", "add", name])?;
    ip(&["-n", name, "link", "set", "lo", "up"])?;
    ip(&["-n", name, "link", "add", "node0", "type", "veth", "peer", "name", "wire"])?;
    // The far end is renamed while it moves: interface names are unique in the switch's namespace.
    let far = format!("wire-{}", address.to_string().rsplit(['.', ':']).next().unwrap_or_default());
    ip(&["-n", name, "link", "set", "wire", "netns", &net, "name", &far])?;
    plug(&far)?;
    give_address(name, address)
}

/// Removes a host's namespace, and the switch's if the host was the first.
pub fn remove(name: &str) {
    for name in [switch(name), name.to_string()] {
        // Only a host with others beside it has a switch.
        let _ = ip(&["netns", "del", &name]);
    }
}

/// Sends packets for `cidr` from the host `name` to the host that has the address `via`.
pub fn route(name: &str, cidr: &str, via: IpAddr) -> Result<()> {
    ip(&["-n", name, "route", "replace", cidr, "via", &via.to_string()])
}

/// Gives the host an IPv6 address beside its own, if it has none yet.
pub fn give_second_address(name: &str, address: IpAddr) -> Result<()> {
    let given = format!("{address}/64");
    ip(&["-n", name, "-6", "addr", "replace", &given, "dev", "node0", "nodad"])?;
    ip(&["-n", name, "-6", "route", "replace", "default", "dev", "node0"])
}

fn give_address(name: &str, address: IpAddr) -> Result<()> {
    ip(&["-n", name, "addr", "add", &format!("{address}/24"), "dev", "node0"])?;
    ip(&["-n", name, "link", "set", "node0", "up"])?;
    // Without a default route, packets to Service addresses never reach the rules that rewrite them.
    ip(&["-n", name, "route", "add", "default", "dev", "node0"])
}

fn exists(name: &str) -> bool {
    Path::new("/run/netns").join(name).exists()
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output =
        Command::new("ip").args(arguments).output().context("running ip (apt-get install iproute2)")?;
    ensure!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
