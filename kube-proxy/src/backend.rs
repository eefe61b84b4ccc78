//! The kernel's side of a proxier: one of the modes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tracing::warn;

use crate::generation::Generation;
use crate::iptables::chain::CANARY;
use crate::iptables::command::Iptables;
use crate::iptables::nfacct;
use crate::iptables::ruleset::Saved;
use crate::ipvs::netlink::Ipvs;
use crate::model::ServiceKey;
use crate::model::table::{Entry, Table};
use crate::nftables::command::Nft;
use crate::nftables::ruleset::Existing;
use crate::program::Result;
use crate::proxier::Inbox;
use crate::settings::{Common, Settings};
use crate::{iptables, ipvs, nftables, tally};

/// A mode for one family.
pub struct Backend {
    pub common: Common,
    pub mode: Mode,
    generation: Arc<Generation>,
    /// What the generation was when the kernel had what it should.
    clean: Option<u64>,
    looked: Option<u64>,
    /// It was said that tables cannot be shown.
    hidden: AtomicBool,
    /// Counting all rules is due then.
    count_at: Option<Instant>,
}

/// Counting may take no more than one in so many parts of the time.
const COUNTING_SHARE: u32 = 20;

/// The modes.
pub enum Mode {
    Iptables(Iptables, iptables::ruleset::Ruleset),
    Nftables(Nft, nftables::ruleset::Ruleset),
    Ipvs(Box<ipvs::kernel::Hand>, Box<ipvs::ruleset::Ruleset>),
}

/// What the kernel has, as far as a full load has to know it.
pub struct Kernel {
    rules: Rules,
    /// This machine's addresses, if it matters which.
    local: Vec<IpAddr>,
}

enum Rules {
    Iptables(Saved),
    Nftables(Existing),
    Ipvs(ipvs::ruleset::Kernel),
}

/// What to load.
#[derive(Default)]
pub struct Work {
    pub text: String,
    /// Rules written to filter and nat, where they are counted.
    pub written: Option<(usize, usize)>,
    /// Mode ipvs: instead of the text.
    pub changes: ipvs::ruleset::Changes,
}

impl Work {
    /// How much it is, for the log.
    pub fn size(&self) -> usize {
        self.text.len() + self.changes.len()
    }
}

/// Only a full load can tell.
pub struct NeedsFull;

impl Backend {
    fn new(common: Common, mode: Mode, generation: Arc<Generation>) -> Self {
        Self {
            common,
            mode,
            generation,
            clean: None,
            looked: None,
            hidden: AtomicBool::new(false),
            count_at: None,
        }
    }

    /// iptables.
    pub fn iptables(common: Common, generation: Arc<Generation>) -> Self {
        let mode = Mode::Iptables(Iptables { family: common.family }, iptables::ruleset::Ruleset::default());
        Self::new(common, mode, generation)
    }

    /// nftables.
    pub fn nftables(common: Common, generation: Arc<Generation>) -> Self {
        let mode = Mode::Nftables(Nft { family: common.family }, nftables::ruleset::Ruleset::default());
        Self::new(common, mode, generation)
    }

    /// ipvs.
    pub fn ipvs(common: Common, ipvs: Ipvs, config: ipvs::ruleset::Config) -> Self {
        let hand = ipvs::kernel::Hand::new(common.family, ipvs);
        let mode = Mode::Ipvs(Box::new(hand), Box::new(ipvs::ruleset::Ruleset::new(config)));
        Self::new(common, mode, Arc::default())
    }

    /// Looks at the kernel, before a full load.
    pub async fn look(&mut self) -> Result<Kernel> {
        self.looked = self.generation.look();
        let rules = match &self.mode {
            Mode::Iptables(program, _) => {
                if self.common.invalid_accounted {
                    // Rules name them; whoever flushed tables may have removed counters, too.
                    nfacct::ensure().await;
                }
                Rules::Iptables(program.saved().await?)
            }
            Mode::Nftables(program, _) => Rules::Nftables(program.existing().await?),
            Mode::Ipvs(hand, _) => Rules::Ipvs(hand.look(&self.common).await?),
        };
        Ok(Kernel { rules, local: self.local() })
    }

    fn local(&self) -> Vec<IpAddr> {
        if self.common.node_ports.all() { Vec::new() } else { crate::node::local_addresses() }
    }

