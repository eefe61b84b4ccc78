//! Backup and restore of either store under a cluster that works: the objects come back as they were, the daemons that
//! saw what happened since go on, and so do the pods.
//!
//! The commands are those of `e2e/docs/backup.md`. Start reading at [`scenario`].

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::cluster::Cluster;
use crate::smoke;
use crate::spec::Store;

/// Daemons that are not started again: they must find out by themselves.
const WITNESSES: [&str; 4] = ["kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"];
/// How long daemons may take to list again and act; upstream's relists back off to 30 s.
const LIMIT: Duration = Duration::from_secs(90);

/// The scenario.
pub(crate) fn scenario(cluster: &Cluster) -> Result<usize> {
    let begin = Instant::now();
    let done = |what: &str| println!("  ok {what:<46} {:>6.2} s", begin.elapsed().as_secs_f64());
    let kubectl = cluster.kubectl("admin");
    smoke::sample(cluster)?;
    kubectl.run(&["create", "namespace", "saved"])?;
    for n in 0..10 {
        let (name, value) = (format!("kept-{n}"), format!("--from-literal=value=before-{n}"));
        kubectl.run(&["create", "configmap", &name, "-n", "saved", &value])?;
    }
    kubectl.run(&["create", "secret", "generic", "kept", "-n", "saved", "--from-literal=word=before"])?;
    let before = saved(cluster)?;
    let sandboxes = sandboxes(cluster)?;
    save(cluster)?;
    done("a backup beside running daemons");
    change(cluster)?;
    let newest = newest(cluster)?;
    let pids = WITNESSES.map(|daemon| cluster.processes.running(daemon));
    wipe(cluster)?;
    restore(cluster)?;
    done("everything changed, the store wiped, restored");
    ensure!(saved(cluster)? == before, "the objects differ from those at the backup");
    done("the objects are those at the backup");
    cluster.wait("kubelet", LIMIT, || Ok(self::sandboxes(cluster)? == sandboxes))?;
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    done("pods of after the backup are gone from the node");
    kubectl.run(&["scale", "deployment/web", "--replicas=3"])?;
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    ensure!(smoke::sample(cluster)?.contains("Hello"), "the Service does not answer");
    done("controllers, scheduler, kubelet and proxy go on");
    let now = WITNESSES.map(|daemon| cluster.processes.running(daemon));
    ensure!(pids == now, "a daemon was started again: {pids:?}, then {now:?}");
    kubectl.run(&["create", "configmap", "after", "-n", "saved"])?;
    let later = self::newest(cluster)?;
    ensure!(later > newest, "revision {later} follows a restore, {newest} was seen before it");
    done("revisions exceed all that was seen before");
    Ok(6)
}

/// Names, uids, versions and contents of what nobody changes by itself.
fn saved(cluster: &Cluster) -> Result<String> {
    let path = "jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.uid} {.metadata.resourceVersion} \
                {.data}{\"\\n\"}{end}";
    let arguments = ["get", "configmaps,secrets,serviceaccounts", "-n", "saved", "-o", path];
    cluster.kubectl("admin").run(&arguments)
}

/// The version of the list of configuration maps: the store's revision, or nearly.
fn newest(cluster: &Cluster) -> Result<i64> {
    let list = cluster.kubectl("admin").run(&["get", "--raw", "/api/v1/namespaces/saved/configmaps"])?;
    let list: serde_json::Value = serde_json::from_str(&list)?;
    let version = list["metadata"]["resourceVersion"].as_str().context("a list without a version")?;
    version.parse().with_context(|| format!("the version {version} is no number"))
}

/// How many pods the runtime holds.
fn sandboxes(cluster: &Cluster) -> Result<usize> {
    Ok(crate::runtime::sandboxes(&format!("unix://{}", cluster.spec.runtime_socket()))?.len())
}

/// Everything that can happen after a backup: changed, deleted, made, scaled.
fn change(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl("admin");
    let patch = ["--type=merge", "-p", r#"{"data":{"value":"after"}}"#];
    kubectl.run(&[&["patch", "configmap", "kept-1", "-n", "saved"], &patch[..]].concat())?;
    kubectl.run(&["delete", "configmap", "kept-2", "-n", "saved"])?;
    kubectl.run(&["delete", "secret", "kept", "-n", "saved"])?;
    kubectl.run(&["create", "configmap", "made", "-n", "saved", "--from-literal=value=after"])?;
    kubectl.run(&["scale", "deployment/web", "--replicas=4"])?;
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout=60s"]).map(drop)
}

fn save(cluster: &Cluster) -> Result<()> {
    let file = cluster.spec.path("backup");
    let said = match cluster.spec.store {
        Store::Embedded => {
            cluster.run(&cluster.tool("corten-store")?, &["backup", &cluster.spec.path("store"), &file])?
        }
        Store::Etcd => cluster.run(&cluster.tool("etcdctl")?, &["snapshot", "save", &file])?,
    };
    println!("     {}", said.trim());
    Ok(())
}

/// Ends the API server and its store, and removes what they hold.
fn wipe(cluster: &Cluster) -> Result<()> {
    for process in ["kube-apiserver", "etcd"] {
        cluster.processes.stop(process, Signal::SIGTERM, Duration::from_secs(30))?;
    }
    let data = data(cluster);
    fs::remove_dir_all(&data).with_context(|| format!("removing {data}"))
}

fn data(cluster: &Cluster) -> String {
    cluster.spec.path(if cluster.spec.store == Store::Etcd { "etcd" } else { "store" })
}

fn restore(cluster: &Cluster) -> Result<()> {
    let (file, data) = (cluster.spec.path("backup"), data(cluster));
    match cluster.spec.store {
        Store::Embedded => cluster.run(&cluster.tool("corten-store")?, &["restore", &file, &data])?,
        Store::Etcd => {
            let bump = ["--bump-revision", "1000000000", "--mark-compacted"];
            let member = ["--initial-cluster", "default=http://127.0.0.1:2380"];
            let address = ["--initial-advertise-peer-urls", "http://127.0.0.1:2380"];
            let restore = ["snapshot", "restore", &file, "--data-dir", &data];
            cluster.run(
                &cluster.tool("etcdutl")?,
                &[&restore[..], &bump[..], &member[..], &address[..]].concat(),
            )?
        }
    };
    if cluster.spec.store == Store::Etcd {
        cluster.start_etcd()?;
    }
    cluster.start_daemon("kube-apiserver")?;
    cluster.wait_ready()
}
