//! From the objects to a configuration: levels with their seats, and flow schemas in the order they are tried.
//!
//! Pure: the same objects always give the same. Objects that contradict themselves are left out, as upstream does.
//! Upstream: `cfgMeal` of `k8s.io/apiserver/pkg/util/flowcontrol/apf_controller.go`.

use std::collections::BTreeMap;

use k8s_openapi::api::flowcontrol::v1 as api;

use crate::bootstrap;
use crate::matching::Rules;
use crate::queueset::Discipline;
use crate::shuffle::Dealer;

/// The level without limits, and its flow schema.
pub const EXEMPT: &str = "exempt";
/// The level and flow schema of last resort.
pub const CATCH_ALL: &str = "catch-all";
/// The part of a level's seats that one request may take.
const MAX_SEATS_PART: f64 = 0.15;

/// What a PriorityLevelConfiguration says.
#[derive(Debug, Clone, PartialEq)]
pub struct LevelSpec {
    /// Its name.
    pub name: String,
    /// Its uid; empty while the object does not exist.
    pub uid: String,
    /// Shares of the server's seats.
    pub shares: i32,
    /// Percentage of its seats that others may use.
    pub lendable: i32,
    /// Percentage of its seats by which it may have more; all there are when absent.
    pub borrowing: Option<i32>,
    /// What happens to requests for which there is no seat.
    pub discipline: Discipline,
}

impl LevelSpec {
    /// Reads an object.
    ///
    /// # Errors
    /// When it contradicts itself. Upstream: `queueSetCompleterForPL`.
    pub fn of(object: &api::PriorityLevelConfiguration) -> Result<Self, String> {
        let spec = &object.spec;
        let name = object.metadata.name.clone().unwrap_or_default();
        let (limited, exempt) = (spec.limited.as_ref(), spec.exempt.as_ref());
        if (spec.type_ == "Limited") != limited.is_some() {
            return Err("broken union structure at the top, for Limited".to_owned());
        }
        if (spec.type_ == "Exempt") != exempt.is_some() {
            return Err("broken union structure at the top, for Exempt".to_owned());
        }
        if exempt.is_some() != (name == EXEMPT) {
            return Err("non-alignment between name and type".to_owned());
        }
        let uid = object.metadata.uid.clone().unwrap_or_default();
        let level =
            Self { name, uid, shares: 0, lendable: 0, borrowing: None, discipline: Discipline::Exempt };
        if let Some(limited) = limited {
            return Ok(Self {
                shares: limited.nominal_concurrency_shares.unwrap_or(30),
                lendable: limited.lendable_percent.unwrap_or(0),
                borrowing: limited.borrowing_limit_percent,
                discipline: discipline(limited)?,
                ..level
            });
        }
        let exempt = exempt.ok_or("neither Limited nor Exempt")?;
        Ok(Self {
            shares: exempt.nominal_concurrency_shares.unwrap_or(0),
            lendable: exempt.lendable_percent.unwrap_or(0),
            // An exempt level has no borrowing limit; it takes what it needs.
            ..level
        })
    }

    /// Whether it has no limit.
    #[must_use]
    pub fn is_exempt(&self) -> bool {
        self.discipline == Discipline::Exempt
    }

    /// How many requests its queues have room for.
    #[must_use]
    pub fn room(&self) -> u64 {
        match self.discipline {
            Discipline::Queue { dealer, length } => u64::from(dealer.deck()) * length,
            Discipline::Exempt | Discipline::Reject => 0,
        }
    }

    /// The most seats one request may be estimated to take, in a level that queues.
    #[must_use]
    pub fn max_seats(&self, limits: &Limits) -> Option<u64> {
        let Discipline::Queue { dealer, .. } = &self.discipline else { return None };
        let part = (limits.nominal as f64 * MAX_SEATS_PART).ceil() as u64;
        Some(part.min(limits.nominal / dealer.hand().max(1)).max(1))
    }
}

fn discipline(limited: &api::LimitedPriorityLevelConfiguration) -> Result<Discipline, String> {
    let response = &limited.limit_response;
    match (response.type_.as_str(), response.queuing.as_ref()) {
        ("Reject", None) => Ok(Discipline::Reject),
        ("Reject", Some(_)) | (_, None) => Err("broken union structure for limit response".to_owned()),
        (_, Some(queuing)) => {
            let number = |n: Option<i32>, default: i64| n.filter(|n| *n != 0).map_or(default, i64::from);
            let (queues, hand) = (number(queuing.queues, 64), number(queuing.hand_size, 8));
            let dealer = Dealer::new(queues, hand).map_err(|why| {
                format!("the QueueSetConfig implies an invalid shuffle sharding config (DesiredNumQueues is deckSize): {why}")
            })?;
            let length = u64::try_from(number(queuing.queue_length_limit, 50)).unwrap_or(0);
            Ok(Discipline::Queue { dealer, length })
        }
    }
}

