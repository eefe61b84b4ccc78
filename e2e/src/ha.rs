//! A control plane on three hosts: three etcd members, three API servers, controller managers and schedulers that elect
//! a leader. Each process is killed in turn; writes and work go on, and nothing acknowledged is lost.
//!
//! The Service `kubernetes` leads to the API servers that live: a killed one goes when its lease has run out, and is back
//! soon after it started again.
//!
//! The set-up is that of `e2e/docs/high-availability.md`. Start reading at [`run`].

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::cluster::Cluster;
use crate::load::Load;
use crate::spec;

/// In the order in which they are started; each is killed on each host.
const PROCESSES: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
/// Writes that must follow a kill, and the time they have.
const WRITES: usize = 25;
const LIMIT: Duration = Duration::from_secs(60);

/// Starts the three hosts, kills everything once, checks. `first` is prepared, on etcd, with `control_plane` set.
pub(crate) fn run(first: &Cluster) -> Result<usize> {
    let mut hosts = Vec::new();
    for number in 2..=u8::try_from(first.spec.control_plane.len())? {
        hosts.push(first.control_plane_host(number)?);
    }
    let mut all = vec![first];
    all.extend(&hosts);
    start(&all)?;
    first.kubectl("admin").run_with(&["create", "-f", "-"], include_str!("../manifests/ha.yaml"))?;
    let mut replicas = 1;
    works(first, replicas).context("before anything is killed")?;
    leads_to(first, &all).context("before anything is killed")?;
    first.kubectl("admin").run(&["create", "namespace", Load::NAMESPACE])?;
    let kubeconfigs = all.iter().map(|host| host.pki.kubeconfig_path("admin")).collect();
    let load = Load::start(&first.processes, kubeconfigs)?;
    for process in PROCESSES {
        for (at, host) in all.iter().enumerate() {
            replicas += 1;
            let what = format!("{process} of {} killed", host.spec.node);
            kill(&all, at, process, &load, replicas).context(what.clone())?;
            let pause = load.longest_pause().as_secs_f64();
            println!("  ok {what:<46} longest pause of writes {pause:>5.2} s");
        }
    }
    let written = load.stop()?;
    for host in &all {
        let lost = written.missing(host)?;
        ensure!(lost.is_empty(), "{} lacks writes that were acknowledged: {lost:?}", host.spec.node);
    }
    println!("  ok {} acknowledged writes, none lost, on every API server", written.count());
    leaders(first)?;
    println!("  ok the Service kubernetes led to the living API servers, and to no other");
    Ok(all.len() * PROCESSES.len() + 3)
}

/// etcd's members wait for each other, so they start together.
fn start(all: &[&Cluster]) -> Result<()> {
    for host in all {
        host.step(&format!("etcd of {}", host.spec.node), || host.start_etcd())?;
    }
    for host in all {
        host.step(&format!("kube-apiserver of {}", host.spec.node), || {
            host.start_daemon("kube-apiserver").and_then(|()| host.wait_ready())
        })?;
    }
    for host in all {
        for process in &PROCESSES[2..] {
            host.start_daemon(process)?;
        }
    }
    Ok(())
}

/// Kills one process, sees that writes and work go on without it, and has it started again.
fn kill(all: &[&Cluster], at: usize, process: &str, load: &Load, replicas: usize) -> Result<()> {
    let (host, witness) = (all[at], all[(at + 1) % all.len()]);
    load.begin_pause();
    host.processes.stop(process, Signal::SIGKILL, Duration::from_secs(10))?;
    let (begin, before) = (Instant::now(), load.count());
    while load.count() < before + WRITES {
        ensure!(begin.elapsed() < LIMIT, "{} writes in {LIMIT:?}", load.count() - before);
        std::thread::sleep(Duration::from_millis(50));
    }
    works(witness, replicas)?;
    if process == "kube-apiserver" {
        let others: Vec<&Cluster> = all.iter().copied().filter(|other| !std::ptr::eq(*other, host)).collect();
        leads_to(witness, &others).context("while it is down")?;
    }
    supervise(host)?;
    leads_to(witness, all).context("started again")
}

