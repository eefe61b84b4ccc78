//! Error storms: a server that refuses every write is asked less and less often, and what was to be done is done once it
//! works again. The clock is paused, so the pauses cost nothing.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Config, Options};
use controller::EventRecorder;
use informer::Factory;
use serde_json::{Value, json};
use testing::fake_api::{FakeApi, Fault};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::credentials::Clients;
use crate::descriptor::Build;
use crate::options::COMMAND;

/// Pauses double from some milliseconds on: this many fit into the minute that is looked at.
const MOST_WRITES: usize = 24;

/// A controller's context on a server in memory.
pub fn context(server: &FakeApi, token: &CancellationToken) -> Context {
    let mut config = Config::new("http://fake");
    let near = server.clone();
    config.dialer = Some(Arc::new(move || {
        let io: Box<dyn client::transport::Io> = Box::new(near.connect());
        Box::pin(async move { Ok(io) })
    }));
    let options = Options { qps: -1.0, ..Options::default() };
    let base = Client::new(config.clone(), options.clone()).expect("a client");
    Context {
        factory: Factory::new(base.clone()),
        events: EventRecorder::new(&base, "test", "", token),
        clients: Clients::new(base, config, options, false),
        flags: Arc::new(COMMAND.flag_set()),
        token: token.clone(),
        account: "test",
    }
}

/// Requests of a verb for a resource.
fn count(server: &FakeApi, verb: &str, resource: &str) -> usize {
    let (verb, resource) = (format!("{verb} "), format!("/{resource}"));
    server.seen().iter().filter(|r| r.starts_with(&verb) && r.contains(&resource)).count()
}

/// Lets a controller work for a minute while each of the first `faults` writes fails.
async fn minute(build: Build, objects: &[(&str, Value)], verb: &str, faults: usize) -> FakeApi {
    let (server, token) = (FakeApi::new(), CancellationToken::new());
    for (collection, object) in objects {
        server.put(collection, object.clone());
    }
    for _ in 0..faults {
        server.fail(verb, Fault::Status(500, "InternalError", None));
    }
    let context = context(&server, &token);
    let work = tokio::spawn(build(&context).expect("a controller"));
    context.factory.start(&token);
    tokio::time::sleep(Duration::from_secs(60)).await;
    token.cancel();
    work.await.expect("a clean end");
    server
}

async fn check(build: Build, objects: &[(&str, Value)], verb: &str, resource: &str) {
    let server = minute(build, objects, verb, 100_000).await;
    let tried = count(&server, verb, resource);
    assert!(
        (5..=MOST_WRITES).contains(&tried),
        "{tried} attempts to {verb} {resource} in a minute of errors"
    );
    let server = minute(build, objects, verb, 3).await;
    assert_eq!(server.faults_left(), 0);
    let tried = count(&server, verb, resource);
    // Events that tell of a failure may take a fault as well.
    assert!((2..=MOST_WRITES).contains(&tried), "{tried} attempts to {verb} {resource} after three errors");
}

#[tokio::test(start_paused = true)]
async fn endpoints() {
    let service = json!({"metadata": {"name": "web", "namespace": "n"},
        "spec": {"clusterIP": "10.0.0.1", "selector": {"a": "b"}, "ports": [{"port": 80}]}});
    check(super::endpoints::build, &[("/api/v1/services", service)], "create", "endpoints").await;
}

#[tokio::test(start_paused = true)]
async fn ephemeral_volumes() {
    let template = json!({"spec": {"accessModes": ["ReadWriteOnce"]}});
    let pod = json!({"metadata": {"name": "web", "namespace": "n", "uid": "u"}, "spec": {"containers": [],
        "volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": template}}]}});
    check(super::ephemeral::build, &[("/api/v1/pods", pod)], "create", "persistentvolumeclaims").await;
}

#[tokio::test(start_paused = true)]
async fn attachments() {
    let managed = json!({"volumes.kubernetes.io/controller-managed-attach-detach": "true"});
    let objects = [
        ("/api/v1/nodes", json!({"metadata": {"name": "n1", "annotations": managed}})),
        (
            "/api/v1/pods",
            json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {"nodeName": "n1", "containers": [],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}}),
        ),
        (
            "/api/v1/persistentvolumeclaims",
            json!({"metadata": {"name": "c", "namespace": "n"},
            "spec": {"volumeName": "v"}, "status": {"phase": "Bound"}}),
        ),
        (
            "/api/v1/persistentvolumes",
            json!({"metadata": {"name": "v"},
            "spec": {"csi": {"driver": "d", "volumeHandle": "h"}}}),
        ),
    ];
    check(super::attachdetach::build, &objects, "create", "volumeattachments").await;
}
