//! What upstream's manager did in recorded stories, see `e2e/oracle/eviction`. `ORACLE_STORIES` is a file with more of them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;

use super::disk::{PodLayers, containers, total};
use super::layout::{Layout, Spare};
use super::manager::grace;
use super::message::{Used, told};
use super::rank::{Candidate, rank};
use super::threshold::{Signal, Source, Threshold, parse};
use super::{History, Level, Levels, is_relieved, step};
use crate::pod::view::PodView;
use crate::volume::usage::DiskUsage;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerFigures {
    name: String,
    memory: i64,
    layer_bytes: u64,
    layer_inodes: u64,
    log_bytes: u64,
    log_inodes: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    memory: i64,
    processes: i64,
    volume_bytes: u64,
    volume_inodes: u64,
    containers: Vec<ContainerFigures>,
}

#[derive(Deserialize)]
struct Known {
    pod: Pod,
    stats: Option<Figures>,
}

#[derive(Clone, Copy, Deserialize)]
struct At {
    available: i64,
    capacity: i64,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct Answer {
    conditions: Vec<String>,
    event: String,
    removed: Vec<String>,
    evicted: String,
    grace: i64,
    message: String,
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Moment {
    second: i64,
    levels: BTreeMap<String, At>,
    containers: i64,
    images: i64,
    answer: Answer,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Story {
    layout: String,
    hard: BTreeMap<String, String>,
    soft: BTreeMap<String, String>,
    grace: BTreeMap<String, String>,
    reclaim: BTreeMap<String, String>,
    max_grace: i64,
    transition: u64,
    pods: Vec<Known>,
    steps: Vec<Moment>,
}

fn used(stats: &Figures, signal: Signal, layout: Layout) -> Used {
    let parts = |of: &dyn Fn(&ContainerFigures) -> (u64, u64)| -> PodLayers {
        let one = |c: &ContainerFigures| {
            let (bytes, inodes) = of(c);
            (c.name.clone(), DiskUsage { bytes, inodes })
        };
        stats.containers.iter().map(one).collect()
    };
    match signal {
        Signal::Memory | Signal::AllocatableMemory => Used {
            pod: Some(stats.memory),
            containers: stats.containers.iter().map(|c| (c.name.clone(), c.memory)).collect(),
        },
        Signal::Pids => Used { pod: Some(stats.processes), containers: BTreeMap::new() },
        _ => {
            let layers = parts(&|c| (c.layer_bytes, c.layer_inodes));
            let logs = parts(&|c| (c.log_bytes, c.log_inodes));
            let volumes = DiskUsage { bytes: stats.volume_bytes, inodes: stats.volume_inodes };
            let sum = total(layout.counted(signal), &layers, &logs, volumes);
            let signed = |n: u64| i64::try_from(n).unwrap();
            match signal {
                Signal::NodeInodes | Signal::ImageInodes => {
                    Used { pod: Some(signed(sum.inodes)), containers: BTreeMap::new() }
                }
                _ => Used { pod: Some(signed(sum.bytes)), containers: containers(&layers, &logs) },
            }
        }
    }
}

/// Levels after what may be removed was removed.
fn gain(levels: &Levels, spare: Spare, layout: Layout, moment: &Moment) -> Levels {
    let more = |signal: Signal| {
        let of_images = matches!(signal, Signal::ImageSpace | Signal::ImageInodes);
        let of_node = matches!(signal, Signal::NodeSpace | Signal::NodeInodes);
        let containers = match layout {
            Layout::Shared => of_images || of_node,
            Layout::Apart => of_images,
            Layout::Split => of_node,
        };
        let images = of_images || (of_node && layout == Layout::Shared);
        let one = |removed: bool, there: bool, gain: i64| if removed && there { gain } else { 0 };
        [one(spare.containers, containers, moment.containers), one(spare.images, images, moment.images)]
    };
    let moved = |(signal, level): (&Signal, &Level)| {
        let gained: i64 = more(*signal).iter().map(|percent| level.capacity * percent / 100).sum();
        (*signal, Level { available: level.available + gained, ..*level })
    };
    levels.iter().map(moved).collect()
}

fn act(answer: &mut Answer, story: &Story, threshold: &Threshold, level: &Level, layout: Layout) {
    let signal = threshold.signal;
    let used: HashMap<&str, Used> = (story.pods.iter())
        .filter_map(|known| Some((known.pod.uid(), used(known.stats.as_ref()?, signal, layout))))
        .collect();
    let mut ranked: Vec<Candidate> = (story.pods.iter().filter(|known| !known.pod.is_critical()))
        .map(|known| Candidate::new(&known.pod, used.get(known.pod.uid()).and_then(|u| u.pod), signal))
        .collect();
    rank(&mut ranked, signal);
    let Some(first) = ranked.first() else { return };
    let pod = &story.pods.iter().find(|known| known.pod.uid() == first.uid).unwrap().pod;
    let told = told(threshold, level, pod, used.get(pod.uid()));
    first.uid.clone_into(&mut answer.evicted);
    answer.grace = grace(threshold, pod, story.max_grace);
    (answer.message, answer.annotations) = (told.message, told.annotations);
}

/// What may be done at a moment: upstream takes any of several due thresholds that are not about memory, as they come out
/// of a map.
fn answers(
    story: &Story,
    thresholds: &[Threshold],
    history: &mut History,
    layout: Layout,
    moment: &Moment,
) -> Vec<Answer> {
    let named = |name: &str| Signal::ALL.iter().find(|(_, own)| *own == name).unwrap().0;
    let levels: Levels = (moment.levels.iter())
        .map(|(name, at)| (named(name), Level { available: at.available, capacity: at.capacity }))
        .collect();
    let now = Timestamp::from_second(moment.second).unwrap();
    let (pressure, due) = step(history, thresholds, &levels, Duration::from_secs(story.transition), now);
    let all =
        [("DiskPressure", pressure.disk), ("MemoryPressure", pressure.memory), ("PIDPressure", pressure.pid)];
    let conditions: Vec<String> =
        all.into_iter().filter(|(_, is)| *is).map(|(name, _)| name.to_owned()).collect();
    let one = |threshold: &Threshold| {
        let signal = threshold.signal;
        let spare = layout.spare(signal);
        let removed = [("containers", spare.containers), ("images", spare.images)];
        let mut out = Answer {
            conditions: conditions.clone(),
            event: format!("EvictionThresholdMet: Attempting to reclaim {}", signal.resource()),
            removed: removed.into_iter().filter(|(_, is)| *is).map(|(name, _)| name.to_owned()).collect(),
            ..Answer::default()
        };
        let relieved = is_relieved(thresholds, &gain(&levels, spare, layout, moment));
        if out.removed.is_empty() || !relieved {
            act(&mut out, story, threshold, &levels[&signal], layout);
        }
        out
    };
    let due: Vec<&Threshold> = due.iter().map(|index| &thresholds[*index]).collect();
    match due.first() {
        None => vec![Answer { conditions, ..Answer::default() }],
        Some(first) if first.signal == Signal::Memory => {
            due.iter().filter(|t| t.signal == Signal::Memory).map(|t| one(t)).collect()
        }
        Some(_) => due.iter().map(|t| one(t)).collect(),
    }
}

fn check(lines: &str) -> usize {
    let mut evicted = 0;
    for (number, line) in lines.lines().enumerate() {
        let story: Story = serde_json::from_str(line).unwrap();
        let layout = match story.layout.as_str() {
            "shared" => Layout::Shared,
            "apart" => Layout::Apart,
            _ => Layout::Split,
        };
        let source = Source {
            hard: Some(&story.hard),
            soft: &story.soft,
            grace: &story.grace,
            reclaim: &story.reclaim,
            merge_defaults: false,
        };
        let thresholds = parse(&source).unwrap();
        let mut history = History::default();
        for moment in &story.steps {
            let found = answers(&story, &thresholds, &mut history, layout, moment);
            let expected = &moment.answer;
            assert!(
                found.contains(expected),
                "story {number} at {}: {found:#?} instead of {expected:#?}",
                moment.second
            );
            evicted += usize::from(!expected.evicted.is_empty());
        }
    }
    evicted
}

#[test]
fn as_upstream() {
    assert!(check(include_str!("testdata/stories.jsonl")) > 50);
    if let Ok(path) = std::env::var("ORACLE_STORIES") {
        println!("{} evictions as upstream's", check(&std::fs::read_to_string(path).unwrap()));
    }
}
