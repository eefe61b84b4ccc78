//! The seed flow: what must work in every mix of our and upstream's daemons, on either store.
//!
//! Each step acts through stock kubectl as a user would, and says what it expected when it fails.
//! Start reading at [`steps`].

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::cluster::Cluster;
use crate::spec::{self, DAEMONS};

/// The sample that `up` runs and the flow exercises.
pub const SAMPLE: &str = include_str!("../manifests/sample.yaml");

/// How long a step may wait for the cluster to get there.
const LIMIT: Duration = Duration::from_secs(60);

type Step = (&'static str, fn(&Flow<'_>) -> Result<()>);

/// The flow's steps, in order.
const STEPS: &[Step] = &[
    ("apply the sample", apply),
    ("pods are Running, wide list", running),
    ("Service answers from the node", answers_node),
    ("Service answers from a pod", answers_pod),
    ("kubectl logs", logs),
    ("kubectl exec", exec),
    ("ConfigMap, Secret and projected volumes", volumes),
    ("environment from ConfigMap, Secret and fields", environment),
    ("scale up", scale),
    ("roll out a new version", rollout),
    ("roll back", rollback),
    ("a deleted pod is replaced", replaced),
    ("a tainted node gets no pod", tainted),
    ("a user without rights gets 403", forbidden),
    ("killed daemons come back, pods untouched", killed),
    ("delete everything", delete),
    ("namespace deletion", namespace),
];

/// A cluster under test.
struct Flow<'a> {
    cluster: &'a Cluster,
}

/// Runs every step; the error names the first that failed.
pub fn run(cluster: &Cluster) -> Result<usize> {
    let flow = Flow { cluster };
    for (name, step) in STEPS {
        let begin = Instant::now();
        step(&flow).with_context(|| format!("smoke step \"{name}\""))?;
        println!("  ok {name:<46} {:>6.2} s", begin.elapsed().as_secs_f64());
    }
    Ok(STEPS.len())
}

/// Applies the sample and returns what its Service answers.
pub fn sample(cluster: &Cluster) -> Result<String> {
    let flow = Flow { cluster };
    apply(&flow)?;
    flow.kubectl(&["rollout", "status", "deployment/web", &timeout()])?;
    flow.wait_answer()?;
    flow.ask_service()
}

impl Flow<'_> {
    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.kubectl("admin").run(arguments)
    }

    /// Repeats until `check` holds; its last answer becomes the error.
    fn wait(&self, what: &str, check: impl Fn() -> Result<bool>) -> Result<()> {
        self.wait_for(LIMIT, what, check)
    }

    fn wait_for(&self, limit: Duration, what: &str, check: impl Fn() -> Result<bool>) -> Result<()> {
        let end = Instant::now() + limit * spec::patience();
        loop {
            let last = check();
            if matches!(last, Ok(true)) {
                return Ok(());
            }
            if Instant::now() > end {
                let state = self.kubectl(&["get", "pods,events", "-A", "-o", "wide"]).unwrap_or_default();
                let last = last.map_or_else(|e| format!("{e:#}"), |_| "not so far".to_string());
                bail!("after {limit:?} still not: {what} ({last})\n{state}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn pods(&self, field: &str) -> Result<Vec<String>> {
        let path = format!("jsonpath={{range .items[*]}}{{{field}}}{{'\\n'}}{{end}}");
        let text = self.kubectl(&["get", "pods", "-l", "app=web", "-o", &path])?;
        Ok(text.lines().filter(|l| !l.is_empty()).map(str::to_string).collect())
    }

    fn service_ip(&self) -> Result<String> {
        self.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])
    }

    /// What the Service answers to the node.
    fn ask_service(&self) -> Result<String> {
        let address = format!("{}:80", self.service_ip()?);
        self.cluster.processes.inside(|| http_get(&address, "/index.html"))
    }

    fn wait_answer(&self) -> Result<()> {
        self.wait("the Service answers the node", || Ok(self.ask_service()?.contains("Hello from Corten")))
    }
}

/// kubectl's flag for as long as a step may take.
pub(crate) fn timeout() -> String {
    format!("--timeout={}s", (LIMIT * spec::patience()).as_secs())
}

/// One plain request; the answer's body.
fn http_get(address: &str, path: &str) -> Result<String> {
    let address = address.parse().with_context(|| format!("reading the address {address}"))?;
    let limit = Duration::from_secs(2);
    let mut stream =
        TcpStream::connect_timeout(&address, limit).with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) =
        answer.split_once("\r\n\r\n").with_context(|| format!("{address} answered {answer:?}"))?;
    Ok(body.to_string())
}

fn apply(flow: &Flow<'_>) -> Result<()> {
    flow.wait("the default service account exists", || {
        flow.kubectl(&["get", "serviceaccount", "default"]).map(|_| true)
    })?;
    let told = flow.cluster.kubectl("admin").apply(SAMPLE)?;
    for object in ["configmap/web", "deployment.apps/web", "service/web"] {
        ensure!(told.contains(object), "kubectl apply did not name {object}: {told}");
    }
    Ok(())
}