/// Seats of a level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// By its shares.
    pub nominal: u64,
    /// What it keeps.
    pub min: u64,
    /// What it has at most.
    pub max: u64,
}

impl Limits {
    /// What a new level starts with, before demand is known.
    #[must_use]
    pub fn initial(&self) -> u64 {
        self.nominal - (self.nominal - self.min) / 2
    }
}

/// Divides the server's seats by shares, rounding up. Upstream: `finishQueueSetReconfigsLocked`.
#[must_use]
pub fn limits(server: u64, levels: &[&LevelSpec]) -> Vec<Limits> {
    let sum: f64 = levels.iter().map(|l| f64::from(l.shares)).sum();
    let percent = |of: u64, percent: i32| (of as f64 * f64::from(percent) / 100.0).round().max(0.0) as u64;
    let one = |level: &&LevelSpec| {
        let nominal = (server as f64 * f64::from(level.shares) / sum).ceil().max(0.0) as u64;
        let borrowing = level.borrowing.map_or(server, |p| percent(nominal, p));
        let min = nominal.saturating_sub(percent(nominal, level.lendable));
        Limits { nominal, min, max: nominal.saturating_add(borrowing) }
    };
    levels.iter().map(one).collect()
}

/// What requests of one flow schema have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distinguisher {
    /// Nothing tells them apart.
    None,
    /// Their users do.
    ByUser,
    /// Their namespaces do.
    ByNamespace,
}

/// What a FlowSchema says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaSpec {
    /// Its name.
    pub name: String,
    /// Its uid; empty while the object does not exist.
    pub uid: String,
    /// The level of its requests.
    pub level: String,
    /// Lower is tried first.
    pub precedence: i32,
    /// What its flows are.
    pub distinguisher: Distinguisher,
    /// Which requests are its.
    pub rules: Rules,
}

impl SchemaSpec {
    /// Reads an object.
    #[must_use]
    pub fn of(object: &api::FlowSchema) -> Self {
        let spec = &object.spec;
        let by = spec.distinguisher_method.as_ref().map(|d| d.type_.as_str());
        Self {
            name: object.metadata.name.clone().unwrap_or_default(),
            uid: object.metadata.uid.clone().unwrap_or_default(),
            level: spec.priority_level_configuration.name.clone(),
            precedence: spec.matching_precedence.unwrap_or(1000),
            distinguisher: match by {
                Some("ByUser") => Distinguisher::ByUser,
                Some("ByNamespace") => Distinguisher::ByNamespace,
                _ => Distinguisher::None,
            },
            rules: Rules::compile(spec.rules.as_deref().unwrap_or_default()),
        }
    }
}

/// The condition of a flow schema that tells whether its level exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dangling {
    /// The flow schema.
    pub schema: String,
    /// `True` or `False`.
    pub status: &'static str,
    /// Why, in a word.
    pub reason: &'static str,
    /// Why.
    pub message: String,
}

/// A digested configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// By name.
    pub levels: BTreeMap<String, LevelSpec>,
    /// In the order they are tried. Each one's level is among the levels.
    pub schemas: Vec<SchemaSpec>,
    /// Conditions that differ from what the objects say.
    pub dangling: Vec<Dangling>,
    /// Levels that were left out, and why.
    pub broken: Vec<(String, String)>,
}

/// Digests all objects. Mandatory objects that are missing are supplied.
#[must_use]
pub fn digest<'a>(
    levels: impl IntoIterator<Item = &'a api::PriorityLevelConfiguration>,
    schemas: impl IntoIterator<Item = &'a api::FlowSchema>,
) -> Config {
    let mut config = Config::default();
    for object in levels {
        match LevelSpec::of(object) {
            Ok(level) => {
                config.levels.insert(level.name.clone(), level);
            }
            Err(why) => config.broken.push((object.metadata.name.clone().unwrap_or_default(), why)),
        }
    }
    for object in schemas {
        let schema = SchemaSpec::of(object);
        let found = config.levels.contains_key(&schema.level);
        config.dangling.extend(dangling(object, &schema, found));
        if found {
            config.schemas.push(schema);
        }
    }
    config.schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
    supply(&mut config);
    config
}

