use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

type Set = QueueSet<u64>;

fn queues(deck: i64, hand: i64, length: u64) -> Discipline {
    Discipline::Queue { dealer: Dealer::new(deck, hand).unwrap(), length }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn quiet(_: &mut u64) {}

#[test]
fn exempt_has_no_limit_and_reject_no_queue() {
    let mut exempt = Set::new(ms(0), Discipline::Exempt, 0);
    for n in 0..5 {
        assert!(exempt.arrive(ms(0), Work::seats(3), 0, n, &mut quiet).unwrap().executing);
    }
    assert_eq!(exempt.totals().seats_in_use, 15);
    let mut reject = Set::new(ms(0), Discipline::Reject, 2);
    let first = reject.arrive(ms(0), Work::seats(2), 0, 0, &mut quiet).unwrap();
    assert_eq!(reject.arrive(ms(0), Work::seats(1), 0, 1, &mut quiet), Err(Refusal::ConcurrencyLimit));
    assert_eq!(reject.finish(ms(1), first.id, &mut quiet), None);
    assert!(reject.arrive(ms(1), Work::seats(1), 0, 1, &mut quiet).is_ok());
}

#[test]
fn a_full_queue_refuses_and_a_cancelled_wait_makes_room() {
    let mut set = Set::new(ms(0), queues(1, 1, 2), 1);
    let come = |set: &mut Set| set.arrive(ms(0), Work::seats(1), 0, 0, &mut quiet);
    assert!(come(&mut set).unwrap().executing);
    let second = come(&mut set).unwrap();
    assert!(!second.executing);
    assert_eq!(come(&mut set).unwrap().queue_length, Some(2));
    assert_eq!(come(&mut set), Err(Refusal::QueueFull));
    assert!(set.cancel(ms(5), second.id));
    assert!(!set.cancel(ms(5), second.id));
    assert!(come(&mut set).is_ok());
    assert_eq!(set.totals().cancelled, 1);
}

#[test]
fn seats_linger() {
    let mut set = Set::new(ms(0), queues(1, 1, 9), 2);
    let work = Work { initial: 1, last: 2, linger: ms(5) };
    let first = set.arrive(ms(0), work, 0, 0, &mut quiet).unwrap();
    let second = set.arrive(ms(0), Work::seats(1), 0, 1, &mut quiet).unwrap();
    assert!(first.executing && !second.executing);
    assert_eq!(set.finish(ms(1), first.id, &mut quiet), Some(ms(5)));
    assert_eq!((set.totals().executing, set.totals().seats_in_use), (0, 2));
    let mut woken = Vec::new();
    set.release(ms(6), first.id, &mut |p| woken.push(*p));
    assert_eq!(woken, [1]);
}

#[test]
fn the_meter_is_turned_back_in_time() {
    let mut set = Set::new(ms(0), queues(1, 1, 9), 1);
    let first = set.arrive(ms(0), Work::seats(1), 0, 0, &mut quiet).unwrap();
    set.arrive(ms(0), Work::seats(1), 0, 1, &mut quiet).unwrap();
    set.current_r = SeatSeconds(HIGH_ENOUGH);
    set.queues[0].next_dispatch_r = SeatSeconds(HIGH_ENOUGH);
    set.slots.get_mut(Id(1)).unwrap().arrival_r = SeatSeconds(HIGH_ENOUGH);
    let mut woken = 0;
    set.finish(ms(1), first.id, &mut |_| woken += 1);
    assert_eq!((woken, set.readings().1), (1, 1));
    assert!(set.current_r().0 < u64::MAX / 2);
}

const HIGH_ENOUGH: u64 = u64::MAX / 4 * 3;

/// Two flows that always have requests get the same number of seat-seconds, as far as the seats can be filled.
#[test]
fn equal_flows_get_equal_work() {
    for (width_a, width_b) in [(1, 1), (2, 2), (1, 3)] {
        let mut set = Set::new(ms(0), queues(64, 1, 1000), 6);
        let mut used: HashMap<u64, f64> = HashMap::new();
        let mut running: Vec<(Duration, Id, u64, u64)> = Vec::new();
        let mut names: HashMap<u64, Id> = HashMap::new();
        let mut serial = 0;
        let mut now = ms(0);
        while now < ms(20_000) {
            let mut started: Vec<u64> = Vec::new();
            for (flow, width) in [(0u64, width_a), (1, width_b)] {
                while set.queues().filter(|q| u64::from(q.index) == flow).all(|q| q.waiting.count < 4) {
                    serial += 1;
                    let payload = serial * 2 + flow;
                    let arrival = set
                        .arrive(now, Work::seats(width), flow, payload, &mut |p| started.push(*p))
                        .unwrap();
                    names.insert(payload, arrival.id);
                    if arrival.executing {
                        started.push(payload);
                    }
                }
            }
            running.sort_unstable();
            if let Some((until, id, flow, width)) = (!running.is_empty()).then(|| running.remove(0)) {
                now = until.max(now);
                *used.entry(flow).or_default() += width as f64 * 0.010;
                set.finish(now, id, &mut |p| started.push(*p));
            }
            for payload in started {
                let flow = payload % 2;
                let width = if flow == 0 { width_a } else { width_b };
                running.push((now + ms(10), names[&payload], flow, width));
            }
        }
        let ratio = used[&0] / used[&1];
        assert!((0.8..1.25).contains(&ratio), "{width_a}:{width_b} gave {ratio}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Arrive { flow: u64, width: u64, last: u64 },
    Cancel(usize),
    Finish(usize),
    Release(usize),
    Pass(u64),
    Configure(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u64..8, 1u64..5, 0u64..4)
            .prop_map(|(flow, width, last)| Step::Arrive { flow: flow * 0x9e37_79b9, width, last }),
        1 => any::<usize>().prop_map(Step::Cancel),
        3 => any::<usize>().prop_map(Step::Finish),
        2 => any::<usize>().prop_map(Step::Release),
        2 => (0u64..20).prop_map(Step::Pass),
        1 => (0u64..9).prop_map(Step::Configure),
    ]
}

/// Nothing is lost, invented or over the limits, whatever happens.
fn check(set: &Set, limit_was: u64) {
    let totals = set.totals();
    let executing: Vec<_> = set.executing().collect();
    assert_eq!(executing.len(), totals.executing);
    let waiting: usize = set.queues().map(|q| q.waiting.count).sum();
    assert_eq!(waiting, totals.waiting);
    let mut seats = 0;
    for view in set.queues() {
        let of_queue = set.waiting(view.index);
        assert_eq!(of_queue.map(|r| r.work.max_seats()).sum::<u64>(), view.waiting.max_seats);
        seats += view.seats_in_use;
        assert!(view.waiting.count > 0 || view.executing > 0 || view.seats_in_use > 0);
    }
    assert_eq!(seats, totals.seats_in_use);
    assert_eq!(set.queues().map(|q| q.waiting.max_seats).sum::<u64>(), totals.seats_waiting);
    // A single request may be wider than the level; otherwise the limit of its dispatch holds.
    assert!(totals.executing <= 1 || totals.seats_in_use <= limit_was.max(set.limit()).max(8));
    if totals.waiting > 0 && totals.seats_in_use == 0 {
        assert_eq!(set.limit(), 0, "seats are free and nothing runs");
    }
}

proptest! {
    #[test]
    fn no_seat_is_lost(steps in prop::collection::vec(step(), 1..200)) {
        let discipline = queues(8, 2, 3);
        let mut set = Set::new(ms(0), discipline, 4);
        let mut now = ms(0);
        let (mut names, mut live): (Vec<Id>, HashMap<u64, usize>) = (Vec::new(), HashMap::new());
        let mut most = 4;
        for (n, step) in (0u64..).zip(steps) {
            let pick = |all: &[Id], at: usize| (!all.is_empty()).then(|| all[at % all.len()]);
            let mut woken = 0usize;
            let before = set.totals();
            let mut wake = |_: &mut u64| woken += 1;
            match step {
                Step::Arrive { flow, width, last } => {
                    let work = Work { initial: width, last, linger: ms(last * 2) };
                    if let Ok(arrival) = set.arrive(now, work, flow, n, &mut wake) {
                        names.push(arrival.id);
                        live.insert(n, 1);
                        // Only its own dispatch is not announced.
                        let own = usize::from(arrival.executing);
                        prop_assert_eq!(set.totals().dispatched - before.dispatched, (woken + own) as u64);
                    }
                }
                Step::Cancel(at) => {
                    if let Some(id) = pick(&names, at) {
                        set.cancel(now, id);
                    }
                }
                Step::Finish(at) => {
                    if let Some(id) = pick(&names, at) {
                        set.finish(now, id, &mut wake);
                    }
                }
                Step::Release(at) => {
                    if let Some(id) = pick(&names, at) {
                        set.release(now, id, &mut wake);
                    }
                }
                Step::Pass(n) => now += ms(n),
                Step::Configure(limit) => {
                    most = most.max(limit);
                    set.configure(now, discipline, limit, &mut wake);
                }
            }
            names.retain(|id| set.request(*id).is_some());
            names.sort_unstable();
            names.dedup();
            check(&set, most);
            for view in set.queues() {
                prop_assert!(view.waiting.count as u64 <= OVERFULL * (3 + most));
            }
        }
        // Everything drains.
        set.configure(now, discipline, 100, &mut quiet);
        for _ in 0..400 {
            names.retain(|id| set.request(*id).is_some());
            now += ms(1);
            for id in &names {
                set.finish(now, *id, &mut quiet);
                set.release(now, *id, &mut quiet);
            }
        }
        let end = set.totals();
        prop_assert_eq!((end.waiting, end.executing, end.seats_in_use, end.seats_waiting), (0, 0, 0, 0));
        prop_assert!(set.queues().next().is_none());
    }
}