fn running(flow: &Flow<'_>) -> Result<()> {
    flow.kubectl(&["rollout", "status", "deployment/web", &timeout()])?;
    let table = flow.kubectl(&["get", "pods", "-o", "wide"])?;
    let node = &flow.cluster.spec.node;
    ensure!(table.lines().filter(|l| l.contains("Running") && l.contains(node)).count() == 2, "{table}");
    ensure!(table.starts_with("NAME"), "no table: {table}");
    Ok(())
}

fn answers_node(flow: &Flow<'_>) -> Result<()> {
    flow.wait_answer()
}

fn answers_pod(flow: &Flow<'_>) -> Result<()> {
    let url = format!("http://{}/index.html", flow.service_ip()?);
    let answer = flow.kubectl(&["exec", "deployment/web", "--", "wget", "-q", "-O", "-", &url])?;
    ensure!(answer.contains("Hello from Corten"), "the Service answered {answer:?}");
    Ok(())
}

fn logs(flow: &Flow<'_>) -> Result<()> {
    let text = flow.kubectl(&["logs", "deployment/web"])?;
    ensure!(text.contains("serving"), "the log holds {text:?}");
    Ok(())
}

fn exec(flow: &Flow<'_>) -> Result<()> {
    let text = flow
        .cluster
        .kubectl("admin")
        .run_with(&["exec", "-i", "deployment/web", "--", "cat"], "to and fro\n")?;
    ensure!(text == "to and fro\n", "exec cat echoed {text:?}");
    let error = flow.kubectl(&["exec", "deployment/web", "--", "sh", "-c", "exit 7"]);
    let text = error.err().map(|e| format!("{e:#}")).unwrap_or_default();
    ensure!(text.contains("exit code 7"), "a failing command was reported as {text:?}");
    Ok(())
}

const VOLUMES: &str = include_str!("../manifests/volumes.yaml");

fn volumes(flow: &Flow<'_>) -> Result<()> {
    flow.cluster.kubectl("admin").apply(VOLUMES)?;
    flow.wait("the pod volumes finished", || {
        Ok(flow.kubectl(&["get", "pod", "volumes", "-o", "jsonpath={.status.phase}"])? == "Succeeded")
    })?;
    let text = flow.kubectl(&["logs", "volumes"])?;
    ensure!(text.trim() == "plain hidden default token.3 shared", "the volumes held {text:?}");
    Ok(())
}

fn environment(flow: &Flow<'_>) -> Result<()> {
    flow.wait("the pod environment finished", || {
        Ok(flow.kubectl(&["get", "pod", "environment", "-o", "jsonpath={.status.phase}"])? == "Succeeded")
    })?;
    let text = flow.kubectl(&["logs", "environment"])?;
    ensure!(text.trim() == "plain hidden environment literal-plain", "the environment held {text:?}");
    flow.kubectl(&["delete", "pod", "volumes", "environment", "--wait=true", &timeout()]).map(drop)
}

fn scale(flow: &Flow<'_>) -> Result<()> {
    flow.kubectl(&["scale", "deployment/web", "--replicas=4"])?;
    flow.kubectl(&["rollout", "status", "deployment/web", &timeout()])?;
    ensure!(flow.pods(".metadata.name")?.len() == 4, "pods: {:?}", flow.pods(".metadata.name")?);
    flow.kubectl(&["scale", "deployment/web", "--replicas=2"])?;
    flow.wait("two pods are left", || Ok(flow.pods(".metadata.name")?.len() == 2))
}

fn rollout(flow: &Flow<'_>) -> Result<()> {
    let before = flow.pods(".metadata.uid")?;
    flow.kubectl(&["set", "env", "deployment/web", "VERSION=2"])?;
    flow.kubectl(&["rollout", "status", "deployment/web", &timeout()])?;
    flow.wait("only new pods are left", || {
        let now = flow.pods(".metadata.uid")?;
        Ok(now.len() == 2 && now.iter().all(|uid| !before.contains(uid)))
    })?;
    let value = flow.kubectl(&["exec", "deployment/web", "--", "sh", "-c", "echo $VERSION"])?;
    ensure!(value.trim() == "2", "VERSION is {value:?}");
    Ok(())
}

fn rollback(flow: &Flow<'_>) -> Result<()> {
    flow.kubectl(&["rollout", "undo", "deployment/web"])?;
    flow.kubectl(&["rollout", "status", "deployment/web", &timeout()])?;
    let env = flow.kubectl(&[
        "get",
        "deployment",
        "web",
        "-o",
        "jsonpath={.spec.template.spec.containers[0].env}",
    ])?;
    ensure!(env.is_empty(), "the environment after the roll back is {env:?}");
    flow.wait("two pods are left", || Ok(flow.pods(".metadata.name")?.len() == 2))
}

