//! Token cleaner: deletes bootstrap tokens when their time is over.
//! Upstream: pkg/controller/bootstrap/tokencleaner.go.

use std::time::Duration;

use client::{Client, DeleteParams, Meta};
use component::app::Error;
use controller::WorkQueue;
use informer::{Event, Options, Store};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use super::shared::key;
use crate::context::Context;
use crate::descriptor::Running;

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";

/// What to do with a secret.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Nothing,
    Wait(Duration),
    Delete,
}

/// A time that cannot be read is over.
fn plan(secret: &Secret, now: Timestamp) -> Plan {
    if secret.type_.as_deref() != Some(TYPE) {
        return Plan::Nothing;
    }
    let Some(text) = secret.data.as_ref().and_then(|d| d.get("expiration")).filter(|e| !e.0.is_empty())
    else {
        return Plan::Nothing;
    };
    match std::str::from_utf8(&text.0).ok().and_then(|t| t.parse::<Timestamp>().ok()) {
        Some(end) if end > now => Plan::Wait(end.duration_since(now).unsigned_abs()),
        _ => Plan::Delete,
    }
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let options = Options::default().namespace(NAMESPACE).fields("type=bootstrap.kubernetes.io/token");
    let secrets = context.factory.informer::<Secret>(options);
    let queue: WorkQueue<String> = WorkQueue::new("token_cleaner");
    let to = queue.clone();
    secrets.subscribe(move |event| {
        if !matches!(event, Event::Deleted(_)) {
            to.add(key(&**event.object()));
        }
    });
    let (client, store, token) = (context.client(), secrets.store(), context.token.clone());
    Ok(Box::pin(async move {
        if !secrets.wait_synced(&token).await {
            return;
        }
        queue
            .run(1, &token, move |secret: String| {
                let (client, store) = (client.clone(), store.clone());
                async move { sync(&client, &store, &secret).await }
            })
            .await;
    }))
}

async fn sync(
    client: &Client,
    secrets: &Store<Secret>,
    secret_key: &str,
) -> Result<Option<Duration>, String> {
    let Some(secret) = secrets.get(secret_key) else { return Ok(None) };
    match plan(&secret, Timestamp::now()) {
        Plan::Nothing => Ok(None),
        Plan::Wait(pause) => Ok(Some(pause)),
        Plan::Delete => {
            let api = client.namespaced::<Secret>(secret.namespace());
            match api.delete(secret.name(), &DeleteParams::with_uid(secret.uid())).await {
                Err(error) if !error.is_not_found() && !error.is_conflict() => {
                    Err(format!("deleting the expired bootstrap token {secret_key}: {error}"))
                }
                _ => Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use proptest::prelude::*;

    use super::*;
    use crate::scenario;

    #[test]
    fn scenarios() {
        scenario::check("tokencleaner/testdata", |given| {
            let now = "2026-01-01T00:00:00Z".parse().expect("a time");
            format!("{:?}", plan(&given.one(), now))
        });
    }

    fn secret(kind: &str, expiration: &str) -> Secret {
        Secret {
            type_: Some(kind.to_string()),
            data: Some([("expiration".to_string(), ByteString(expiration.as_bytes().to_vec()))].into()),
            ..Secret::default()
        }
    }

    fn check(kind: &str, expiration: &str, expected: &Plan) {
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        assert_eq!(&plan(&secret(kind, expiration), now), expected, "{expiration}");
    }

    #[test]
    fn tokens_go_when_their_time_is_over() {
        check(TYPE, "2025-12-31T23:59:59Z", &Plan::Delete);
        check(TYPE, "2026-01-01T00:00:00Z", &Plan::Delete);
        check(TYPE, "2026-01-01T00:01:00Z", &Plan::Wait(Duration::from_secs(60)));
        check(TYPE, "2026-01-01T01:00:00+01:00", &Plan::Delete);
        check(TYPE, "tomorrow", &Plan::Delete);
    }

    #[test]
    fn others_stay() {
        check(TYPE, "", &Plan::Nothing);
        check("Opaque", "2025-12-31T23:59:59Z", &Plan::Nothing);
        assert_eq!(plan(&Secret::default(), Timestamp::UNIX_EPOCH), Plan::Nothing);
    }

    proptest! {
        /// After the pause that was asked for the token goes.
        #[test]
        fn the_pause_is_right(end in 0i64..2_000_000_000, now in 0i64..2_000_000_000) {
            let at = |s| Timestamp::from_second(s).expect("a time");
            let secret = secret(TYPE, &at(end).to_string());
            if let Plan::Wait(pause) = plan(&secret, at(now)) {
                prop_assert_eq!(plan(&secret, at(now).checked_add(pause).expect("a time")), Plan::Delete);
            }
        }

        /// Tokens without an end, and secrets of other kinds, are left alone for ever.
        #[test]
        fn a_satisfied_view_needs_nothing(end in 0i64..2_000_000_000, now in 0i64..2_000_000_000, kind in "[a-z/]{0,9}") {
            let at = |s| Timestamp::from_second(s).expect("a time");
            prop_assert_eq!(plan(&secret(TYPE, ""), at(now)), Plan::Nothing);
            prop_assert_eq!(plan(&secret(&kind, &at(end).to_string()), at(now)), Plan::Nothing);
        }

        /// Without an end nothing is ever done, and no bytes make it panic.
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut other = secret("Opaque", "");
            other.data.get_or_insert_default().insert("expiration".to_string(), ByteString(bytes));
            prop_assert_eq!(plan(&other, Timestamp::UNIX_EPOCH), Plan::Nothing);
            other.type_ = Some(TYPE.to_string());
            let _ = plan(&other, Timestamp::UNIX_EPOCH);
        }
    }
}
