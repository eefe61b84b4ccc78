//! `/rulez?service=namespace/name`: the rules of one Service, and whether the kernel has them.
//!
//! What the rules are is rendered from the model as it is now; whether the kernel has them is asked of the kernel, rule
//! by rule. The page is behind the API server's authorization (verb get, non-resource path /rulez), so it needs a
//! bearer token, and a kube-proxy that may create TokenReviews and SubjectAccessReviews.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use component::serving::body::{self, Body};
use component::serving::mux::query_values;
use http::{Request, Response, StatusCode};
use serde::Serialize;
use tokio::sync::watch;

use crate::iptables::command::{Iptables, split};
use crate::ipvs::netlink::Ipvs;
use crate::ipvs::part::{Context, NodeAddresses, Part};
use crate::ipvs::server::Key;
use crate::ipvs::set::Set;
use crate::model::ServiceKey;
use crate::nftables::base::Transaction;
use crate::nftables::command::Nft;
use crate::proxier::Inbox;
use crate::settings::{Common, Settings};
use crate::status::Status;
use crate::{iptables, ipvs, nftables};

/// One family's view.
pub struct View {
    pub mode: Mode,
    pub common: Common,
    pub inbox: Arc<Inbox>,
    pub settings: watch::Receiver<Settings>,
    pub status: Arc<Status>,
}

/// How the rules are made.
pub enum Mode {
    Iptables,
    Nftables,
    Ipvs(ipvs::ruleset::Config),
}

