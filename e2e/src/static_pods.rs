//! The control plane as static pods of one kubelet: our daemons in images of their own, the manifests of
//! `e2e/manifests/static-pods` as they are but for addresses and folders. Start reading at [`scenario`].

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::cluster::Cluster;
use crate::image::{self, File, Image, PATH};
use crate::smoke;

/// Each daemon of the control plane with its manifest.
const PODS: [(&str, &str); 3] = [
    ("kube-apiserver", include_str!("../manifests/static-pods/kube-apiserver.yaml")),
    ("kube-controller-manager", include_str!("../manifests/static-pods/kube-controller-manager.yaml")),
    ("kube-scheduler", include_str!("../manifests/static-pods/kube-scheduler.yaml")),
];

/// How long the kubelet may take to follow a change of its folder; upstream's looks every 20 s, and restarts back off.
const LIMIT: Duration = Duration::from_secs(120);

/// Writes the images of the control plane's daemons to `archive`: the programs in `bin` and what they are linked to.
///
/// # Errors
/// When a program or a library cannot be read, or the archive cannot be written.
pub fn images(bin: &Path, archive: &Path) -> Result<()> {
    let base = libraries(&PODS.map(|(daemon, _)| bin.join(daemon)))?;
    let images = PODS.map(|(daemon, manifest)| -> Result<Image> {
        let program = bin.join(daemon);
        let data = fs::read(&program).with_context(|| format!("reading {}", program.display()))?;
        let layer = image::layer(&[File::program(&format!("usr/local/bin/{daemon}"), data)])?;
        let name = image_of(manifest).context("a manifest without an image")?;
        let config = json!({"Entrypoint": [daemon], "Env": PATH});
        Ok(Image { names: vec![name.to_string()], config, layers: vec![base.clone(), layer] })
    });
    image::write(archive, &images.into_iter().collect::<Result<Vec<_>>>()?)
}

fn image_of(manifest: &str) -> Option<&str> {
    manifest.lines().find_map(|line| line.trim().strip_prefix("image: "))
}

/// A layer with the shared libraries of `programs`, where they look for them, and a /tmp.
fn libraries(programs: &[PathBuf]) -> Result<Rc<[u8]>> {
    let output =
        Command::new("ldd").args(programs).output().context("running ldd (apt-get install libc-bin)")?;
    ensure!(output.status.success(), "ldd: {}", String::from_utf8_lossy(&output.stderr).trim());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths: BTreeSet<&str> =
        text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/'))).collect();
    let mut files = vec![File::Folder { path: "tmp".to_string(), mode: 0o1777 }];
    // A program's own name ends with a colon where there are several.
    for path in paths.into_iter().filter(|path| !path.ends_with(':')) {
        let data = fs::read(path).with_context(|| format!("reading {path}"))?;
        files.push(File::program(path.trim_start_matches('/'), data));
    }
    image::layer(&files)
}

/// The scenario.
pub(crate) fn scenario(cluster: &Cluster) -> Result<usize> {
    let begin = Instant::now();
    let done = |what: &str| println!("  ok {what:<46} {:>6.2} s", begin.elapsed().as_secs_f64());
    start(cluster)?;
    done("the control plane runs as static pods");
    for (daemon, _) in PODS {
        mirror_ready(cluster, daemon)?;
    }
    done("each has a mirror pod that is ready");
    ensure!(smoke::sample(cluster)?.contains("Hello"), "the sample's Service does not answer");
    done("the sample answers");
    changed(cluster)?;
    done("a changed manifest replaces its pod");
    removed(cluster)?;
    done("without its manifest a pod ends, and comes back");
    killed(cluster)?;
    done("a killed daemon is started again in its pod");
    ensure!(smoke::sample(cluster)?.contains("Hello"), "the sample's Service does not answer");
    done("the sample answers still");
    Ok(7)
}

/// Starts the runtime and the kubelet, which start everything else.
fn start(cluster: &Cluster) -> Result<()> {
    let archive = cluster.spec.dir.join("control-plane.tar");
    cluster.step("images", || {
        image::build(&cluster.spec.dir.join("images.tar"))?;
        images(&cluster.spec.bin, &archive)
    })?;
    for user in ["controller-manager", "scheduler"] {
        let path = cluster.pki.kubeconfig_path(user);
        let flat = ["config", "view", "--raw", "--flatten", "--kubeconfig", &path];
        let text = cluster.kubectl("admin").run(&flat)?;
        fs::write(&path, text).with_context(|| format!("writing {path}"))?;
    }
    fs::create_dir_all(cluster.spec.path("manifests"))?;
    for (daemon, _) in PODS {
        write(cluster, daemon, |text| text)?;
    }
    cluster.step("containerd", || {
        cluster.write_first_network()?;
        cluster.start_containerd()?;
        cluster.ctr(&["images", "import", &archive.display().to_string()]).map(drop)
    })?;
    cluster.step("kubelet", || cluster.start_daemon("kubelet"))?;
    cluster.step("control plane", || {
        let kubectl = cluster.kubectl("admin");
        cluster.wait("kubelet", LIMIT, || {
            kubectl.run(&["get", "--raw", "/readyz"]).map(|text| text.contains("ok"))
        })
    })?;
    cluster.step("kube-proxy", || cluster.start_daemon("kube-proxy"))?;
    cluster.step("node ready", || cluster.wait_node(cluster))
}