fn supply(config: &mut Config) {
    let have = |config: &Config, name: &str| config.schemas.iter().any(|s| s.name == name);
    for schema in bootstrap::mandatory_schemas().iter().map(SchemaSpec::of) {
        if have(config, &schema.name) {
            continue;
        }
        let at = if schema.name == EXEMPT { 0 } else { config.schemas.len() };
        config.schemas.insert(at, schema);
    }
    for level in bootstrap::mandatory_levels().iter().filter_map(|l| LevelSpec::of(l).ok()) {
        config.levels.entry(level.name.clone()).or_insert(level);
    }
}

/// The condition to be written, if the object has another one. Upstream: `presyncFlowSchemaStatus`.
fn dangling(object: &api::FlowSchema, schema: &SchemaSpec, found: bool) -> Option<Dangling> {
    let (status, reason, end) = match found {
        true => ("False", "Found", "and it exists"),
        false => ("True", "NotFound", "but there is no such object"),
    };
    let message = format!(
        "This FlowSchema references the PriorityLevelConfiguration object named {:?} {end}",
        schema.level
    );
    let conditions = object.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let there = conditions.iter().find(|c| c.type_ == "Dangling").is_some_and(|c| {
        c.status.as_deref() == Some(status)
            && c.reason.as_deref() == Some(reason)
            && c.message.as_deref() == Some(message.as_str())
    });
    (!there).then(|| Dangling { schema: schema.name.clone(), status, reason, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bootstrapped() -> (Vec<api::PriorityLevelConfiguration>, Vec<api::FlowSchema>) {
        (
            [bootstrap::suggested_levels(), bootstrap::mandatory_levels()].concat(),
            [bootstrap::suggested_schemas(), bootstrap::mandatory_schemas()].concat(),
        )
    }

    /// The figures a server with default flags shows: 600 seats over 245 shares.
    #[test]
    fn default_limits() {
        let (levels, schemas) = bootstrapped();
        let config = digest(&levels, &schemas);
        let specs: Vec<&LevelSpec> = config.levels.values().collect();
        let all = limits(600, &specs);
        let got: Vec<_> = specs
            .iter()
            .zip(&all)
            .map(|(s, l)| (s.name.as_str(), l.nominal, l.min, l.max, s.max_seats(l)))
            .collect();
        assert_eq!(
            got,
            [
                ("catch-all", 13, 13, 613, None),
                ("exempt", 0, 0, 600, None),
                ("global-default", 49, 24, 649, Some(8)),
                ("leader-election", 25, 25, 625, Some(4)),
                ("node-high", 98, 73, 698, Some(15)),
                ("system", 74, 50, 674, Some(12)),
                ("workload-high", 98, 49, 698, Some(15)),
                ("workload-low", 245, 24, 845, Some(37)),
            ]
        );
        let order: Vec<_> = config.schemas.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(order[..3], ["exempt", "probes", "system-leader-election"]);
        assert_eq!(order.last(), Some(&CATCH_ALL));
        assert_eq!(config.dangling.len(), schemas.len());
    }

    #[test]
    fn nothing_gives_the_mandatory_objects() {
        let config = digest([], []);
        assert_eq!(config.levels.keys().collect::<Vec<_>>(), [CATCH_ALL, EXEMPT]);
        assert_eq!(config.schemas.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), [EXEMPT, CATCH_ALL]);
    }

    #[test]
    fn a_missing_level_dangles_and_a_broken_one_is_left_out() {
        let (mut levels, mut schemas) = bootstrapped();
        levels.retain(|l| l.metadata.name.as_deref() != Some("system"));
        for level in levels.iter_mut().filter(|l| l.metadata.name.as_deref() == Some("node-high")) {
            level.spec.type_ = "Exempt".to_owned();
        }
        schemas.retain(|s| s.metadata.name.as_deref().is_some_and(|n| n.starts_with("system-node")));
        let config = digest(&levels, &schemas);
        assert_eq!(config.broken[0].0, "node-high");
        let told: Vec<_> = config.dangling.iter().map(|d| (d.schema.as_str(), d.status, d.reason)).collect();
        assert_eq!(told, [("system-nodes", "True", "NotFound"), ("system-node-high", "True", "NotFound")]);
        assert_eq!(config.schemas.len(), 2);
        assert_eq!(
            config.dangling[0].message,
            "This FlowSchema references the PriorityLevelConfiguration object named \"system\" but there is no such \
             object"
        );
    }
}
