//! `cluster`: brings a one-node cluster up and down, and runs the seed flow against it.
//!
//! Any of the five daemons can be another binary: `KUBELET=/path/to/kubelet cluster smoke` and so on.
//! Start reading at [`cluster::Cluster::up`] and [`smoke`].

mod backup;
mod bootstrap;
mod cgroup;
mod cluster;
mod flags;
mod ha;
mod host;
mod image;
mod join;
mod kubectl;
mod load;
mod pki;
mod process;
mod registry;
mod report;
mod rules;
mod runtime;
mod smoke;
mod spec;
mod static_pods;
mod testimages;
mod unit;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use cluster::Cluster;
use k8s_openapi::jiff::SignedDuration;
use spec::{Spec, Store};

const USAGE: &str = "usage: cluster up [--isolated] | down [--wipe] | smoke [clean|join|backup|ha|static-pods] | join | memory | registry | images | testimages | report
  up       start a cluster on this machine and run the sample; --isolated starts one in a network namespace of its own,
           named after CORTEN_DIR's last part, and leaves it empty (smoke clean removes it)
  down     end it; --wipe also removes its data
  smoke    build a cluster in its own network namespace, run the seed flow, remove it
           (KEEP=1 leaves it for a look; smoke clean then removes it, given the same CORTEN_DIR)
  smoke join  the same with a node that joins by a bootstrap token (TOKEN_SECONDS: how long the token counts)
  smoke backup  the same with the store backed up, changed, wiped and restored
  smoke ha      a control plane on three hosts, each of its processes killed in turn
  smoke static-pods  the control plane as static pods of the kubelet, from images of our daemons
  images ARCHIVE  those images, as a docker archive
  join     add a node to the isolated cluster in CORTEN_DIR by a new bootstrap token
  memory   resident memory of each daemon of the running cluster
  registry ARCHIVE ADDRESS:PORT   serve the images of a docker archive
  testimages FOLDER ARCHIVE       build the conformance suite's images from what hack/upstream.sh and testbase.sh made
  report RESULTS BASELINE CLUSTER what a run of upstream's suite says: totals beside another run's, and the failures
environment: STORE=embedded|etcd  NODES=1 (more with --isolated and smoke)  CORTEN_DIR=/var/lib/corten  CORTEN_BIN=target/release  KUBECTL=kubectl
  DUAL_STACK=1 IPv6 besides IPv4 (with --isolated)
  PATIENCE=5: everything may take five times as long (an emulated machine)
  IMAGES=ARCHIVE: a registry beside the cluster serves its images, and every node pulls from it first
  KUBE_APISERVER, KUBE_CONTROLLER_MANAGER, KUBE_SCHEDULER, KUBELET, KUBE_PROXY: another binary for one daemon";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["up"] => up(),
        ["up", "--isolated"] => up_isolated(),
        ["down"] => Cluster::prepare(machine_spec()?)?.down(false),
        ["down", "--wipe"] => Cluster::prepare(machine_spec()?)?.down(true),
        ["smoke"] => run_smoke(smoke::run),
        ["smoke", "join"] => run_smoke(|cluster| join::scenario(cluster, token_lifetime()?)),
        ["smoke", "backup"] => run_smoke(backup::scenario),
        ["smoke", "ha"] => run_ha(),
        ["smoke", "static-pods"] => run_static_pods(),
        ["images", archive] => static_pods::images(&bin()?, archive.as_ref()),
        ["join"] => add_node(),
        ["smoke", "clean"] => Cluster::prepare(smoke_spec()?)?.down(true),
        ["registry", archive, address] => registry::serve(
            archive.as_ref(),
            address.parse().with_context(|| format!("{address} is no address with port"))?,
        ),
        ["testimages", parts, archive] => testimages::build(parts.as_ref(), archive.as_ref()),
        ["report", results, baseline, logs] => {
            report::report(results.as_ref(), baseline.as_ref(), logs.as_ref())
        }
        ["memory"] => memory(&Cluster::prepare(machine_spec()?)?),
        _ => bail!("{USAGE}"),
    }
}