/// Puts a manifest into the kubelet's folder, whole or not at all, with this cluster's address and folders.
fn write(cluster: &Cluster, daemon: &str, edit: impl FnOnce(String) -> String) -> Result<()> {
    let manifest = PODS.iter().find(|(name, _)| *name == daemon).context("no such static pod")?.1;
    let text = manifest
        .replace("ADDRESS", &cluster.spec.address.to_string())
        .replace("/etc/kubernetes", &cluster.pki.dir.display().to_string())
        .replace("/var/lib/kube-apiserver", &cluster.spec.path("store"));
    let path = manifest_path(cluster, daemon);
    // Names that begin with a dot are not read.
    let partial = cluster.spec.path(&format!("manifests/.{daemon}"));
    fs::write(&partial, edit(text)).with_context(|| format!("writing {partial}"))?;
    fs::rename(&partial, &path).with_context(|| format!("moving {path} into place"))
}

fn manifest_path(cluster: &Cluster, daemon: &str) -> String {
    cluster.spec.path(&format!("manifests/{daemon}.yaml"))
}

fn mirror(cluster: &Cluster, daemon: &str, path: &str) -> Result<String> {
    let (name, path) = (format!("{daemon}-{}", cluster.spec.node), format!("jsonpath={{{path}}}"));
    cluster.kubectl("admin").run(&["get", "pod", &name, "-n", "kube-system", "-o", &path])
}

/// Waits until the mirror pod of `daemon` is ready.
fn mirror_ready(cluster: &Cluster, daemon: &str) -> Result<()> {
    cluster.wait("kubelet", LIMIT, || {
        Ok(mirror(cluster, daemon, r#".status.conditions[?(@.type=="Ready")].status"#)? == "True")
    })
}

/// The command of the scheduler's container follows its manifest.
fn changed(cluster: &Cluster) -> Result<()> {
    write(cluster, "kube-scheduler", |text| text.replace("--leader-elect=true", "--leader-elect=false"))?;
    cluster.wait("kubelet", LIMIT, || {
        Ok(mirror(cluster, "kube-scheduler", ".spec.containers[0].command")?.contains("--leader-elect=false"))
    })?;
    mirror_ready(cluster, "kube-scheduler")
}

/// Without the scheduler's manifest there is no mirror pod, and new pods wait for it.
fn removed(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl("admin");
    fs::remove_file(manifest_path(cluster, "kube-scheduler"))?;
    cluster.wait("kubelet", LIMIT, || match mirror(cluster, "kube-scheduler", ".metadata.name") {
        Err(error) if format!("{error:#}").contains("not found") => Ok(true),
        other => other.map(|_| false),
    })?;
    ensure!(pid(cluster, "kube-scheduler")?.is_none(), "the scheduler still runs");
    kubectl.run(&["run", "waiting", &format!("--image={}", image::BUSYBOX), "--", "sleep", "1000"])?;
    let node = kubectl.run(&["get", "pod", "waiting", "-o", "jsonpath={.spec.nodeName}"])?;
    ensure!(node.is_empty(), "somebody placed the pod on {node}");
    write(cluster, "kube-scheduler", |text| text)?;
    kubectl.run(&["wait", "pod/waiting", "--for=condition=Ready", &smoke::timeout()])?;
    kubectl.run(&["delete", "pod", "waiting", "--force", "--grace-period=0"]).map(drop)
}

/// Each daemon is killed; its container is started again in the same pod.
fn killed(cluster: &Cluster) -> Result<()> {
    for (daemon, _) in PODS {
        let uid = mirror(cluster, daemon, ".metadata.uid")?;
        // One that lost its lease while the API server was away has ended, and comes back.
        cluster.wait("kubelet", LIMIT, || Ok(pid(cluster, daemon)?.is_some()))?;
        let before = pid(cluster, daemon)?.with_context(|| format!("{daemon} does not run"))?;
        kill(Pid::from_raw(before), Signal::SIGKILL).with_context(|| format!("killing {daemon}"))?;
        cluster.wait("kubelet", LIMIT, || Ok(pid(cluster, daemon)?.is_some_and(|now| now != before)))?;
        cluster.wait("kubelet", LIMIT, || {
            Ok(mirror(cluster, daemon, ".status.containerStatuses[0].restartCount")? != "0")
        })?;
        mirror_ready(cluster, daemon)?;
        ensure!(mirror(cluster, daemon, ".metadata.uid")? == uid, "{daemon} has another mirror pod");
    }
    Ok(())
}

/// The process of `daemon` in this cluster's cgroups.
fn pid(cluster: &Cluster, daemon: &str) -> Result<Option<i32>> {
    let root = cluster.spec.cgroup_root.as_deref().unwrap_or("/kubepods");
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // Processes end while they are looked at.
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let first = command.split(|byte| *byte == 0).next().unwrap_or_default();
        if first == daemon.as_bytes() && cgroups.contains(&format!("{root}/")) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}
