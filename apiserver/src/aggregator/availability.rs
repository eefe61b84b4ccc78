//! The condition `Available` of APIServices that a service serves: the service is there, listens, has endpoints, and
//! answers. Upstream: `kube-aggregator/pkg/controllers/status/remote/remote_available_controller.go`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use auth::UserInfo;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::Request;
use jiff::Timestamp;
use machinery::Value;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Aggregator, Service, metrics, proxy};
use crate::local::{Change, Gvr, Local};
use crate::web::body;

/// All are looked at again this often, because routes may go without anybody telling.
const RESYNC: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_millis(5);
const LAST_RETRY: Duration = Duration::from_secs(30);
const ATTEMPTS: usize = 5;
const PROBE: Duration = Duration::from_secs(5);

/// A verdict: status, reason, message.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    status: &'static str,
    reason: &'static str,
    message: String,
}

fn not(reason: &'static str, message: String) -> Condition {
    Condition { status: "False", reason, message }
}

fn items<'a>(object: &'a Value, path: &[&str]) -> impl Iterator<Item = &'a Value> {
    object.list_at(path).into_iter().flat_map(|l| l.iter())
}

/// What the objects say; `None` when it takes a request to find out.
fn decide(
    (namespace, name, port): (&str, &str, u16),
    service: Option<&Value>,
    slices: &[Arc<Value>],
) -> Option<Condition> {
    let what = format!("service/{name} in {namespace:?}");
    let Some(service) = service else {
        return Some(not("ServiceNotFound", format!("{what} is not present")));
    };
    if service.str_at(&["spec", "type"]) != Some("ClusterIP") {
        return None;
    }
    let mut ports = items(service, &["spec", "ports"]);
    let Some(found) = ports.find(|p| p.i64_at(&["port"]) == Some(i64::from(port))) else {
        return Some(not("ServicePortError", format!("{what} is not listening on port {port}")));
    };
    let port_name = found.str_at(&["name"]).unwrap_or_default();
    if slices.is_empty() {
        let message = format!("cannot find endpointslices for {what}");
        return Some(not("EndpointsNotFound", message));
    }
    let is_active = |slice: &Arc<Value>| {
        items(slice, &["endpoints"]).any(|e| e.bool_at(&["conditions", "ready"]).unwrap_or(true))
            && items(slice, &["ports"]).any(|p| {
                p.str_at(&["name"]).unwrap_or_default() == port_name && p.i64_at(&["port"]).is_some()
            })
    };
    if slices.iter().any(is_active) {
        return None;
    }
    let message = format!("endpointslices for {what} have no addresses with port name {port_name:?}");
    Some(not("MissingEndpoints", message))
}

