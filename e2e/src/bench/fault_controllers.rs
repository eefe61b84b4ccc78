//! `fault-controllers`: one story of workloads (`story.rs`), played again and again while a kube-controller-manager is
//! disturbed (`bench::proxy`); its ends must be those of the undisturbed story (`make fault-controllers`).
//!
//! Environment: `OURS` (our binary), `CORTEN_UPSTREAM_BIN` (folder of upstream's, with etcd), `SIDES` (`ours upstream`),
//! `FAULTS` (`crash frozen missed storm refused`), `ROUNDS` of each but crashes, which come after every `STEP`th write from
//! the `FIRST` on: several runs at a time share them.

mod end_state;
mod story;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use client::Client;

use bench::daemon::Daemon;
use bench::hollow::{self, Hollow};
use bench::proxy::{Fault, Proxy};
use bench::{Ground, number};
use story::Story;

/// One for each pod of the story's daemon set.
const NODES: usize = 3;
/// Differences that are printed of the end of a part.
const PRINTED: usize = 5;
/// How long every write is refused.
const REFUSED: Duration = Duration::from_secs(20);
/// How long every second write fails. The deletion of a namespace takes a write for each of sixty kinds in one round:
/// it cannot end before.
const STORM: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<()> {
    let ground = Ground::start("kube-controller-manager", &["--enable-priority-and-fairness=false"]).await?;
    let client = &ground.client;
    hollow::nodes(client, NODES).await?;
    let beats = hollow::heartbeats(client.clone(), NODES);
    let mut failed = 0;
    println!(
        "| side | fault | rounds | other ends | writes | pods | writes of the worst round | its most tried write |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for side in words("SIDES", "ours upstream") {
        let binary = if side == "ours" { ground.ours.clone() } else { ground.theirs.clone() };
        let proxy = Proxy::start(client.clone()).await?;
        let kubeconfig = ground.kubeconfig.with_file_name(format!("{side}.conf"));
        proxy.kubeconfig(&kubeconfig)?;
        let hollow = Hollow::start(client.clone(), NODES);
        let daemon = Daemon::start(&binary, &kubeconfig, &[])?;
        let mut test = Test { side, client, binary, kubeconfig, proxy, hollow, daemon, round: 0 };
        failed += test.all().await?;
    }
    beats.abort();
    if failed > 0 {
        bail!("{failed} rounds ended otherwise than undisturbed");
    }
    Ok(())
}

fn words(name: &str, default: &str) -> Vec<String> {
    let text = std::env::var(name).unwrap_or_else(|_| default.to_string());
    text.split_whitespace().map(ToString::to_string).collect()
}

/// A played story.
struct Round {
    ends: Vec<Vec<String>>,
    writes: u64,
    most: (String, u64),
    pods: usize,
}

/// One side.
struct Test<'a> {
    side: String,
    client: &'a Client,
    binary: PathBuf,
    kubeconfig: PathBuf,
    proxy: Proxy,
    hollow: Hollow,
    daemon: Daemon,
    round: usize,
}

