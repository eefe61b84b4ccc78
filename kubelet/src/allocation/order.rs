//! Who comes first of the pods that wait for other resources. Upstream: sortPendingResizes in allocation_manager.go, v1.37.

use k8s_openapi::jiff::Timestamp;

use crate::pod::qos::QosClass;

/// What of a waiting pod the order depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// Its id.
    pub uid: String,
    /// True if it asks for more processors or memory than it was promised.
    pub asks_for_more: bool,
    /// Its priority; zero without one.
    pub priority: i32,
    /// Its service class.
    pub class: QosClass,
    /// Since when it waits for the same reason; `None` if it has not been refused yet.
    pub since: Option<Timestamp>,
}

impl Waiting {
    /// True if this one comes before `other`, which was before it until now.
    fn overtakes(&self, other: &Self) -> bool {
        let guaranteed = |waiting: &Self| waiting.class == QosClass::Guaranteed;
        if !self.asks_for_more || !other.asks_for_more {
            return !self.asks_for_more;
        }
        if self.priority != other.priority {
            return self.priority > other.priority;
        }
        if guaranteed(self) != guaranteed(other) {
            return guaranteed(self);
        }
        match (self.since, other.since) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(own), Some(others)) => own < others,
        }
    }
}

/// Puts the first to be tried in front: who gives back, then by priority, class and time. Upstream's comparison is not an
/// order (of two that give back, either comes first), so the way of sorting matters: this is Go's for a dozen or fewer.
pub fn sort(all: &mut [Waiting]) {
    for end in 1..all.len() {
        let mut at = end;
        while at > 0 {
            let overtakes = match all.get(at - 1..=at) {
                Some([before, this]) => this.overtakes(before),
                _ => false,
            };
            if !overtakes {
                break;
            }
            all.swap(at - 1, at);
            at -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_first() {
        let waiting = |uid: &str, asks_for_more, priority, class, since: Option<i64>| Waiting {
            uid: uid.to_owned(),
            asks_for_more,
            priority,
            class,
            since: since.map(|at| Timestamp::from_second(at).unwrap()),
        };
        let mut all = [
            waiting("late", true, 0, QosClass::Burstable, Some(20)),
            waiting("new", true, 0, QosClass::Burstable, None),
            waiting("early", true, 0, QosClass::Burstable, Some(10)),
            waiting("guaranteed", true, 0, QosClass::Guaranteed, Some(30)),
            waiting("first back", false, -1, QosClass::Burstable, None),
            waiting("high", true, 5, QosClass::Burstable, None),
            waiting("last back", false, -1, QosClass::Burstable, None),
        ];
        sort(&mut all);
        let names: Vec<&str> = all.iter().map(|waiting| waiting.uid.as_str()).collect();
        assert_eq!(names, ["last back", "first back", "high", "guaranteed", "early", "late", "new"]);
    }
}