/// Endpoints and EndpointSlice of the Service `kubernetes` list just the API servers of these hosts.
fn leads_to(through: &Cluster, hosts: &[&Cluster]) -> Result<()> {
    let mut expected: Vec<String> = hosts.iter().map(|host| host.spec.address.to_string()).collect();
    expected.sort();
    let expected = expected.join(" ");
    let kubectl = through.kubectl("admin");
    let objects = [
        ("endpoints", "jsonpath={.subsets[*].addresses[*].ip}"),
        ("endpointslice", "jsonpath={.endpoints[*].addresses[*]}"),
    ];
    for (kind, path) in objects {
        let begin = Instant::now();
        let mut last = String::new();
        while last != expected {
            ensure!(
                begin.elapsed() < LIMIT,
                "{kind} kubernetes: {last:?} instead of {expected:?} after {LIMIT:?}"
            );
            std::thread::sleep(Duration::from_millis(200));
            // A server that was started again may not answer at once.
            last = kubectl
                .run(&["get", kind, "kubernetes", "-n", "default", "-o", path])
                .unwrap_or_else(|e| e.to_string());
        }
    }
    Ok(())
}

/// What a supervisor does: starts whatever ended. A leader that cannot renew its lease ends by itself, as upstream's.
fn supervise(host: &Cluster) -> Result<()> {
    host.start_etcd().and_then(|()| healthy(host))?;
    host.start_daemon("kube-apiserver").and_then(|()| host.wait_ready())?;
    PROCESSES[2..].iter().try_for_each(|process| host.start_daemon(process))
}

/// The controller manager makes the pods of a scaled deployment, the scheduler gives them a node.
fn works(through: &Cluster, replicas: usize) -> Result<()> {
    let kubectl = through.kubectl("admin");
    let count = format!("--replicas={replicas}");
    let begin = Instant::now();
    let path = "jsonpath={range .items[?(@.spec.nodeName==\"paper\")]}x{end}";
    let mut last = kubectl.run(&["scale", "deployment/work", &count]);
    while begin.elapsed() < LIMIT {
        last = kubectl.run(&["get", "pods", "-l", "app=work", "-o", path]);
        if last.as_ref().is_ok_and(|bound| bound.len() == replicas) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let bound = last?.len();
    bail!("{bound} of {replicas} pods have a node after {LIMIT:?}")
}

/// The member answers and knows a leader.
fn healthy(host: &Cluster) -> Result<()> {
    let pki = |file: &str| host.pki.path(file);
    let endpoint = format!("--endpoints=https://{}:{}", host.spec.address, spec::ETCD_PORT);
    let trust = format!("--cacert={}", pki("etcd/ca.crt"));
    let cert = format!("--cert={}", pki("apiserver-etcd-client.crt"));
    let key = format!("--key={}", pki("apiserver-etcd-client.key"));
    let etcdctl = host.tool("etcdctl")?;
    host.wait("etcd", LIMIT, || {
        host.run(&etcdctl, &["endpoint", "health", &endpoint, &trust, &cert, &key]).map(|_| true)
    })
}

/// Both elections changed hands: the leader was among those killed.
fn leaders(through: &Cluster) -> Result<()> {
    for lease in ["kube-controller-manager", "kube-scheduler"] {
        let path = "jsonpath={.spec.leaseTransitions}";
        let seen = through.kubectl("admin").run(&["get", "lease", lease, "-n", "kube-system", "-o", path])?;
        ensure!(seen.parse::<u32>().is_ok_and(|n| n > 0), "{lease} was never led by another: {seen:?}");
    }
    println!("  ok both elections changed hands");
    Ok(())
}