fn up() -> Result<()> {
    let begin = Instant::now();
    let cluster = Cluster::prepare(machine_spec()?)?;
    println!("cluster in {}", cluster.spec.dir.display());
    cluster.up()?;
    let answer = smoke::sample(&cluster)?;
    println!("sample answers: {}", answer.trim());
    println!("up after {:.1} s. Try:", begin.elapsed().as_secs_f64());
    println!("  export KUBECONFIG={}", cluster.pki.kubeconfig_path("admin"));
    println!("  {} get pods -A -o wide", cluster.spec.kubectl.display());
    Ok(())
}

/// For suites that bring their own objects: conformance, benchmarks.
fn up_isolated() -> Result<()> {
    ensure!(env("CORTEN_DIR").is_some(), "an isolated cluster is named after CORTEN_DIR: set it");
    let cluster = Cluster::prepare(smoke_spec()?)?;
    cluster.up()?;
    println!(
        "KUBECONFIG={} NETNS={}",
        cluster.pki.kubeconfig_path("admin"),
        cluster.spec.netns.as_deref().unwrap_or_default()
    );
    Ok(())
}

/// Adds a node to a cluster that runs, by a token of its own.
fn add_node() -> Result<()> {
    ensure!(env("CORTEN_DIR").is_some(), "an isolated cluster is named after CORTEN_DIR: set it");
    let cluster = Cluster::prepare(smoke_spec()?)?;
    bootstrap::publish(&cluster)?;
    let token = bootstrap::create(&cluster, token_lifetime()?)?;
    let worker = join::join(&cluster, join::next_number(&cluster)?, &token)?;
    println!("{} joined", worker.spec.node);
    Ok(())
}

/// kubeadm's: a day.
fn token_lifetime() -> Result<SignedDuration> {
    let text = env("TOKEN_SECONDS").unwrap_or_else(|| "86400".to_string());
    Ok(SignedDuration::from_secs(text.parse().with_context(|| format!("TOKEN_SECONDS={text}: no number"))?))
}

/// `flow` on a throw-away cluster.
fn run_smoke(flow: impl FnOnce(&Cluster) -> Result<usize>) -> Result<()> {
    let cluster = Cluster::prepare(smoke_spec()?)?;
    println!("smoke cluster in {} on the {:?} store", cluster.spec.dir.display(), cluster.spec.store);
    let result = cluster.up().and_then(|()| flow(&cluster));
    if result.is_ok() {
        memory(&cluster)?;
    }
    conclude(&cluster, result)
}

/// A control plane on three hosts; no nodes.
fn run_ha() -> Result<()> {
    let mut spec = smoke_spec()?;
    spec.store = Store::Etcd;
    spec.control_plane = (1..=3).map(|number| [10, 199, 0, number].into()).collect();
    let cluster = Cluster::prepare(spec)?;
    cluster.pki.etcd(&cluster.spec.node, cluster.spec.address)?;
    let result = ha::run(&cluster);
    conclude(&cluster, result)
}

/// A control plane of static pods.
fn run_static_pods() -> Result<()> {
    let mut spec = smoke_spec()?;
    spec.static_pods = true;
    let cluster = Cluster::prepare(spec)?;
    let result = static_pods::scenario(&cluster);
    conclude(&cluster, result)
}

/// Shows the logs of a flow that failed, removes the cluster.
fn conclude(cluster: &Cluster, result: Result<usize>) -> Result<()> {
    if result.is_err() {
        let workers = cluster.workers_found()?;
        for (on, name) in std::iter::once(cluster)
            .chain(&workers)
            .flat_map(|c| c.processes.names().into_iter().map(move |n| (c, n)))
        {
            println!("--- {name} of {}, last lines\n{}", on.spec.node, on.processes.log_tail(&name, 12));
        }
    }
    let removed = if env("KEEP").is_some() { Ok(()) } else { remove(cluster) };
    let steps = result?;
    removed.context("removing the smoke cluster")?;
    println!("{steps} passed, 0 failed");
    Ok(())
}