impl Test<'_> {
    /// Every fault; how many rounds ended otherwise.
    async fn all(&mut self) -> Result<usize> {
        let calm = self.play(Fault::None).await.context("undisturbed")?;
        let mut failed = self.row("none", &calm, &[Fault::None]).await?;
        let rounds = number("ROUNDS", 5);
        for name in words("FAULTS", "crash frozen missed storm refused") {
            let faults: Vec<Fault> = match name.as_str() {
                "crash" => {
                    let writes = number("FIRST", 1) as u64..=calm.writes;
                    writes.step_by(number("STEP", 1)).map(Fault::CrashAt).collect()
                }
                "frozen" => vec![Fault::Frozen; rounds],
                "missed" => vec![Fault::Missed; rounds],
                "storm" => vec![Fault::Storm; rounds],
                "refused" => vec![Fault::Refused],
                other => bail!("no fault is called {other}"),
            };
            failed += self.row(&name, &calm, &faults).await?;
        }
        Ok(failed)
    }

    async fn row(&mut self, name: &str, calm: &Round, faults: &[Fault]) -> Result<usize> {
        let (mut other, mut pods) = (0, (calm.pods, calm.pods));
        let mut worst = (0, calm.most.clone());
        for fault in faults {
            match self.play(*fault).await {
                Ok(round) => {
                    other += usize::from(!self.same(*fault, calm, &round));
                    pods = (pods.0.min(round.pods), pods.1.max(round.pods));
                    if round.writes > worst.0 {
                        worst = (round.writes, round.most);
                    }
                }
                Err(error) => {
                    other += 1;
                    println!("{}, {fault:?}, namespace {}: {error:#}", self.side, self.namespace());
                }
            }
        }
        println!(
            "| {} | {name} | {} | {other} | {} | {}-{} | {} | {} times {} |",
            self.side,
            faults.len(),
            calm.writes,
            pods.0,
            pods.1,
            worst.0,
            worst.1.1,
            worst.1.0
        );
        Ok(other)
    }

    /// Whether a round ended as the undisturbed one; what differs is printed.
    fn same(&self, fault: Fault, calm: &Round, round: &Round) -> bool {
        let mut same = true;
        for (want, is) in calm.ends.iter().zip(&round.ends) {
            same &= want == is;
            for (word, lines, others) in [("missing", want, is), ("instead", is, want)] {
                for line in lines.iter().filter(|l| !others.contains(l)).take(PRINTED) {
                    println!("{}, {fault:?}: {word} {line}", self.side);
                }
            }
        }
        // Nothing may be made twice, or made again in place of what was deleted without need. Of old news a stateful set
        // may make a pod by its old template first, upstream's too: then the number is only told.
        if matches!(fault, Fault::None | Fault::CrashAt(_)) && round.pods != calm.pods {
            println!("{}, {fault:?}: {} pods were made in place of {}", self.side, round.pods, calm.pods);
            same = false;
        }
        same
    }

    fn namespace(&self) -> String {
        format!("{}-{}", self.side, self.round)
    }

    async fn play(&mut self, fault: Fault) -> Result<Round> {
        self.round += 1;
        let namespace = self.namespace();
        let before = self.hollow.ever();
        self.proxy.set(fault);
        let story = Story { client: self.client, namespace: &namespace };
        let disturb = disturb(fault, &self.proxy, &mut self.daemon, &self.binary, &self.kubeconfig);
        let ends = tokio::select! {
            ends = story.play() => ends?,
            error = disturb => return Err(error),
        };
        // What a disturbed daemon has missed must not reach into the next round.
        let (writes, most) = (self.proxy.writes(), self.proxy.most());
        self.proxy.set(Fault::None);
        let ends = ends.into_iter().map(|end| end.into_iter().map(|l| l.replace(&namespace, "*")).collect());
        Ok(Round { ends: ends.collect(), writes, most, pods: self.hollow.ever() - before })
    }
}

/// Does to the daemon what the proxy does not; ends only with an error.
async fn disturb(
    fault: Fault,
    proxy: &Proxy,
    daemon: &mut Daemon,
    binary: &Path,
    kubeconfig: &Path,
) -> anyhow::Error {
    match fault {
        Fault::CrashAt(_) => loop {
            proxy.crash().await;
            daemon.stop();
            match Daemon::start(binary, kubeconfig, &[]) {
                Ok(next) => *daemon = next,
                Err(error) => return error,
            }
        },
        Fault::Refused => {
            tokio::time::sleep(REFUSED).await;
            println!("{} writes were tried in {} s of refusals", proxy.writes(), REFUSED.as_secs());
            proxy.set(Fault::None);
            std::future::pending().await
        }
        Fault::Storm => {
            tokio::time::sleep(STORM).await;
            proxy.set(Fault::None);
            std::future::pending().await
        }
        _ => std::future::pending().await,
    }
}