    /// Everything.
    pub fn full(&mut self, settings: &Settings, table: &Table, kernel: &Kernel, now: Instant) -> Work {
        match (&mut self.mode, &kernel.rules) {
            (Mode::Iptables(_, rules), Rules::Iptables(saved)) => {
                let load = rules.full(&self.common, settings, table, saved, &kernel.local);
                Work { text: load.text + &canaries(saved), written: Some(load.written), ..Work::default() }
            }
            (Mode::Nftables(_, rules), Rules::Nftables(existing)) => {
                let text = rules.full(&self.common, settings, table, existing, &kernel.local, now);
                Work { text, ..Work::default() }
            }
            (Mode::Ipvs(_, rules), Rules::Ipvs(kernel)) => {
                Work { changes: rules.full(&self.common, settings, table, kernel), ..Work::default() }
            }
            // Looked at by another backend; there is none.
            _ => Work::default(),
        }
    }

    /// What changed.
    ///
    /// # Errors
    /// A full load is needed instead.
    pub fn incremental(
        &mut self,
        settings: &Settings,
        table: &Table,
        before: &BTreeMap<ServiceKey, Entry>,
        now: Instant,
    ) -> Result<Work, NeedsFull> {
        match &mut self.mode {
            Mode::Iptables(_, rules) => {
                let load = rules.incremental(settings, table, before);
                Ok(Work { text: load.text, written: Some(load.written), ..Work::default() })
            }
            Mode::Nftables(_, rules) => rules
                .incremental(&self.common, settings, table, before, now)
                .map(|text| Work { text, ..Work::default() })
                .map_err(|nftables::ruleset::Conflict| NeedsFull),
            Mode::Ipvs(_, rules) => rules
                .incremental(&self.common, settings, table, before)
                .map(|changes| Work { changes, ..Work::default() })
                .map_err(|ipvs::ruleset::Conflict| NeedsFull),
        }
    }

    /// Loads.
    pub async fn load(&mut self, work: &Work, full: bool) -> Result<()> {
        match &mut self.mode {
            Mode::Iptables(program, _) => {
                self.generation.look();
                if !work.text.is_empty() {
                    restore(*program, &work.text).await?;
                }
                self.generation.wrote(changes(&work.text));
            }
            Mode::Nftables(program, _) if !work.text.is_empty() => {
                self.generation.look();
                match program.run(&work.text).await {
                    // Whatever else is in the table is not to be there.
                    Err(_) if full => program.run_alone(&work.text).await?,
                    other => other?,
                }
                self.generation.wrote(1);
            }
            Mode::Nftables(..) => {}
            Mode::Ipvs(hand, _) => return hand.load(&work.changes).await,
        }
        if full {
            self.clean = self.looked;
        }
        Ok(())
    }

    /// Removes what had to wait for its removal.
    pub async fn tidy(&mut self, now: Instant) -> Result<()> {
        match &mut self.mode {
            Mode::Iptables(..) => Ok(()),
            Mode::Nftables(program, rules) => {
                if let Some(text) = rules.delete_stale(&self.common, now) {
                    self.generation.look();
                    program.run(&text).await?;
                    self.generation.wrote(1);
                }
                Ok(())
            }
            Mode::Ipvs(hand, _) => hand.tidy(now).await,
        }
    }

    /// Nobody has flushed the rules, removed some, or added any to our chains. Costs next to nothing while nobody
    /// changes any rules.
    pub async fn intact(&mut self, settings: &Settings, inbox: &Inbox) -> bool {
        let seen = match &self.mode {
            Mode::Ipvs(hand, rules) => return hand.intact(&self.common, rules).await,
            Mode::Iptables(..) | Mode::Nftables(..) => self.generation.look(),
        };
        if seen.is_some() && seen == self.clean {
            return true;
        }
        if let Mode::Iptables(program, _) = &self.mode
            && !program.intact().await
        {
            return false;
        }
        let began = Instant::now();
        if self.count_at.is_some_and(|at| began < at) {
            return true;
        }
        if !self.counted(settings, inbox).await.unwrap_or(false) {
            return false;
        }
        self.clean = seen;
        self.count_at = Some(Instant::now() + began.elapsed() * COUNTING_SHARE);
        true
    }

    /// Once, until it is mended.
    fn say_hidden(&self, tables: &[&str]) {
        if !self.hidden.swap(!tables.is_empty(), Ordering::Relaxed) && !tables.is_empty() {
            warn!(
                family = self.common.family.as_str(),
                tables = tables.join(" "),
                "iptables cannot show tables that another program put rules into with nft: Services are kept up, but \
                 removed rules go unnoticed and unused chains stay. Move those rules to a table of their own: `nft list \
                 ruleset` shows them"
            );
        }
    }