fn replaced(flow: &Flow<'_>) -> Result<()> {
    let before = flow.pods(".metadata.name")?;
    let victim = before.first().context("there is no pod to delete")?;
    flow.kubectl(&["delete", "pod", victim, &timeout()])?;
    flow.wait("a new pod is ready", || {
        let ready = flow.pods(".status.conditions[?(@.type==\"Ready\")].status")?;
        let now = flow.pods(".metadata.name")?;
        Ok(now.len() == 2 && !now.contains(victim) && ready == ["True", "True"])
    })
}

fn tainted(flow: &Flow<'_>) -> Result<()> {
    let node = flow.cluster.spec.node.as_str();
    flow.kubectl(&["taint", "node", node, "smoke=yes:NoSchedule"])?;
    flow.kubectl(&["scale", "deployment/web", "--replicas=3"])?;
    flow.wait("the third pod is refused for the taint", || {
        let reasons = flow.pods(".status.conditions[?(@.type==\"PodScheduled\")].message")?;
        Ok(reasons.iter().any(|r| r.contains("0/1 nodes are available: 1 node(s) had untolerated taint")))
    })?;
    flow.kubectl(&["taint", "node", node, "smoke-"])?;
    flow.kubectl(&["rollout", "status", "deployment/web", &timeout()])?;
    flow.kubectl(&["scale", "deployment/web", "--replicas=2"]).map(drop)
}

fn forbidden(flow: &Flow<'_>) -> Result<()> {
    let answer = flow.cluster.kubectl("nobody").run(&["get", "pods"]);
    let text = answer.err().map(|e| format!("{e:#}")).unwrap_or_default();
    let wanted = "Error from server (Forbidden): pods is forbidden: User \"nobody\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"";
    ensure!(text.contains(wanted), "expected {wanted:?}, got {text:?}");
    Ok(())
}

fn killed(flow: &Flow<'_>) -> Result<()> {
    flow.wait("two pods are left", || Ok(flow.pods(".metadata.name")?.len() == 2))?;
    let state = || -> Result<Vec<String>> {
        flow.pods(".metadata.uid}{.status.containerStatuses[0].containerID}{.status.containerStatuses[0].restartCount")
    };
    let before = state()?;
    for daemon in DAEMONS {
        flow.cluster.processes.stop(daemon, Signal::SIGKILL, Duration::from_secs(10))?;
        flow.cluster.start_daemon(daemon)?;
        flow.wait(&format!("pods are as before the end of {daemon}"), || Ok(state()? == before))?;
        flow.wait(&format!("{daemon} works again"), || works(flow, daemon))?;
    }
    ensure!(state()? == before, "pods were {before:?}, are {:?}", state()?);
    Ok(())
}

/// A small piece of work that only `daemon` can do.
fn works(flow: &Flow<'_>, daemon: &str) -> Result<bool> {
    match daemon {
        "kube-apiserver" => Ok(flow.kubectl(&["get", "--raw", "/readyz"])?.contains("ok")),
        "kubelet" => Ok(flow.kubectl(&["logs", "deployment/web"])?.contains("serving")),
        "kube-proxy" => Ok(flow.ask_service()?.contains("Hello from Corten")),
        // Scaling up and down takes both.
        _ => {
            flow.kubectl(&["scale", "deployment/web", "--replicas=3"])?;
            flow.kubectl(&["rollout", "status", "deployment/web", &timeout()])?;
            flow.kubectl(&["scale", "deployment/web", "--replicas=2"])?;
            flow.wait("two pods are left", || Ok(flow.pods(".metadata.name")?.len() == 2))?;
            Ok(true)
        }
    }
}

fn delete(flow: &Flow<'_>) -> Result<()> {
    flow.cluster.kubectl("admin").run_with(&["delete", "-f", "-", &timeout()], SAMPLE)?;
    flow.wait("no pod is left", || Ok(flow.pods(".metadata.name")?.is_empty()))?;
    flow.wait("no endpoint slice is left", || {
        let slices = ["get", "endpointslices", "-l", "kubernetes.io/service-name=web", "-o", "name"];
        Ok(flow.kubectl(&slices)?.is_empty())
    })
}

fn namespace(flow: &Flow<'_>) -> Result<()> {
    flow.kubectl(&["create", "namespace", "passing"])?;
    flow.kubectl(&["create", "configmap", "left", "-n", "passing", "--from-literal=a=b"])?;
    flow.wait("the namespace has its service account", || {
        flow.kubectl(&["get", "serviceaccount", "default", "-n", "passing"]).map(|_| true)
    })?;
    flow.kubectl(&["delete", "namespace", "passing", &timeout()])?;
    let gone =
        flow.kubectl(&["get", "namespace", "passing"]).err().map(|e| format!("{e:#}")).unwrap_or_default();
    ensure!(gone.contains("(NotFound): namespaces \"passing\" not found"), "{gone}");
    Ok(())
}
