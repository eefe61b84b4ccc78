//! A node that joins by a bootstrap token: it knows the API server's address and the token, and nothing else.
//!
//! Its kubelet asks for a client certificate with the token, the controller manager approves and signs it, the kubelet goes
//! on with the certificate. kube-proxy's kubeconfig comes from the first node, as kubeadm's comes from a ConfigMap.
//! Start reading at [`join`].

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::jiff::SignedDuration;

use crate::bootstrap::{self, Token};
use crate::cluster::Cluster;

/// A pod that only the node that joined may run, and that says its name.
const POD: &str = include_str!("../manifests/joined.yaml");
/// How long a signature on `cluster-info` may take: the controller manager sees the token through a watch.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts the node `number` with nothing but a token; waits until it is Ready.
pub(crate) fn join(cluster: &Cluster, number: u8, token: &Token) -> Result<Cluster> {
    let worker = cluster.stranger_host(number)?;
    let kubeconfig = bootstrap::discover(&worker, token, PATIENCE)?;
    write_secret(&worker.pki.kubeconfig_path("bootstrap-kubelet"), &kubeconfig)?;
    let authority = fs::read(cluster.pki.path("ca.crt"))?;
    fs::write(worker.pki.path("ca.crt"), authority).context("writing the cluster's authority")?;
    cluster.pki.hand_proxy(&worker.pki, &worker.spec.server)?;
    cluster.join(&worker)?;
    Ok(worker)
}

fn write_secret(path: &str, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {path}"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).with_context(|| format!("protecting {path}"))
}

/// The next free number of a node in a cluster.
pub(crate) fn next_number(cluster: &Cluster) -> Result<u8> {
    let last = cluster.workers_found()?.last().map_or(1, |w| w.number());
    last.checked_add(1).context("there are too many nodes")
}

/// The scenario: `lifetime` is the token's, for seeing it fail.
pub(crate) fn scenario(cluster: &Cluster, lifetime: SignedDuration) -> Result<usize> {
    let begin = Instant::now();
    let done = |what: &str| println!("  ok {what:<46} {:>6.2} s", begin.elapsed().as_secs_f64());
    bootstrap::publish(cluster)?;
    let token = bootstrap::create(cluster, lifetime)?;
    let number = next_number(cluster)?;
    let worker = join(cluster, number, &token).context("joining by a bootstrap token")?;
    done("a node joins by a bootstrap token");
    signed(cluster, &worker, &token)?;
    done("its certificate was asked for with the token");
    runs_a_pod(cluster, &worker)?;
    done("a pod runs there, logs and exec work");
    refused(cluster, &worker)?;
    done("an expired token is refused and removed");
    Ok(4)
}

/// The node's certificate: requested by the token's user, approved, issued, in use.
fn signed(cluster: &Cluster, worker: &Cluster, token: &Token) -> Result<()> {
    let path = "jsonpath={range .items[*]}{.spec.username} {.spec.signerName} \
                {.status.conditions[*].type} {.status.certificate}{\"\\n\"}{end}";
    let requests = cluster.kubectl("admin").run(&["get", "csr", "-o", path])?;
    let user = format!("system:bootstrap:{}", token.id);
    let wanted = [user.as_str(), "kubernetes.io/kube-apiserver-client-kubelet", "Approved"];
    let found = requests.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.starts_with(&wanted) && words.len() == 4
    });
    ensure!(found, "no request for a certificate by {user} was approved and signed:\n{requests}");
    let own =
        worker.kubectl("kubelet").run(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])?;
    ensure!(own == format!("system:node:{}", worker.spec.node), "the kubelet acts as {own}");
    let pem = worker.spec.path("kubelet-pki/kubelet-client-current.pem");
    ensure!(Path::new(&pem).exists(), "{pem} is not there");
    ensure!(!Path::new(&worker.pki.path("kubelet.key")).exists(), "the node was given a key");
    Ok(())
}

fn runs_a_pod(cluster: &Cluster, worker: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl("admin");
    kubectl.apply(&POD.replace("NODE", &worker.spec.node))?;
    kubectl.run(&["wait", "pod/joined", "--for=condition=Ready", "--timeout=60s"])?;
    let node = kubectl.run(&["get", "pod", "joined", "-o", "jsonpath={.spec.nodeName}"])?;
    ensure!(node == worker.spec.node, "the pod runs on {node}");
    let told = kubectl.run(&["logs", "joined"])?;
    ensure!(told.contains("here is joined"), "its log says {told:?}");
    let name = kubectl.run(&["exec", "joined", "--", "hostname"])?;
    ensure!(name.trim() == "joined", "hostname in the pod says {name:?}");
    Ok(())
}

/// An expired token neither signs nor authenticates, and the controller manager removes it.
fn refused(cluster: &Cluster, worker: &Cluster) -> Result<()> {
    let token = bootstrap::create(cluster, SignedDuration::from_secs(-60))?;
    if bootstrap::discover(worker, &token, Duration::ZERO).is_ok() {
        bail!("cluster-info is signed with a token that has expired");
    }
    let asked = worker.with_token(&token.to_string(), &["auth", "whoami"]);
    match asked {
        Ok(answer) => bail!("an expired token authenticates: {answer}"),
        Err(error) => ensure!(
            format!("{error:#}").contains("Unauthorized"),
            "an expired token is refused, but so: {error:#}"
        ),
    }
    let name = format!("secret/bootstrap-token-{}", token.id);
    let wait = ["wait", &name, "-n", "kube-system", "--for=delete", "--timeout=30s"];
    cluster.kubectl("admin").run(&wait).context("waiting until the expired token is removed").map(drop)
}