/// One try at the discovery document that the server must serve.
async fn probe(aggregator: &Aggregator, service: &Service) -> Result<(), String> {
    let remote = service.remote.as_ref().ok_or("not remote")?;
    let resolver = aggregator.services.resolver();
    let (host, port) = resolver.resolve(&remote.namespace, &remote.name, remote.port).await?;
    let path = match service.group.as_str() {
        "" => format!("/api/{}", service.version),
        group => format!("/apis/{group}/{}", service.version),
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let url = format!("https://{host}:{port}{path}");
    let failed = |why: String| format!("failing or missing response from {url}: {why}");
    let pool = remote.pool.clone().map_err(|why| failed(format!("Get {url:?}: {why}")))?;
    let mut request = Request::get(&path).body(body::empty()).map_err(|e| failed(e.to_string()))?;
    // An identity that is let in everywhere, so that the answer is about the server.
    proxy::identify(request.headers_mut(), &UserInfo::new("system:kube-aggregator", &["system:masters"]));
    match tokio::time::timeout(PROBE, pool.send(request, 16 << 20)).await {
        Ok(Ok(answer)) if (200..300).contains(&answer.status) => Ok(()),
        Ok(Ok(answer)) => Err(failed(format!("bad status from {url}: {}", answer.status))),
        Ok(Err(why)) => Err(failed(format!("Get {url:?}: {why}"))),
        Err(_) => Err(failed(format!(
            "Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        ))),
    }
}

/// Several tries at once: endpoints differ, and one answer is enough.
async fn probe_all(aggregator: &Aggregator, service: &Service) -> Result<(), String> {
    let mut tries: FuturesUnordered<_> = (0..ATTEMPTS).map(|_| probe(aggregator, service)).collect();
    let mut last = Ok(());
    while let Some(result) = tries.next().await {
        match result {
            Ok(()) => return Ok(()),
            Err(why) => last = Err(why),
        }
    }
    last
}

/// Looks at one APIService and writes its condition; an error means that it should be looked at again soon.
async fn check(local: &Local, aggregator: &Aggregator, service: &Service) -> Result<(), String> {
    let Some(remote) = &service.remote else { return Ok(()) };
    let target = (remote.namespace.as_str(), remote.name.as_str(), remote.port);
    let found = local.get(Gvr::SERVICES, target.0, target.1).await;
    let selector = format!("kubernetes.io/service-name={}", target.1);
    let slices = local.list(Gvr::SLICES, target.0, &selector).await;
    let unknown = |reason: &'static str, why: String| Condition {
        status: "Unknown",
        reason,
        message: format!("service/{} in {:?} cannot be checked due to: {why}", target.1, target.0),
    };
    let mut again = Ok(());
    let condition = match (found, slices) {
        (Err(e), _) => unknown("ServiceAccessError", e.message),
        (_, Err(e)) => unknown("EndpointsAccessError", e.message),
        (Ok(found), Ok(slices)) => match decide(target, found.as_deref(), &slices) {
            Some(condition) => condition,
            None => match probe_all(aggregator, service).await {
                Ok(()) => {
                    Condition { status: "True", reason: "Passed", message: "all checks passed".to_owned() }
                }
                Err(why) => {
                    again = Err(why.clone());
                    not("FailedDiscoveryCheck", why)
                }
            },
        },
    };
    write(local, service, &condition).await?;
    again
}

/// `SetAPIServiceCondition` and a write, if anything changed.
async fn write(local: &Local, service: &Service, condition: &Condition) -> Result<(), String> {
    let name = service.object.str_at(&["metadata", "name"]).unwrap_or_default();
    metrics::available(name, condition.status == "True");
    let bytes = machinery::json::encode_any(&service.object);
    let mut object: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
    if !set_condition(&mut object, condition, Timestamp::now()) {
        return Ok(());
    }
    tracing::info!(
        name,
        status = condition.status,
        reason = condition.reason,
        message = condition.message,
        "changing APIService availability"
    );
    local.update_status(Gvr::API_SERVICES, "", &object).await.map_err(|e| e.message)?;
    if condition.status != "True" {
        metrics::became_unavailable(name, condition.reason);
    }
    Ok(())
}

/// Tells whether the object changed.
fn set_condition(object: &mut serde_json::Value, wanted: &Condition, now: Timestamp) -> bool {
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    if !object["status"]["conditions"].is_array() {
        object["status"] = json!({"conditions": []});
    }
    let Some(all) = object["status"]["conditions"].as_array_mut() else { return false };
    let fresh = json!({"type": "Available", "status": wanted.status, "reason": wanted.reason,
        "message": wanted.message, "lastTransitionTime": now});
    let Some(present) = all.iter_mut().find(|c| c["type"] == "Available") else {
        all.push(fresh);
        return true;
    };
    let same = ["status", "reason", "message"].iter().all(|f| present[f] == fresh[f]);
    if same {
        return false;
    }
    let since =
        if present["status"] == fresh["status"] { present["lastTransitionTime"].clone() } else { now.into() };
    *present = fresh;
    present["lastTransitionTime"] = since;
    true
}

/// Tells of services and endpoint slices that remote APIServices name.
fn follow(
    local: &Local,
    aggregator: &Arc<Aggregator>,
    stop: &CancellationToken,
    touched: &Arc<watch::Sender<u64>>,
) {
    for (gvr, name_at) in [
        (Gvr::SERVICES, &["metadata", "name"][..]),
        (Gvr::SLICES, &["metadata", "labels", "kubernetes.io/service-name"][..]),
    ] {
        let (aggregator, touched) = (aggregator.clone(), touched.clone());
        let sink = move |change: Change| {
            let concerns = |o: &Value| {
                let (namespace, name) = (o.str_at(&["metadata", "namespace"]), o.str_at(name_at));
                let remotes = aggregator.services.remotes();
                let mut remotes = remotes.iter().filter_map(|s| s.remote.as_ref());
                remotes.any(|r| Some(r.namespace.as_str()) == namespace && Some(r.name.as_str()) == name)
            };
            let any = match &change {
                Change::Replace(_) => true,
                Change::Set(o) | Change::Remove(o) => concerns(o),
            };
            if any {
                touched.send_modify(|n| *n += 1);
            }
        };
        tokio::spawn(local.clone().follow(gvr, stop.child_token(), || {}, sink));
    }
}

/// Keeps the conditions until `stop`. Services are followed only while an APIService names one.
pub(super) async fn run(local: Local, aggregator: Arc<Aggregator>, stop: CancellationToken) {
    let mut changed = aggregator.changed.subscribe();
    let touched = Arc::new(watch::Sender::new(0));
    let mut touches = touched.subscribe();
    let mut following: Option<CancellationToken> = None;
    let mut retries: HashMap<String, (Instant, Duration)> = HashMap::new();
    let mut resync = Instant::now();
    loop {
        let remotes = aggregator.services.remotes();
        if remotes.is_empty() {
            if let Some(token) = following.take() {
                token.cancel();
            }
            retries.clear();
            tokio::select! { () = stop.cancelled() => return, _ = changed.changed() => {} }
            continue;
        }
        if following.is_none() {
            let token = stop.child_token();
            follow(&local, &aggregator, &token, &touched);
            following = Some(token);
        }
        let now = Instant::now();
        let name = |s: &Service| s.object.str_at(&["metadata", "name"]).unwrap_or_default().to_owned();
        let all = resync <= now;
        if all {
            resync = now + RESYNC;
        }
        let due = remotes.iter().filter(|s| all || retries.get(&name(s)).is_some_and(|(at, _)| *at <= now));
        let mut checks: FuturesUnordered<_> =
            due.map(|s| async { (name(s), check(&local, &aggregator, s).await) }).collect();
        while let Some((name, result)) = checks.next().await {
            match result {
                Ok(()) => {
                    retries.remove(&name);
                }
                Err(why) => {
                    let delay = retries.get(&name).map_or(FIRST_RETRY, |(_, d)| (*d * 2).min(LAST_RETRY));
                    tracing::debug!(name, err = why, "APIService is not available, will look again");
                    retries.insert(name, (Instant::now() + delay, delay));
                }
            }
        }
        retries.retain(|n, _| remotes.iter().any(|s| name(s) == *n));
        let next = retries.values().map(|(at, _)| *at).chain([resync]).min().unwrap_or(resync);
        tokio::select! {
            () = stop.cancelled() => return,
            _ = changed.changed() => resync = Instant::now(),
            _ = touches.changed() => resync = Instant::now(),
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(port: i64) -> Value {
        Value::from(json!({"spec": {"type": "ClusterIP", "ports": [{"name": "p", "port": port}]}}))
    }

    fn slice(ready: bool, port: &str) -> Arc<Value> {
        Arc::new(Value::from(json!({"ports": [{"name": port, "port": 8443}],
            "endpoints": [{"addresses": ["1.1.1.1"], "conditions": {"ready": ready}}]})))
    }

    #[test]
    fn conditions() {
        let check = |service: Option<Value>, slices: &[Arc<Value>], want: Option<(&str, &str)>| {
            let got = decide(("ns", "s", 443), service.as_ref(), slices);
            let got = got.as_ref().map(|c| (c.reason, c.message.as_str()));
            assert_eq!(got, want);
        };
        check(None, &[], Some(("ServiceNotFound", "service/s in \"ns\" is not present")));
        check(
            Some(service(1)),
            &[],
            Some(("ServicePortError", "service/s in \"ns\" is not listening on port 443")),
        );
        let none = "cannot find endpointslices for service/s in \"ns\"";
        check(Some(service(443)), &[], Some(("EndpointsNotFound", none)));
        let missing = "endpointslices for service/s in \"ns\" have no addresses with port name \"p\"";
        check(Some(service(443)), &[slice(false, "p")], Some(("MissingEndpoints", missing)));
        check(Some(service(443)), &[slice(true, "q")], Some(("MissingEndpoints", missing)));
        check(Some(service(443)), &[slice(true, "p")], None);
    }

    #[test]
    fn transitions() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let mut object = json!({});
        let bad = |why: &str| not("R", why.to_owned());
        assert!(set_condition(&mut object, &bad("a"), at("2030-01-01T00:00:00Z")));
        assert!(!set_condition(&mut object, &bad("a"), at("2030-01-02T00:00:00Z")));
        assert!(set_condition(&mut object, &bad("b"), at("2030-01-03T00:00:00Z")));
        assert_eq!(object["status"]["conditions"][0]["lastTransitionTime"], "2030-01-01T00:00:00Z");
        let good = Condition { status: "True", reason: "Passed", message: String::new() };
        assert!(set_condition(&mut object, &good, at("2030-01-04T00:00:00Z")));
        assert_eq!(object["status"]["conditions"][0]["lastTransitionTime"], "2030-01-04T00:00:00Z");
    }
}
