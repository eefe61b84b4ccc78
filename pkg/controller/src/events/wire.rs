//! The message of an event, written without going by the type table: a scheduler writes one for every pod.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use machinery::proto::wire::{push_field, push_varint};

/// Writes what recorders fill in; everything else is left out.
pub(super) fn message(event: &Event) -> Vec<u8> {
    let mut out = Vec::with_capacity(640);
    part(&mut out, 1, |meta| {
        text(meta, 1, event.metadata.name.as_ref());
        text(meta, 3, event.metadata.namespace.as_ref());
    });
    event.event_time.iter().for_each(|time| part(&mut out, 2, |to| instant(to, time)));
    if let Some(series) = &event.series {
        part(&mut out, 3, |to| {
            number(to, 1, i64::from(series.count));
            part(to, 2, |to| instant(to, &series.last_observed_time));
        });
    }
    text(&mut out, 4, event.reporting_controller.as_ref());
    text(&mut out, 5, event.reporting_instance.as_ref());
    text(&mut out, 6, event.action.as_ref());
    text(&mut out, 7, event.reason.as_ref());
    event.regarding.iter().for_each(|object| part(&mut out, 8, |to| reference(to, object)));
    event.related.iter().for_each(|object| part(&mut out, 9, |to| reference(to, object)));
    text(&mut out, 10, event.note.as_ref());
    text(&mut out, 11, event.type_.as_ref());
    out
}

fn reference(out: &mut Vec<u8>, r: &ObjectReference) {
    let parts = [&r.kind, &r.namespace, &r.name, &r.uid, &r.api_version, &r.resource_version, &r.field_path];
    (1..).zip(parts).for_each(|(tag, value)| text(out, tag, value.as_ref()));
}

/// Upstream keeps microseconds: MicroTime.ProtoMicroTime.
fn instant(out: &mut Vec<u8>, time: &MicroTime) {
    let micros = time.0.as_microsecond();
    number(out, 1, micros.div_euclid(1_000_000));
    number(out, 2, micros.rem_euclid(1_000_000) * 1000);
}

fn text(out: &mut Vec<u8>, tag: u32, value: Option<&String>) {
    if let Some(value) = value.filter(|v| !v.is_empty()) {
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
    use jiff::Timestamp;
    use k8s_openapi::api::events::v1::EventSeries;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

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
        let time = MicroTime("2026-11-30T01:02:03.456789Z".parse::<Timestamp>().unwrap());
        let plain = Event {
            metadata: ObjectMeta { name: some("e"), namespace: some("n"), ..ObjectMeta::default() },
            event_time: Some(time.clone()),
            reporting_controller: some("c"),
            reporting_instance: some("c-h"),
            action: some("Binding"),
            reason: some("Scheduled"),
            regarding: Some(pod.clone()),
            note: some("what"),
            type_: some("Normal"),
            ..Event::default()
        };
        let series = EventSeries { count: 300, last_observed_time: time };
        let related = Event { related: Some(pod), series: Some(series), ..plain.clone() };
        for event in [plain, related, Event::default()] {
            let long = api::encode(api::MediaType::Protobuf, &event).unwrap();
            let short = machinery::proto::seal("events.k8s.io/v1", "Event", &message(&event));
            let read = |bytes: &[u8]| api::decode::<Event>(api::MediaType::Protobuf, bytes).unwrap();
            assert_eq!(read(&short), read(&long));
        }
    }
}
