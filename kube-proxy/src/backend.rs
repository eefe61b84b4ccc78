//! The kernel's side of a proxier: one of the modes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use crate::iptables::chain::CANARY;
use crate::iptables::command::Iptables;
use crate::iptables::ruleset::Saved;
use crate::ipvs::netlink::Ipvs;
use crate::model::ServiceKey;
use crate::model::table::{Entry, Table};
use crate::nftables::command::Nft;
use crate::nftables::ruleset::Existing;
use crate::program::Result;
use crate::settings::{Common, Settings};
use crate::{iptables, ipvs, nftables};

/// A mode for one family.
pub struct Backend {
    pub common: Common,
    pub mode: Mode,
}

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
    /// iptables.
    pub fn iptables(common: Common) -> Self {
        let mode = Mode::Iptables(Iptables { family: common.family }, iptables::ruleset::Ruleset::default());
        Self { common, mode }
    }

    /// nftables.
    pub fn nftables(common: Common) -> Self {
        let mode = Mode::Nftables(Nft { family: common.family }, nftables::ruleset::Ruleset::default());
        Self { common, mode }
    }

    /// ipvs.
    pub fn ipvs(common: Common, ipvs: Ipvs, config: ipvs::ruleset::Config) -> Self {
        let hand = ipvs::kernel::Hand::new(common.family, ipvs);
        Self { common, mode: Mode::Ipvs(Box::new(hand), Box::new(ipvs::ruleset::Ruleset::new(config))) }
    }

    /// Looks at the kernel, before a full load.
    pub async fn look(&self) -> Result<Kernel> {
        let rules = match &self.mode {
            Mode::Iptables(program, _) => Rules::Iptables(Saved::parse(&program.save().await?)),
            Mode::Nftables(program, _) => Rules::Nftables(program.existing().await?),
            Mode::Ipvs(hand, _) => Rules::Ipvs(hand.look(&self.common).await?),
        };
        let local = if self.common.node_ports.all() { Vec::new() } else { crate::node::local_addresses() };
        Ok(Kernel { rules, local })
    }

    /// Everything.
    pub fn full(&mut self, settings: &Settings, table: &Table, kernel: &Kernel, now: Instant) -> Work {
        match (&mut self.mode, &kernel.rules) {
            (Mode::Iptables(_, rules), Rules::Iptables(saved)) => {
                let load = rules.full(&self.common, settings, table, saved, &kernel.local);
                Work { text: load.text, written: Some(load.written), ..Work::default() }
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
                if !work.text.is_empty() {
                    program.restore(&work.text).await?;
                }
                if full { plant_canaries(*program).await } else { Ok(()) }
            }
            Mode::Nftables(program, _) if !work.text.is_empty() => program.run(&work.text).await,
            Mode::Nftables(..) => Ok(()),
            Mode::Ipvs(hand, _) => hand.load(&work.changes).await,
        }
    }

    /// Removes what had to wait for its removal.
    pub async fn tidy(&mut self, now: Instant) -> Result<()> {
        match &mut self.mode {
            Mode::Iptables(..) => Ok(()),
            Mode::Nftables(program, rules) => match rules.delete_stale(&self.common, now) {
                Some(text) => program.run(&text).await,
                None => Ok(()),
            },
            Mode::Ipvs(hand, _) => hand.tidy(now).await,
        }
    }

    /// Nobody has flushed the rules.
    pub async fn intact(&self) -> bool {
        match &self.mode {
            Mode::Iptables(program, _) => program.intact().await,
            Mode::Nftables(program, _) => program.intact().await,
            Mode::Ipvs(hand, rules) => hand.intact(&self.common, rules).await,
        }
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

/// Empty chains that vanish when somebody flushes the tables. Upstream: pkg/util/iptables Monitor.
async fn plant_canaries(program: Iptables) -> Result<()> {
    let text: String =
        ["mangle", "nat", "filter"].iter().map(|t| format!("*{t}\n:{CANARY} - [0:0]\nCOMMIT\n")).collect();
    program.restore(&text).await
}
