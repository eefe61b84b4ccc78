//! A client that writes to several API servers, goes to the next when one fails, and remembers what was acknowledged.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use client::{Client, Config, Options, Request};
use http::Method;
use parking_lot::{Mutex, MutexGuard};
use serde_json::json;

use crate::cluster::Cluster;
use crate::process::Processes;

/// Between two writes: the load is to be steady, not heavy.
const PACE: Duration = Duration::from_millis(20);

/// What the writer and its watchers share.
struct Shared {
    stop: AtomicBool,
    state: Mutex<State>,
}

struct State {
    acknowledged: Vec<usize>,
    last: Instant,
    longest: Duration,
}

/// The running writer.
pub(crate) struct Load {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<()>>,
}

/// What was acknowledged in the end.
pub(crate) struct Written(Vec<usize>);

impl Load {
    /// Where it writes its objects.
    pub(crate) const NAMESPACE: &str = "load";

    /// Writes through the servers of these kubeconfigs until stopped.
    pub(crate) fn start(processes: &Processes, kubeconfigs: Vec<String>) -> Result<Self> {
        let state = State { acknowledged: Vec::new(), last: Instant::now(), longest: Duration::ZERO };
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), state: Mutex::new(state) });
        let processes = Processes { dir: processes.dir.clone(), netns: processes.netns.clone() };
        let seen = Arc::clone(&shared);
        let thread = std::thread::spawn(move || processes.inside(|| write(&kubeconfigs, &seen)));
        Ok(Self { shared, thread })
    }

    /// How many writes were acknowledged so far.
    pub(crate) fn count(&self) -> usize {
        self.shared.state().acknowledged.len()
    }

    /// Forgets earlier pauses.
    pub(crate) fn begin_pause(&self) {
        let mut state = self.shared.state();
        (state.last, state.longest) = (Instant::now(), Duration::ZERO);
    }

    /// The longest time without an acknowledged write since [`Load::begin_pause`].
    pub(crate) fn longest_pause(&self) -> Duration {
        self.shared.state().longest
    }

    /// Ends the writer.
    pub(crate) fn stop(self) -> Result<Written> {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        let written = std::mem::take(&mut self.shared.state().acknowledged);
        Ok(Written(written))
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn acknowledge(&self, number: usize) {
        let mut state = self.state();
        state.longest = state.longest.max(state.last.elapsed());
        state.last = Instant::now();
        state.acknowledged.push(number);
    }
}

impl Written {
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// What the API server of `host` does not have.
    pub(crate) fn missing(&self, host: &Cluster) -> Result<Vec<usize>> {
        let path = "jsonpath={.items[*].metadata.name}";
        let names = host.kubectl("admin").run(&["get", "configmaps", "-n", Load::NAMESPACE, "-o", path])?;
        let names: HashSet<&str> = names.split_whitespace().collect();
        Ok(self.0.iter().copied().filter(|n| !names.contains(name(*n).as_str())).collect())
    }
}

fn name(number: usize) -> String {
    format!("write-{number}")
}

fn write(kubeconfigs: &[String], shared: &Shared) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let options = Options { qps: -1.0, timeout: Duration::from_secs(3), ..Options::default() };
        let open = |path: &String| anyhow::Ok(Client::new(Config::from_kubeconfig(path)?, options.clone())?);
        let clients = kubeconfigs.iter().map(open).collect::<Result<Vec<_>>>()?;
        let (mut number, mut at) = (0, 0);
        while !shared.stop.load(Ordering::Acquire) {
            let client = clients.get(at % clients.len()).context("no API servers")?;
            if create(client, number).await {
                shared.acknowledge(number);
                number += 1;
            }
            // Every server gets its share; one that fails is passed over.
            at += 1;
            tokio::time::sleep(PACE).await;
        }
        Ok(())
    })
}

/// True if the object is known to be stored: by this request, or by an earlier one whose answer was lost.
async fn create(client: &Client, number: usize) -> bool {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name(number)}});
    let url = format!("/api/v1/namespaces/{}/configmaps", Load::NAMESPACE);
    let request = Request::new(Method::POST, url).body("application/json", object.to_string());
    match client.call(&request).await {
        Ok(_) => true,
        Err(error) => error.is_already_exists(),
    }
}
