//! Looks at the kernel and applies changes.
//!
//! A step that fails does not keep the others from being tried: a Service that the kernel refuses must not be all
//! Services' trouble. The first problem is returned, and a full load follows. Upstream: proxier.go syncProxyRules.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use super::draining::{Draining, Fate, fate};
use super::netlink::{Change, Ipvs};
use super::part::NodeAddresses;
use super::ruleset::{Changes, Kernel, Ruleset, Step};
use super::server::{Key, WEIGHT};
use super::{device, ipset, rules};
use crate::iptables::command::Iptables;
use crate::iptables::ruleset::Saved;
use crate::model::Family;
use crate::program::{Error, Result};
use crate::settings::Common;

/// The way to the kernel of one family.
pub struct Hand {
    iptables: Iptables,
    ipvs: Ipvs,
    draining: Draining,
}

impl Hand {
    /// Of a family.
    pub fn new(family: Family, ipvs: Ipvs) -> Self {
        Self { iptables: Iptables { family }, ipvs, draining: Draining::default() }
    }

    /// What the kernel has.
    pub async fn look(&self, common: &Common) -> Result<Kernel> {
        let rules = Saved::parse(&self.iptables.save().await?);
        let sets = ipset::list(common.family).await?;
        let (ipvs, family) = (self.ipvs, common.family);
        let (servers, bound, others) = blocking("reading virtual servers and addresses", move || {
            let mut servers = std::collections::BTreeMap::new();
            for (key, manner) in ipvs.servers()? {
                if Family::of(&key.address.ip()) == family {
                    servers.insert(key, (manner, ipvs.reals(&key)?));
                }
            }
            let (bound, others) = device::addresses(family)?;
            Ok((servers, bound, others))
        })
        .await?;
        let node = NodeAddresses::new(common, others.into_iter());
        Ok(Kernel { servers, sets, bound, node, rules })
    }

    /// Applies.
    pub async fn load(&mut self, changes: &Changes) -> Result<()> {
        let mut problem = None;
        let mut note = |result: Result<()>| {
            if let Err(error) = result {
                problem.get_or_insert(error);
            }
        };
        note(self.serve(changes).await);
        note(ipset::restore(&changes.sets).await);
        if !changes.rules.is_empty() {
            note(self.iptables.restore(&changes.rules).await);
        }
        let (ipvs, unbind, delete) = (self.ipvs, changes.unbind.clone(), changes.delete.clone());
        delete.iter().for_each(|key| self.draining.forget(key));
        note(blocking("unbinding addresses", move || device::unbind(&unbind)).await);
        note(
            blocking("deleting virtual servers", move || ipvs.apply(delete.iter().map(Change::Delete))).await,
        );
        problem.map_or(Ok(()), Err)
    }

    async fn serve(&mut self, changes: &Changes) -> Result<()> {
        let (ipvs, device, bind) = (self.ipvs, changes.device, changes.bind.clone());
        let (steps, mut draining) = (changes.steps.clone(), std::mem::take(&mut self.draining));
        let (draining, result) = blocking("changing virtual servers", move || {
            let mut result = if device { device::create() } else { Ok(()) };
            // Servers first: an address that is bound without one is this node's own.
            result = result.and(take(ipvs, &steps, &mut draining));
            result = result.and(device::bind(&bind));
            Ok((draining, result))
        })
        .await?;
        self.draining = draining;
        result.map_err(|e| problem("changing virtual servers", &e))
    }

    /// Deletes real servers whose last connection has ended.
    pub async fn tidy(&mut self, now: Instant) -> Result<()> {
        let due = self.draining.due(now);
        if due.is_empty() {
            return Ok(());
        }
        let (ipvs, mut draining) = (self.ipvs, std::mem::take(&mut self.draining));
        let (draining, result) = blocking("deleting real servers", move || {
            let result = drain(ipvs, &due, &mut draining);
            Ok((draining, result))
        })
        .await?;
        self.draining = draining;
        result.map_err(|e| problem("deleting real servers", &e))
    }

    /// Our device, virtual servers and rules are there, and the node's addresses are what they were. Real servers are
    /// not looked at: that would be a question for each virtual one.
    pub async fn intact(&self, common: &Common, known: &Ruleset) -> bool {
        let (ipvs, family) = (self.ipvs, common.family);
        let look = move || Ok((device::addresses(family)?, ipvs.servers()?));
        let Ok(((Some(_), others), servers)) = blocking("looking at virtual servers", look).await else {
            return false;
        };
        let same = NodeAddresses::new(common, others.into_iter()) == *known.node();
        if !same || !known.servers().all(|key| servers.contains_key(key)) {
            return false;
        }
        let sought =
            [("nat", "PREROUTING", "-j KUBE-SERVICES"), ("nat", rules::POSTROUTING, "-j MASQUERADE")];
        let sought = sought.into_iter().chain([
            ("nat", "OUTPUT", "-j KUBE-SERVICES"),
            ("filter", rules::FORWARD, "-j ACCEPT"),
            ("filter", "INPUT", "-j KUBE-IPVS-FILTER"),
        ]);
        for (table, chain, rule) in sought {
            let listed = self.iptables.call(&["-t", table, "-S", chain]).await;
            if !listed.is_ok_and(|text| text.contains(rule)) {
                return false;
            }
        }
        true
    }
}

fn problem(what: &str, error: &io::Error) -> Error {
    Error::Unusable(format!("{what}: {error}"))
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|e| problem(what, &e)),
        Err(_) => Err(Error::Unusable(format!("{what}: interrupted"))),
    }
}

/// Steps in their order, but those that have to ask about connections at the end.
fn take(ipvs: Ipvs, steps: &[Step], draining: &mut Draining) -> io::Result<()> {
    let mut leaving = Vec::new();
    let mut changes = Vec::with_capacity(steps.len());
    for step in steps {
        changes.push(match step {
            Step::Add(key, manner) => Change::Add(key, manner),
            Step::Change(key, manner) => Change::Set(key, manner),
            Step::AddReal(key, real) if !draining.has(key, real) => Change::AddReal(key, real),
            Step::AddReal(key, real) | Step::Revive(key, real) => {
                draining.remove(key, real);
                Change::SetReal(key, real, WEIGHT)
            }
            Step::Drain(key, real) => {
                leaving.push((*key, *real));
                continue;
            }
        });
    }
    let result = ipvs.apply(changes.into_iter());
    result.and(drain(ipvs, &leaving, draining))
}

/// Deletes real servers that may go and lets the others wait.
fn drain(ipvs: Ipvs, leaving: &[(Key, SocketAddr)], draining: &mut Draining) -> io::Result<()> {
    let mut changes = Vec::new();
    let mut problem = Ok(());
    for of_server in leaving.chunk_by(|(a, _), (b, _)| a == b) {
        let Some((key, _)) = of_server.first() else { continue };
        let known = match ipvs.reals(key) {
            Ok(known) => known,
            Err(error) => {
                problem = problem.and(Err(error));
                continue;
            }
        };
        for (_, real) in of_server {
            match fate(key.protocol, known.get(real)) {
                Fate::Delete => changes.push(Change::DeleteReal(key, real)),
                Fate::Gone => {}
                Fate::Drain => {
                    if known.get(real).is_some_and(|real| real.weight != 0) {
                        changes.push(Change::SetReal(key, real, 0));
                    }
                    draining.add(*key, *real);
                    continue;
                }
            }
            draining.remove(key, real);
        }
    }
    ipvs.apply(changes.into_iter()).and(problem)
}
