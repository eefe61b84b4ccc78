//! `/debug/api_priority_and_fairness/dump_*`: levels, queues and requests as comma-separated tables.
//! Upstream: `k8s.io/apiserver/pkg/util/flowcontrol/apf_controller_debug.go`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use component::duration::GoDuration;
use flowcontrol::queueset::Request;

use super::controller::Controller;
use super::level::{Level, State, Waiter};
use crate::web::query::Query;

const PREFIX: &str = "/debug/api_priority_and_fairness/dump_";

/// The page of a path.
pub(crate) fn page(controller: &Controller, path: &str, query: &Query) -> Option<String> {
    let rows = match path.strip_prefix(PREFIX)? {
        "priority_levels" => levels(controller),
        "queues" => queues(controller),
        "requests" => requests(controller, query.get("includeRequestDetails").is_some_and(|v| !v.is_empty())),
        _ => return None,
    };
    Some(render(&rows))
}

type Row = Vec<String>;

fn headers(names: &[&str]) -> Row {
    names.iter().map(|n| (*n).to_owned()).collect()
}

fn levels(controller: &Controller) -> Vec<Row> {
    let mut rows = vec![headers(&[
        "PriorityLevelName",
        "ActiveQueues",
        "IsIdle",
        "IsQuiescing",
        "WaitingRequests",
        "ExecutingRequests",
        "DispatchedRequests",
        "RejectedRequests",
        "TimedoutRequests",
        "CancelledRequests",
    ])];
    let row = |level: &Arc<Level>| {
        level.look(|state| {
            let totals = state.set.totals();
            let active = state.set.queues().filter(|q| q.waiting.count > 0).count();
            let quiescing = level.quiescing.load(Ordering::Relaxed);
            vec![
                level.name.clone(),
                active.to_string(),
                state.set.is_idle().to_string(),
                quiescing.to_string(),
                totals.waiting.to_string(),
                totals.executing.to_string(),
                totals.dispatched.to_string(),
                totals.rejected.to_string(),
                "0".to_owned(),
                totals.cancelled.to_string(),
            ]
        })
    };
    rows.extend(controller.levels().iter().map(row));
    rows
}

/// Only the queues that hold something exist, and show.
fn queues(controller: &Controller) -> Vec<Row> {
    let mut rows = vec![headers(&[
        "PriorityLevelName",
        "Index",
        "PendingRequests",
        "ExecutingRequests",
        "SeatsInUse",
        "NextDispatchR",
        "InitialSeatsSum",
        "MaxSeatsSum",
        "TotalWorkSum",
    ])];
    for level in controller.levels() {
        level.look(|state| {
            rows.extend(state.set.queues().map(|queue| {
                vec![
                    level.name.clone(),
                    queue.index.to_string(),
                    queue.waiting.count.to_string(),
                    queue.executing.to_string(),
                    queue.seats_in_use.to_string(),
                    queue.next_dispatch_r.to_string(),
                    queue.waiting.initial_seats.to_string(),
                    queue.waiting.max_seats.to_string(),
                    queue.waiting.total_work.to_string(),
                ]
            }));
        });
    }
    rows
}

fn requests(controller: &Controller, details: bool) -> Vec<Row> {
    let mut names = vec![
        "PriorityLevelName",
        "FlowSchemaName",
        "QueueIndex",
        "RequestIndexInQueue",
        "FlowDistingsher",
        "ArriveTime",
        "InitialSeats",
        "FinalSeats",
        "AdditionalLatency",
        "StartTime",
    ];
    if details {
        names.extend([
            "UserName",
            "Verb",
            "APIPath",
            "Namespace",
            "Name",
            "APIVersion",
            "Resource",
            "SubResource",
        ]);
    }
    let mut rows = vec![headers(&names)];
    for level in controller.levels() {
        level.look(|state| requests_of(&level, state, controller.age(), details, &mut rows));
    }
    rows
}

fn requests_of(level: &Level, state: &State, age: Duration, details: bool, rows: &mut Vec<Row>) {
    let show = |queue: Option<u32>, at: i64, request: &Request<Waiter>, waits: bool| {
        let waiter = &request.payload;
        let started = if waits { "0001-01-01T00:00:00Z".to_owned() } else { moment(age, request.started) };
        let mut row = vec![
            level.name.clone(),
            waiter.flow.spec.name.clone(),
            queue.map_or(-1, i64::from).to_string(),
            at.to_string(),
            waiter.flow.distinguisher(&waiter.user.name, &waiter.info.namespace).to_owned(),
            moment(age, request.arrived),
            request.work.initial.to_string(),
            request.work.last.to_string(),
            GoDuration::from(request.work.linger).to_string(),
            started,
        ];
        if details {
            let info = &waiter.info;
            let version = match info.api_group.as_str() {
                "" => info.api_version.clone(),
                group => format!("{group}/{}", info.api_version),
            };
            row.extend([
                waiter.user.name.clone(),
                info.verb.clone(),
                info.path.clone(),
                info.namespace.clone(),
                info.name.clone(),
                version,
                info.resource.clone(),
                info.subresource.clone(),
            ]);
        }
        row
    };
    for queue in state.set.queues() {
        let waiting = state.set.waiting(queue.index);
        rows.extend((0..).zip(waiting).map(|(at, r)| show(Some(queue.index), at, r, true)));
    }
    rows.extend(state.set.executing().map(|r| show(r.queue, -1, r, false)));
}

/// A moment since the controller began, on the calendar.
fn moment(age: Duration, since: Duration) -> String {
    let ago = age.saturating_sub(since);
    let at = jiff::Timestamp::now().checked_sub(ago).unwrap_or_default();
    at.to_string()
}

/// Columns of equal width, as Go's `tabwriter` sets cells that end with a tab.
fn render(rows: &[Row]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        let cells = rows.iter().filter(|r| at + 1 < r.len()).filter_map(|r| r.get(at));
        // The comma, and a space of padding.
        cells.map(|c| c.chars().count() + 2).max().unwrap_or(0).max(8)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            if at + 1 == row.len() {
                text.push_str(cell);
                continue;
            }
            let width = widths.get(at).copied().unwrap_or(0);
            text.push_str(&format!("{:<width$}", format!("{cell},")));
        }
        text.push('\n');
    }
    // The response ends the last line.
    text.pop();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns() {
        let rows = [headers(&["PriorityLevelName", "A", "B"]), headers(&["x", "12345678", "3"])];
        assert_eq!(render(&rows), "PriorityLevelName, A,        B\nx,                 12345678, 3");
    }

    #[test]
    fn fresh_levels() {
        let controller = Controller::new(600);
        let page =
            page(&controller, "/debug/api_priority_and_fairness/dump_priority_levels", &Query::default());
        let page = page.unwrap();
        let rows: Vec<Vec<&str>> = page.lines().map(|l| l.split(',').map(str::trim).collect()).collect();
        assert_eq!(rows[1], ["catch-all", "0", "true", "false", "0", "0", "0", "0", "0", "0"]);
        assert_eq!(rows[2][0], "exempt");
    }
}