impl Mode {
    fn name(&self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
            Self::Ipvs(_) => "ipvs",
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    service: String,
    families: Vec<Rules>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rules {
    family: &'static str,
    mode: &'static str,
    /// All of them are in the kernel.
    programmed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    rules: Vec<String>,
    /// Those that the kernel does not have.
    missing: Vec<String>,
}

/// A rule and how to ask the kernel for it.
struct Rule {
    text: String,
    check: Check,
}

enum Check {
    /// Table, and the rule with its chain in front.
    Iptables(&'static str, String),
    /// Arguments of nft that fail unless it is there.
    Element(String),
    /// A chain with so many rules.
    Chain(String, usize),
    /// A set's name and an entry of it.
    Entry(String, String),
    /// An address on our device.
    Bound(IpAddr),
    /// A virtual server and those that it leads to, and to no others.
    Server(Key, Arc<[SocketAddr]>),
}

/// Answers the page.
pub async fn answer(views: Arc<[View]>, request: Request<Body>) -> Response<Body> {
    let Some(service) = query_values(&request, "service").into_iter().next().filter(|s| s.contains('/'))
    else {
        return body::error(StatusCode::BAD_REQUEST, "name a Service: /rulez?service=namespace/name");
    };
    let key: ServiceKey = service.as_str().into();
    let mut families = Vec::new();
    for view in views.iter() {
        if let Some(rules) = view.render(&key) {
            families.push(view.compare(rules).await);
        }
    }
    if families.is_empty() {
        let message = format!(
            "no rules are made for {service}: there is no such Service here, or it has no cluster IP"
        );
        return body::error(StatusCode::NOT_FOUND, &message);
    }
    body::json(StatusCode::OK, &Page { service, families })
}

impl View {
    fn render(&self, key: &ServiceKey) -> Option<Vec<Rule>> {
        let settings = self.settings.borrow().clone();
        self.inbox.with(|table| {
            let entry = table.get(key).filter(|e| !e.ports.is_empty())?;
            Some(match &self.mode {
                Mode::Nftables => {
                    let blocks = nftables::ruleset::blocks(&self.common, &settings, table, key, entry);
                    blocks.iter().flat_map(|b| nftables_rules(&self.common, b)).collect()
                }
                Mode::Iptables => {
                    let blocks = iptables::ruleset::blocks(&settings, table, key, entry);
                    blocks.iter().flat_map(iptables_rules).collect()
                }
                Mode::Ipvs(config) => {
                    let (_, others) = ipvs::device::addresses(self.common.family).unwrap_or_default();
                    let node = NodeAddresses::new(&self.common, others.into_iter());
                    let context = Context { settings: &settings, scheduler: &config.scheduler, node: &node };
                    let endpoints = entry.endpoints(key, table.node(), table.family());
                    ipvs_rules(&self.common, &Part::new(&context, &entry.ports, &endpoints))
                }
            })
        })
    }

    async fn compare(&self, rules: Vec<Rule>) -> Rules {
        let mut missing = Vec::new();
        for rule in &rules {
            if !self.has(&rule.check).await {
                missing.push(rule.text.clone());
            }
        }
        let family = self.common.family;
        Rules {
            family: family.as_str(),
            mode: self.mode.name(),
            programmed: missing.is_empty(),
            last_error: self.status.error(family),
            rules: rules.into_iter().map(|r| r.text).collect(),
            missing,
        }
    }

    async fn has(&self, check: &Check) -> bool {
        let family = self.common.family;
        match check {
            Check::Iptables(table, rule) => {
                let words = split(rule);
                let mut arguments = vec!["-t", table, "-C"];
                arguments.extend(words.iter().map(String::as_str));
                Iptables { family }.call(&arguments).await.is_ok()
            }
            Check::Element(element) => Nft { family }.has_element(element).await,
            Check::Chain(chain, count) => Nft { family }.rules_of(chain).await == Some(*count),
            Check::Entry(set, entry) => ipvs::ipset::has(set, entry).await,
            Check::Bound(ip) => {
                ipvs::device::addresses(family).is_ok_and(|(bound, _)| bound.is_some_and(|b| b.contains(ip)))
            }
            Check::Server(key, wanted) => serves(*key, wanted.clone()).await,
        }
    }
}

fn iptables_rules(block: &iptables::render::Block) -> Vec<Rule> {
    let shared = |table: &'static str, lines: &[String]| {
        let rule = move |line: &String| {
            let rule = line.strip_prefix("-A ").unwrap_or(line).to_string();
            Rule { text: format!("{table} {line}"), check: Check::Iptables(table, rule) }
        };
        lines.iter().map(rule).collect::<Vec<_>>()
    };
    let mut rules = shared("filter", &block.filter);
    rules.extend(shared("nat", &block.nat));
    for chain in &block.chains {
        let lines: Vec<String> = chain.rules.iter().map(|rule| format!("-A {} {rule}", chain.name)).collect();
        rules.extend(shared("nat", &lines));
    }
    rules
}

fn nftables_rules(common: &Common, block: &nftables::render::Block) -> Vec<Rule> {
    let mut rules = Vec::new();
    for element in &block.elements {
        let mut tx = Transaction::new(common.family);
        nftables::ruleset::put(&mut tx, element);
        let check = Check::Element(format!("{} {{ {} }}", element.key.container.name(), element.key.text()));
        rules.push(Rule { text: tx.text.trim_end().to_string(), check });
    }
    for chain in &block.chains {
        for rule in &chain.rules {
            let check = Check::Chain(chain.name.clone(), chain.rules.len());
            let mut tx = Transaction::new(common.family);
            tx.rule(&chain.name, rule);
            rules.push(Rule { text: tx.text.trim_end().to_string(), check });
        }
    }
    rules
}

fn ipvs_rules(common: &Common, part: &Part) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (key, server) in &part.servers {
        let reals: Vec<String> = server.reals.iter().map(ToString::to_string).collect();
        let text = format!("server {key} {} -> {}", server.manner.scheduler, reals.join(" "));
        rules.push(Rule { text, check: Check::Server(*key, server.reals.clone()) });
    }
    for ip in &part.bound {
        rules.push(Rule { text: format!("address {ip}"), check: Check::Bound(*ip) });
        let check = Check::Entry(Set::IpvsIps.name(common.family), ip.to_string());
        rules.push(Rule { text: format!("add {} {ip}", Set::IpvsIps.name(common.family)), check });
    }
    for (set, entry) in &part.entries {
        let name = set.name(common.family);
        rules
            .push(Rule { text: format!("add {name} {entry}"), check: Check::Entry(name, entry.to_string()) });
    }
    rules
}

/// The kernel has the virtual server, and all that take connections there are wanted.
async fn serves(key: Key, wanted: Arc<[SocketAddr]>) -> bool {
    let look = tokio::task::spawn_blocking(move || {
        let ipvs = Ipvs::open()?;
        let there = ipvs.servers()?.contains_key(&key);
        Ok::<_, std::io::Error>((there, ipvs.reals(&key)?))
    });
    look.await.is_ok_and(|looked| {
        looked.is_ok_and(|(there, reals)| {
            let taking = reals.iter().filter(|(_, real)| real.weight != 0).map(|(address, _)| *address);
            there && taking.eq(wanted.iter().copied())
        })
    })
}
