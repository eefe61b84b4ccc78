//! The message of an event, written without going by the type table: a scheduler writes one for every pod.

use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::EventSeries;
use machinery::proto::wire::{push_field, push_varint};

/// What recorders fill in of an event.
pub(super) struct Draft<'a> {
    pub name: &'a str,
    pub namespace: &'a str,
    pub time: Timestamp,
    pub controller: &'a str,
    pub instance: &'a str,
    pub action: &'a str,
    pub reason: &'a str,
    pub regarding: &'a ObjectReference,
    pub related: Option<&'a ObjectReference>,
    pub note: &'a str,
    /// `Normal` or `Warning`.
    pub kind: &'a str,
}

impl Draft<'_> {
    /// Events that differ only in their note and time are one series. Upstream: getKey.
    pub fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        [self.kind, self.action, self.reason, self.controller, self.instance].hash(&mut hasher);
        for r in [Some(self.regarding), self.related].into_iter().flatten() {
            let parts =
                [&r.api_version, &r.kind, &r.namespace, &r.name, &r.uid, &r.resource_version, &r.field_path];
            parts.hash(&mut hasher);
        }
        hasher.finish()
    }

    pub fn message(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(640);
        part(&mut out, 1, |meta| {
            text(meta, 1, self.name);
            text(meta, 3, self.namespace);
        });
        part(&mut out, 2, |to| instant(to, self.time));
        text(&mut out, 4, self.controller);
        text(&mut out, 5, self.instance);
        text(&mut out, 6, self.action);
        text(&mut out, 7, self.reason);
        part(&mut out, 8, |to| reference(to, self.regarding));
        self.related.iter().for_each(|object| part(&mut out, 9, |to| reference(to, object)));
        text(&mut out, 10, self.note);
        text(&mut out, 11, self.kind);
        out
    }
}

/// An event's message with its series, if it has one. The order of fields is free.
pub(super) fn with_series(message: &[u8], series: Option<&EventSeries>) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 32);
    out.extend_from_slice(message);
    if let Some(series) = series {
        part(&mut out, 3, |to| {
            number(to, 1, i64::from(series.count));
            part(to, 2, |to| instant(to, series.last_observed_time.0));
        });
    }
    out
}

fn reference(out: &mut Vec<u8>, r: &ObjectReference) {
    let parts = [&r.kind, &r.namespace, &r.name, &r.uid, &r.api_version, &r.resource_version, &r.field_path];
    (1..).zip(parts).for_each(|(tag, value)| text(out, tag, value.as_deref().unwrap_or_default()));
}

/// Upstream keeps microseconds: MicroTime.ProtoMicroTime.
fn instant(out: &mut Vec<u8>, time: Timestamp) {
    let micros = time.as_microsecond();
    number(out, 1, micros.div_euclid(1_000_000));
    number(out, 2, micros.rem_euclid(1_000_000) * 1000);
}

fn text(out: &mut Vec<u8>, tag: u32, value: &str) {
    if !value.is_empty() {
        push_field(out, tag, value.as_bytes());
    }
}

fn number(out: &mut Vec<u8>, tag: u32, value: i64) {
    push_varint(out, u64::from(tag) << 3);
    push_varint(out, value.cast_unsigned());
}

fn part(out: &mut Vec<u8>, tag: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::with_capacity(256);
    write(&mut inner);
    push_field(out, tag, &inner);
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::events::v1::Event;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

    use super::*;

    #[test]
    fn reads_back_as_what_serde_writes() {
        let some = |text: &str| Some(text.to_string());
        let pod = ObjectReference {
            api_version: some("v1"),
            kind: some("Pod"),
            namespace: some("n"),
            name: some("p"),
            uid: some("u"),
            resource_version: some("7"),
            field_path: some("f"),
        };
        let time: Timestamp = "2026-11-30T01:02:03.456789Z".parse().unwrap();
        let plain = Event {
            metadata: ObjectMeta { name: some("e"), namespace: some("n"), ..ObjectMeta::default() },
            event_time: Some(MicroTime(time)),
            reporting_controller: some("c"),
            reporting_instance: some("c-h"),
            action: some("Binding"),
            reason: some("Scheduled"),
            regarding: Some(pod.clone()),
            note: some("what"),
            type_: some("Normal"),
            ..Event::default()
        };
        let series = EventSeries { count: 300, last_observed_time: MicroTime(time) };
        let related = Event { related: Some(pod.clone()), series: Some(series), ..plain.clone() };
        for event in [plain, related] {
            let draft = Draft {
                name: "e",
                namespace: "n",
                time,
                controller: "c",
                instance: "c-h",
                action: "Binding",
                reason: "Scheduled",
                regarding: &pod,
                related: event.related.as_ref(),
                note: "what",
                kind: "Normal",
            };
            let long = api::encode(api::MediaType::Protobuf, &event).unwrap();
            let message = with_series(&draft.message(), event.series.as_ref());
            let short = machinery::proto::seal("events.k8s.io/v1", "Event", &message);
            let read = |bytes: &[u8]| api::decode::<Event>(api::MediaType::Protobuf, bytes).unwrap();
            assert_eq!(read(&short), read(&long));
        }
    }
}