    /// The kernel has as many rules in each chain, and elements in each set, as it should.
    async fn counted(&self, settings: &Settings, inbox: &Inbox) -> Result<bool> {
        let local = self.local();
        match &self.mode {
            Mode::Iptables(program, _) => {
                let text = program.save().await?;
                let hidden = Saved::hidden(&text);
                self.say_hidden(&hidden);
                if !hidden.is_empty() {
                    return Ok(true);
                }
                let saved = Saved::parse(&text);
                let load = inbox.with(|table| {
                    iptables::ruleset::Ruleset::default().full(&self.common, settings, table, &saved, &local)
                });
                let count = |text: &str| tally::of_iptables(text, iptables::cleanup::is_counted);
                // Jumps that are missing would be inserted.
                Ok(!load.text.contains("\n-I ") && count(&text) == count(&load.text))
            }
            Mode::Nftables(program, _) => {
                let text = inbox.with(|table| {
                    let mut rules = nftables::ruleset::Ruleset::default();
                    let nothing = Existing::default();
                    rules.full(&self.common, settings, table, &nothing, &local, Instant::now())
                });
                Ok(program.tally(!self.common.node_ports.all()).await? == tally::of_nftables(&text))
            }
            Mode::Ipvs(..) => Ok(true),
        }
    }

    /// Nobody else changed rules since the last full load: nothing has to be counted.
    #[cfg(test)]
    pub fn undisturbed(&self) -> bool {
        self.clean.is_some() && self.generation.look() == self.clean
    }

    /// Counts at the next look, however short ago it was.
    #[cfg(test)]
    pub fn count_now(&mut self) {
        self.count_at = None;
    }

    /// Service ports whose internal or external policy finds no endpoint on this node.
    pub fn without_local(&self) -> (usize, usize) {
        match &self.mode {
            Mode::Iptables(_, rules) => rules.counts().no_local,
            Mode::Nftables(_, rules) => rules.without_local(),
            Mode::Ipvs(_, rules) => rules.without_local(),
        }
    }

    /// Rules of Services in filter and nat, where they are counted.
    pub fn rules(&self) -> Option<(usize, usize)> {
        match &self.mode {
            Mode::Iptables(_, rules) => Some((rules.counts().filter, rules.counts().nat)),
            Mode::Nftables(..) | Mode::Ipvs(..) => None,
        }
    }
}

/// Empty chains that vanish when somebody flushes the tables, where they are missing: stated again they would change
/// nothing, and the kernel not number it. Upstream: pkg/util/iptables Monitor.
fn canaries(saved: &Saved) -> String {
    // Of tables that are not ours, chains are known without their table.
    let missing = [("mangle", ""), ("nat", "nat"), ("filter", "filter")]
        .into_iter()
        .filter(|(_, of)| !saved.has_chain(of, CANARY));
    missing.map(|(table, _)| format!("*{table}\n:{CANARY} - [0:0]\nCOMMIT\n")).collect()
}

/// Each table is a change of its own.
fn changes(text: &str) -> u32 {
    let count = text.lines().filter(|line| *line == "COMMIT").count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Loads; chains that somebody else's rules lead to cannot be removed, which must not keep everything else from the
/// kernel.
async fn restore(program: Iptables, text: &str) -> Result<()> {
    let Err(error) = program.restore(text).await else { return Ok(()) };
    let kept: String = text.split_inclusive('\n').filter(|line| !line.starts_with("-X ")).collect();
    if kept.len() == text.len() || program.restore(&kept).await.is_err() {
        return Err(error);
    }
    warn!(
        family = program.family.as_str(),
        %error,
        "Chains that are not used any more stay, emptied: rules of somebody else lead to them. Remove those rules; the \
         next full sync removes the chains"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canaries_are_stated_where_they_are_missing() {
        let all = canaries(&Saved::default());
        assert_eq!(changes(&all), 3);
        assert_eq!(canaries(&Saved::parse(&all)), "");
        let flushed = all.replace("*mangle\n:KUBE-PROXY-CANARY - [0:0]\n", "*mangle\n");
        assert_eq!(canaries(&Saved::parse(&flushed)), "*mangle\n:KUBE-PROXY-CANARY - [0:0]\nCOMMIT\n");
    }
}