/// Ends the cluster, sees that none of its rules is left, removes its data.
fn remove(cluster: &Cluster) -> Result<()> {
    cluster.down(false)?;
    let left = rules::left(&cluster.processes)?;
    cluster.down(true)?;
    ensure!(left.is_empty(), "the cluster ended but left rules:\n{}", left.join("\n"));
    Ok(())
}

fn memory(cluster: &Cluster) -> Result<()> {
    let mut sum = 0;
    for daemon in spec::DAEMONS {
        let kib = cluster.processes.resident_kib(daemon).with_context(|| format!("{daemon} does not run"))?;
        sum += kib;
        println!("  {daemon:<26} {:>7.1} MiB resident", mib(kib));
    }
    println!("  {:<26} {:>7.1} MiB resident", "the five together", mib(sum));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "resident memory is far below 2^52 KiB")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// The cluster of `up`: this machine's own network.
fn machine_spec() -> Result<Spec> {
    spec_at(PathBuf::from(env("CORTEN_DIR").unwrap_or_else(|| "/var/lib/corten".to_string())), None)
}

/// The cluster of `smoke`: a network namespace of its own, so that it disturbs nothing and nothing disturbs it.
fn smoke_spec() -> Result<Spec> {
    let dir = env("CORTEN_DIR").map_or_else(
        || PathBuf::from(format!("/var/tmp/corten-smoke-{}", std::process::id())),
        PathBuf::from,
    );
    let name = dir.file_name().context("CORTEN_DIR is no folder's path")?.to_string_lossy().into_owned();
    spec_at(dir, Some(name))
}

fn spec_at(dir: PathBuf, netns: Option<String>) -> Result<Spec> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "only root can run containers and set routing rules: run it as root"
    );
    let path = env("PATH").unwrap_or_default();
    let kubectl = match env("KUBECTL") {
        Some(given) => PathBuf::from(given),
        None => {
            spec::find_program("kubectl", &path).context("there is no kubectl (hack/kubectl.sh gets one)")?
        }
    };
    let dual_stack = env("DUAL_STACK").is_some();
    ensure!(
        !dual_stack || netns.is_some(),
        "DUAL_STACK: only in a network namespace (cluster up --isolated)"
    );
    let address = if netns.is_some() { [10, 199, 0, 1].into() } else { spec::machine_address()? };
    Ok(Spec {
        dir,
        store: Store::parse(&env("STORE").unwrap_or_else(|| "embedded".to_string()))?,
        node: "node1".to_string(),
        nodes: node_count()?,
        control_plane: Vec::new(),
        server: spec::server(address),
        address,
        cgroup_root: netns.as_ref().map(|name| format!("/{name}")),
        netns,
        bin: bin()?,
        replaced: spec::replaced_from(env),
        kubectl,
        images: env("IMAGES").map(PathBuf::from),
        static_pods: false,
        dual_stack,
        proxy_mode: env("PROXY_MODE").unwrap_or_else(|| "iptables".to_string()),
        flags: spec::DAEMONS.iter().filter_map(|d| Some(((*d).to_string(), extra_flags(d)?))).collect(),
    })
}

/// The folder of our binaries: as told, or where this program is.
fn bin() -> Result<PathBuf> {
    let here = std::env::current_exe()?.parent().map(PathBuf::from).context("no folder of this program")?;
    Ok(env("CORTEN_BIN").map_or(here, PathBuf::from))
}

/// `NODES=2`: the first node and its workers; addresses of hosts end with a node's number.
fn node_count() -> Result<u8> {
    let text = env("NODES").unwrap_or_else(|| "1".to_string());
    let count = text.parse().ok().filter(|n| (1..=50).contains(n));
    count.with_context(|| format!("NODES={text}: it is a number from 1 to 50"))
}

/// `KUBELET_FLAGS="--v=4 ..."` and so on.
fn extra_flags(daemon: &str) -> Option<Vec<String>> {
    let text = env(&format!("{}_FLAGS", daemon.to_uppercase().replace('-', "_")))?;
    Some(text.split_whitespace().map(str::to_string).collect())
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}
